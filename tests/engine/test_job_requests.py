"""What a request stands for in this library, and what the library has when the job is done."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Conflict, NotFound
from engine.job_requests import JobRequests
from engine.library.credentials import Credentials
from engine.library.jobs.job_plan import JobPlan
from engine.library.models import ModelLibrary
from engine.library.overview import Overview
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.protocol_jobs import ConvertAfter, ConvertRequest, FetchRequest, Job, MoveRequest, VerifyRequest
from tests.convert.seeded_checkpoint import write_checkpoint

Made = Callable[..., JobRequests]


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return folder


@pytest.fixture
def library(data: DataFolder) -> ModelLibrary:
    return ModelLibrary(data)


@pytest.fixture
def requests(data: DataFolder, library: ModelLibrary) -> Made:
    def make(loaded: str = "") -> JobRequests:
        overview = Overview(data, library, Credentials({}), Settings, list[Job], lambda: [loaded])
        return JobRequests(data, library, overview)

    return make


def done(plan: JobPlan, *files: Path) -> Job:
    return Job(
        id="1",
        state="done",
        created_at=1,
        title=plan.title,
        asked=plan.asked,
        place=plan.place,
        files=[str(file) for file in files],
    )


def test_a_name_of_the_catalogue_is_filled_in_and_titled(requests: Made, data: DataFolder) -> None:
    plan = requests().plan(FetchRequest(what="flash-0731", convert=ConvertAfter(consume=True)))
    asked = plan.asked
    assert isinstance(asked, FetchRequest)
    assert (asked.what, asked.folder) == (
        "deepseek-ai/DeepSeek-V4-Flash-0731",
        str(data.models / "deepseek-ai" / "DeepSeek-V4-Flash-0731"),
    )
    assert asked.convert is not None
    assert plan.place == asked.convert.target == str(data.models / "DeepSeek-V4-Flash-0731.gguf")
    assert plan.title.startswith("DeepSeek-V4-Flash")
    assert plan.wanted == FetchRequest(what="flash-0731", convert=ConvertAfter(consume=True))


def test_a_move_takes_all_that_belongs_to_a_model(
    requests: Made, data: DataFolder, library: ModelLibrary, starter_path: Path, tmp_path: Path
) -> None:
    gguf = shutil.copy(starter_path, data.models / "m.gguf")
    receipt = data.models / "m.gguf.receipt.json"
    receipt.write_text("{}")
    asked = MoveRequest(item_id="folder:m.gguf", folder=str(tmp_path / "disk"))
    plan = requests().plan(asked)
    assert plan.takes == (str(gguf), str(receipt))
    with pytest.raises(Conflict, match="is in use"):
        requests("folder:m.gguf").plan(asked)
    with pytest.raises(Conflict, match="belongs to Seamount itself"):
        requests().plan(MoveRequest(item_id="starter", folder=str(tmp_path)))
    with pytest.raises(NotFound):
        requests().plan(MoveRequest(item_id=f"checkpoint:{Path.home()}", folder=str(tmp_path)))
    (tmp_path / "disk").mkdir()
    shutil.move(gguf, tmp_path / "disk" / "m.gguf")
    before, now = requests().settle(done(plan), plan) or ("", "")
    assert (before, library.entry(now).path) == ("folder:m.gguf", str(tmp_path / "disk" / "m.gguf"))
    # And on to a third place: the list has it once.
    (tmp_path / "third").mkdir()
    plan = requests().plan(MoveRequest(item_id=now, folder=str(tmp_path / "third")))
    shutil.move(tmp_path / "disk" / "m.gguf", tmp_path / "third" / "m.gguf")
    for _ in range(2):
        requests().settle(done(plan), plan)
    assert library.added.read().models == (str(tmp_path / "third" / "m.gguf"),)


def test_what_was_made_elsewhere_is_in_the_library(
    requests: Made, library: ModelLibrary, starter_path: Path, tmp_path: Path
) -> None:
    checkpoint = write_checkpoint(tmp_path / "far" / "DeepSeek-V4-Flash-0731", release="0731")
    plan = requests().plan(FetchRequest(what="a/b", folder=str(checkpoint)))
    for _ in range(2):
        assert requests().settle(done(plan, checkpoint), plan) is None
    assert library.added.read().checkpoints == (str(checkpoint),)
    gguf = Path(shutil.copy(starter_path, tmp_path / "far" / "m.gguf"))
    plan = requests().plan(ConvertRequest(source=str(checkpoint), target=str(gguf)))
    requests().settle(done(plan, gguf, tmp_path / "far" / "m-draft.gguf"), plan)
    assert library.added.read().models == (str(gguf),)
    plan = requests().plan(VerifyRequest(path=str(tmp_path / "nothing.gguf")))
    assert requests().settle(done(plan, tmp_path / "nothing.gguf"), plan) is None
    failed = done(plan).model_copy(update={"state": "failed"})
    assert requests().settle(failed, plan) is None
