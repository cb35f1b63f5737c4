"""What of a context can be kept."""

from typing import Any

import pytest

from engine.contexts.costs import Cost
from engine.errors import Conflict, NoModel
from engine.protocol import Reuse
from engine.reuse import Question, reuse


@pytest.mark.parametrize(("kept", "tokens"), [(3, [1, 2, 3, 4]), (0, [1, 2]), (2, [1, 2]), (0, [])])
def test_it_costs_what_the_keeper_says(kept: int, tokens: list[int]) -> None:
    class Holding:
        def cost(self, asked: list[int], *, more: bool) -> Cost:
            assert asked is tokens
            assert more
            return Cost(len(asked), kept, kept // 2, 1.5)

    keeper: Any = Holding()
    assert reuse(keeper, tokens) == Reuse(
        total=len(tokens), kept=kept, reread=len(tokens) - kept, seconds=1.5, from_disk=kept // 2
    )


def test_a_question_gives_its_answer_its_error_or_a_conflict() -> None:
    keeper: Any = object()
    answered = Question("m", lambda _keeper: Reuse(total=3, kept=1, reread=2))
    answered.run(keeper)
    assert answered.wait(1).kept == 1

    def fail(_keeper: Any) -> Reuse:
        raise NoModel("a", "b", "c")

    failed = Question("m", fail)
    failed.run(keeper)
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
