"""Which turn writes which answer."""

from typing import Any

from app.running_turns import RunningTurns
from engine.protocol import EngineStatus


def status(pid: int = 1, **more: Any) -> EngineStatus:
    return EngineStatus(version="1", pid=pid, started_at=0.0, data_folder="/d", **more)


def test_turns_of_this_window_and_of_others_are_known() -> None:
    turns = RunningTurns()
    turns.begun("a1", "t1")
    assert turns.take(status(active_turn_id="t2", active_answer_id="a2"))
    assert [turns.turn_of(answer_id) for answer_id in ("a1", "a2", "a3")] == [None, "t2", None]
    turns.begun("a1", "t1")
    assert not turns.take(status(active_turn_id="t2", active_answer_id="a2"))
    assert turns.turn_of("a1") == "t1"
    turns.ended("a1")
    assert turns.turn_of("a1") is None


def test_another_engine_knows_no_turn_of_the_one_before() -> None:
    turns = RunningTurns()
    turns.take(status())
    turns.begun("a1", "t1")
    turns.engine_left(for_good=True)
    assert (turns.is_settled, turns.is_over) == (False, True)
    assert turns.turn_of("a1") == "t1"  # it may be the connection alone that is gone
    turns.take(status(pid=2, loading_model_id="m"))
    assert (turns.turn_of("a1"), turns.is_settled) == (None, False)
    assert not turns.is_over
    turns.take(status(pid=2))
    assert turns.is_settled
