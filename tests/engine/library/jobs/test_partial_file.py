"""What is deleted of a conversion that was given up, and what never is."""

from pathlib import Path

import pytest
from filelock import FileLock

from convert.conversion_progress import ConversionProgress, progress_path
from engine.errors import Conflict
from engine.library.jobs.partial_file import refuse_if_needed, remove


def left_by_a_conversion(folder: Path, consumed: list[str]) -> Path:
    target = folder / "m.gguf"
    ConversionProgress(progress_path(target), {}, {}, consumed=consumed).save()
    for name in ("m.gguf.part", "m-draft.gguf.part", "other.gguf.part", "m.gguf"):
        (folder / name).write_bytes(b"x")
    return target


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_what_belongs_to_it_goes(tmp_path: Path) -> None:
    remove(left_by_a_conversion(tmp_path, []))
    assert names(tmp_path) == {"other.gguf.part", "m.gguf"}
    remove(tmp_path / "nowhere" / "m.gguf")


def test_what_is_nowhere_else_stays(tmp_path: Path) -> None:
    target = left_by_a_conversion(tmp_path, ["a", "b"])
    with pytest.raises(Conflict, match="2 shards of the checkpoint were deleted"):
        remove(target)
    assert {"m.gguf.part", "m-draft.gguf.part", progress_path(target).name} <= names(tmp_path)
    progress_path(target).write_text("{", "utf-8")
    with pytest.raises(Conflict, match="cannot be read"):
        refuse_if_needed(target)


def test_what_can_be_fetched_again_goes(tmp_path: Path) -> None:
    target = left_by_a_conversion(tmp_path, ["a", "b"])
    remove(target, even_if_consumed=True)
    assert names(tmp_path) == {"other.gguf.part", "m.gguf"}


def test_what_another_conversion_writes_stays(tmp_path: Path) -> None:
    target = left_by_a_conversion(tmp_path, [])
    with FileLock(tmp_path / "m.gguf.part.lock"), pytest.raises(Conflict, match="another conversion"):
        remove(target)
    assert "m.gguf.part" in names(tmp_path)
