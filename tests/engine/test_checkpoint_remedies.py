"""Every kind of trouble with a checkpoint has something to do about it."""

from typing import get_args

from convert.checkpoint_error import CheckpointError, Problem
from engine.checkpoint_remedies import REMEDIES, told


def test_every_problem_has_a_remedy() -> None:
    assert REMEDIES.keys() == set(get_args(Problem))
    assert all(remedy and not remedy.endswith(".") for remedy in REMEDIES.values())


def test_it_is_one_sentence() -> None:
    error = told(CheckpointError("incomplete", "“x” cannot be used", "a shard is missing"))
    assert (
        error.text
        == "“x” cannot be used: a shard is missing; download the missing files into the same folder."
    )
    assert error.code == "model_file"
