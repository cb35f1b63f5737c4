"""What a job or the loaded model uses is told by real paths."""

import sys
from pathlib import Path
from typing import Any

import pytest

from engine.library.in_use import InUse
from engine.protocol_jobs import (
    ConvertAfter,
    ConvertRequest,
    FetchRequest,
    Job,
    JobState,
    MoveRequest,
    VerifyRequest,
)


def job(asked: Any, state: JobState = "running") -> Job:
    return Job(id="1", state=state, created_at=0, title="T", asked=asked, place="")


def test_models() -> None:
    in_use = InUse(["a"], [])
    assert in_use.by_model("a")
    assert not in_use.by_model("b")
    assert not in_use.by_job("a", [])


def test_each_kind_of_job(tmp_path: Path) -> None:
    source, target = tmp_path / "ckpt", tmp_path / "models" / "m.gguf"
    for asked, used in (
        (ConvertRequest(source=str(source), target=str(target)), [source, source / "x", target]),
        (FetchRequest(what="a/b", folder=str(source)), [source, source / "config.json"]),
        (
            FetchRequest(what="a/b", folder=str(source), convert=ConvertAfter(target=str(target))),
            [source, target, target.with_name("m-draft.gguf")],
        ),
        (VerifyRequest(path=str(target)), [target]),
    ):
        in_use = InUse([], [job(asked)])
        assert all(in_use.by_job("x", [path]) for path in used)
        assert not in_use.by_job("x", [tmp_path / "models" / "other.gguf"])
        assert not in_use.by_job("x", [tmp_path / "ckpt2"])
        assert in_use.by_job("x", [tmp_path / "models" / "other.gguf", used[0]])
    moving = InUse([], [job(MoveRequest(item_id="folder:m.gguf", folder=str(tmp_path)))])
    assert moving.by_job("folder:m.gguf", [])
    # Others in the folder that it goes to are free.
    assert not moving.by_job("folder:n.gguf", [tmp_path / "n.gguf"])


@pytest.mark.parametrize(
    ("state", "used"),
    [
        ("queued", True),
        ("running", True),
        ("paused", True),
        ("interrupted", True),
        ("done", False),
        ("failed", False),
        ("cancelled", False),
    ],
)
def test_states(tmp_path: Path, state: JobState, used: bool) -> None:
    in_use = InUse([], [job(VerifyRequest(path=str(tmp_path / "m.gguf")), state)])
    assert in_use.by_job("x", [tmp_path / "m.gguf"]) == used


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights here")
def test_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    in_use = InUse([], [job(VerifyRequest(path=str(tmp_path / "link" / "m.gguf")))])
    assert in_use.by_job("x", [tmp_path / "real" / "m.gguf"])
