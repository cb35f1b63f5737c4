"""What is noted down of a job, and which two get into each other's way."""

import sys
from pathlib import Path

import pytest

from engine.errors import BadRequest
from engine.library.jobs.job_plan import JobPlan, claims_of, move_plan, plan_of
from engine.protocol_jobs import ConvertAfter, ConvertRequest, FetchRequest, MoveRequest, VerifyRequest


def converting(source: Path, target: Path, *, consume: bool = False) -> JobPlan:
    return plan_of(ConvertRequest(source=str(source), target=str(target), consume=consume))


def fetching(folder: Path, target: Path | None = None) -> JobPlan:
    after = ConvertAfter(target=str(target)) if target else None
    return plan_of(FetchRequest(what="owner/Name", revision="main", folder=str(folder), convert=after))


def verifying(path: Path) -> JobPlan:
    return plan_of(VerifyRequest(path=str(path)))


def moving(path: Path, folder: Path) -> JobPlan:
    return move_plan(MoveRequest(item_id="x", folder=str(folder)), "X", [path])


def test_place_and_title(tmp_path: Path) -> None:
    plan = fetching(tmp_path / "a", tmp_path / "b" / ".." / "n.gguf")
    assert (plan.title, plan.place) == ("Name", str(tmp_path / "n.gguf"))
    assert (fetching(tmp_path / "a").place) == str(tmp_path / "a")
    request = FetchRequest(what="owner/Name", folder=str(tmp_path))
    assert plan_of(request, "A title").title == "A title"
    assert plan_of(request.model_copy(update={"release": "Flash"})).title == "Flash"
    assert verifying(tmp_path / "m.gguf").title == "m"
    moved = moving(tmp_path / "m.gguf", tmp_path / "to")
    assert (moved.title, moved.place) == ("X", str(tmp_path / "to" / "m.gguf"))
    convert = ConvertRequest(source=str(tmp_path), target=str(tmp_path / "m.gguf"), release="  ")
    assert plan_of(convert).title == "m"


def test_paths_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    whole = str(tmp_path)
    for source, target in (("relative", "/m.gguf"), (whole, "m.gguf"), (whole, "/m.txt"), (whole, "/.gguf")):
        with pytest.raises(BadRequest, match="conversion could not be begun"):
            plan_of(ConvertRequest(source=source, target=target))
    with pytest.raises(BadRequest, match="download could not be begun: the folder is not a whole path"):
        plan_of(FetchRequest(what="a/b", folder="here"))
    with pytest.raises(BadRequest, match="the file to write is not a whole path"):
        plan_of(FetchRequest(what="a/b", folder=whole, convert=ConvertAfter()))
    with pytest.raises(BadRequest, match="there is no such home folder"):
        plan_of(VerifyRequest(path="~nobody-of-this-name/m.gguf"))


def test_jobs_that_may_not_go_on_together(tmp_path: Path) -> None:
    checkpoint, other = tmp_path / "checkpoint", tmp_path / "other"
    m, n = tmp_path / "m.gguf", tmp_path / "n.gguf"
    clashing = [
        (converting(checkpoint, m), converting(other, m)),
        (converting(checkpoint, m), converting(other, tmp_path / "m-draft.gguf")),
        (converting(checkpoint, m, consume=True), converting(checkpoint, n)),
        (fetching(checkpoint), converting(checkpoint, m)),
        (fetching(checkpoint), fetching(checkpoint / "inner")),
        (fetching(checkpoint, m), converting(other, m)),
        (fetching(checkpoint), verifying(checkpoint)),
        (converting(checkpoint, m), verifying(m)),
        (moving(m, other), verifying(m)),
        (moving(m, other), converting(checkpoint, other / "m.gguf")),
        (moving(checkpoint, other), converting(checkpoint, m)),
    ]
    for one, another in clashing:
        assert claims_of(one).clash_with(claims_of(another)), (one, another)
        assert claims_of(another).clash_with(claims_of(one)), (one, another)
    peaceful = [
        (converting(checkpoint, m), converting(checkpoint, n)),
        (converting(checkpoint, m), verifying(n)),
        (verifying(m), verifying(m)),
        (fetching(checkpoint), fetching(tmp_path / "checkpoint-2")),
        (converting(checkpoint, m), verifying(checkpoint)),
    ]
    for one, another in peaceful:
        assert not claims_of(one).clash_with(claims_of(another)), (one, another)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one, another = fetching(tmp_path / "link" / "a"), fetching(tmp_path / "real" / "a")
    assert claims_of(one).clash_with(claims_of(another))
