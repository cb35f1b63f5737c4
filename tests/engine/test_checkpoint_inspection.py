"""A checkpoint as the window is told of it."""

from pathlib import Path

import pytest

from engine.checkpoint_inspection import inspect
from engine.errors import BadRequest, ModelFileError
from engine.protocol_jobs import InspectRequest
from tests.convert.conversions import checkpoint


def test_a_checkpoint_in_order(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "0731")
    target = tmp_path / "not" / "there" / "m.gguf"
    found = inspect(InspectRequest(path=str(source), target=str(target)))
    assert found.name == source.name
    assert found.release
    assert found.release_problem is None
    assert found.problems == []
    assert found.drafter == "dspark"
    assert {each.dense for each in found.results} == {"q8_0", "bf16"}
    assert found.free_bytes > 0
    assert found.parameters
    assert found.shards == len(list(source.glob("*.safetensors")))


def test_an_unknown_release_is_told_apart_from_what_is_missing(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "0731").rename(tmp_path / "mine")
    found = inspect(InspectRequest(path=str(source)))
    assert found.release is None
    assert found.release_problem
    assert found.problems == []
    sorted(source.glob("*.safetensors"))[2].unlink()
    found = inspect(InspectRequest(path=str(source)))
    assert found.problems
    assert all(problem.endswith(".") for problem in found.problems)


def test_what_is_no_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError):
        inspect(InspectRequest(path=str(tmp_path)))
    with pytest.raises(BadRequest, match="not a whole path"):
        inspect(InspectRequest(path="here"))
