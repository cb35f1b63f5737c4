"""What goes when a job is given up, and what is not its own to delete."""

from pathlib import Path

import pytest

from convert.conversion_progress import ConversionProgress, progress_path
from engine.errors import Conflict
from engine.library.jobs.job_plan import JobPlan, move_plan, plan_of
from engine.library.jobs.job_remains import refuse_if_needed, remove
from engine.library.jobs.move import staging_of
from engine.protocol_jobs import (
    ConvertAfter,
    ConvertRequest,
    FetchRequest,
    JobProgress,
    MoveRequest,
    VerifyRequest,
)

FETCHED = JobProgress(done_bytes=5, total_bytes=9, bytes_per_s=0, fetched_bytes=5)
CONVERTED = JobProgress(done_bytes=6, total_bytes=9, bytes_per_s=0, fetched_bytes=5)


def consumed_by_a_conversion(target: Path) -> None:
    ConversionProgress(progress_path(target), {}, {}, consumed=["model-1.safetensors"]).save()
    target.with_name("m.gguf.part").write_bytes(b"x")


def converting(tmp_path: Path) -> JobPlan:
    asked = ConvertRequest(source=str(tmp_path / "s"), target=str(tmp_path / "m.gguf"), consume=True)
    return plan_of(asked)


def test_a_conversion_that_has_used_up_its_checkpoint_is_kept(tmp_path: Path) -> None:
    consumed_by_a_conversion(tmp_path / "m.gguf")
    with pytest.raises(Conflict, match="what was in them is only there"):
        refuse_if_needed(converting(tmp_path), CONVERTED)
    with pytest.raises(Conflict):
        remove(converting(tmp_path), CONVERTED)
    assert (tmp_path / "m.gguf.part").exists()


def test_a_download_that_has_used_up_its_shards_can_fetch_them_again(tmp_path: Path) -> None:
    consumed_by_a_conversion(tmp_path / "m.gguf")
    after = ConvertAfter(target=str(tmp_path / "m.gguf"), consume=True)
    plan = plan_of(FetchRequest(what="a/b", folder=str(tmp_path / "c"), convert=after))
    # It found the file there: what was consumed for it may have been another's.
    for progress in (None, FETCHED):
        with pytest.raises(Conflict, match="what was in them is only there"):
            refuse_if_needed(plan, progress)
        with pytest.raises(Conflict):
            remove(plan, progress)
    refuse_if_needed(plan, CONVERTED)
    remove(plan, CONVERTED)
    assert list(tmp_path.iterdir()) == []


def test_a_move_leaves_no_copies_and_a_check_nothing_to_delete(tmp_path: Path) -> None:
    model, to = tmp_path / "m.gguf", tmp_path / "to"
    model.write_bytes(b"x")
    staging = staging_of([model], to)
    staging.mkdir(parents=True)
    (staging / "m.gguf.moving-part").write_bytes(b"x")
    remove(move_plan(MoveRequest(item_id="m", folder=str(to)), "M", [model]), CONVERTED)
    assert list(to.iterdir()) == []
    remove(plan_of(VerifyRequest(path=str(model))), CONVERTED)
    assert model.exists()
