"""How full the context is."""

from typing import Any

from app.context_use import ContextUse, context_use
from app.turn_stream import TurnProgress
from engine.protocol import ErrorBody, Message, Usage


def message(role: Any, **more: Any) -> Message:
    return Message(id="m", parent_id=None, role=role, text="", status="complete", created_at=0, **more)


USAGE = Usage(prompt_tokens=50, reused_tokens=0, generated_tokens=7, context_tokens=100, first_token_s=1,
              prefill_rate=1, generation_rate=1, seed=1)  # fmt: skip


def test_nothing_is_known_at_the_beginning() -> None:
    assert context_use(None, []) == ContextUse()


def test_a_turn_that_has_not_begun_leaves_what_was_there() -> None:
    branch = [message("user"), message("assistant", usage=USAGE), message("user"), message("assistant")]
    assert context_use(TurnProgress(), branch) == ContextUse(57)
    reading = TurnProgress(phase="prefill", done=60, total=80)
    assert context_use(reading, branch) == ContextUse(60)


def test_a_prompt_that_did_not_fit_is_no_empty_context() -> None:
    too_long = ErrorBody(code="prompt_too_long", text="…")
    branch = [message("assistant", usage=USAGE), message("user"), message("assistant", error=too_long)]
    assert context_use(None, branch) == ContextUse(57, overflowed=True)
    assert context_use(TurnProgress(phase="writing", done=20, total=20), branch) == ContextUse(20)
    other = ErrorBody(code="generation", text="…")
    assert not context_use(None, [message("assistant", error=other)]).overflowed
