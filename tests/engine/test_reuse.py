"""What of a context can be kept."""

from typing import Any

import pytest

from engine.errors import Conflict, NoModel
from engine.protocol import Reuse
from engine.reuse import Question, reuse


@pytest.mark.parametrize(
    ("old", "new", "can_rewind", "kept"),
    [
        ([1, 2, 3], [1, 2, 3, 4], True, 3),
        ([1, 2, 3], [1, 2, 3, 4], False, 3),
        ([1, 2, 3], [1, 2, 9, 4], True, 2),
        ([1, 2, 3], [1, 2, 9, 4], False, 0),
        ([1, 2, 3], [1, 2], True, 2),
        ([1, 2, 3], [1, 2], False, 0),
        ([], [1, 2], False, 0),
        ([9], [1, 2], True, 0),
        ([1], [], False, 0),
    ],
)
def test_a_context_that_cannot_be_cut_keeps_all_or_nothing(
    old: list[int], new: list[int], can_rewind: bool, kept: int
) -> None:
    assert reuse(old, new, can_rewind=can_rewind) == Reuse(total=len(new), kept=kept, reread=len(new) - kept)


def test_a_question_gives_its_answer_its_error_or_a_conflict() -> None:
    backend: Any = object()
    answered = Question("m", lambda _backend: Reuse(total=3, kept=1, reread=2))
    answered.run(backend)
    assert answered.wait(1).kept == 1

    def fail(_backend: Any) -> Reuse:
        raise NoModel("a", "b", "c")

    failed = Question("m", fail)
    failed.run(backend)
    with pytest.raises(NoModel):
        failed.wait(1)
    busy = Question("m", fail)
    with pytest.raises(Conflict, match="busy"):
        busy.wait(0.01)
    assert busy.cancelled.is_set()
    refused = Question("m", fail)
    refused.refuse(NoModel("x", "y", "z"))
    with pytest.raises(NoModel, match="x"):
        refused.wait(1)
