"""What records make of a turn, and which of them are still needed."""

import logging
from typing import Any

import pytest

from engine.protocol import Sampling, Thought, ToolCall
from engine.store.journal_records import Kind, Piece, Record
from engine.store.journal_turns import (
    UNFINISHED_KEPT,
    Base,
    Begun,
    Ended,
    Event,
    Prompt,
    Relay,
    Snapshot,
    Turn,
    last_turn,
    needed,
    packed,
    turns_of,
)


class Journal:
    """Records, made one after the other."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, kind: Kind, shape: object, turn: int | None = None) -> int:
        sequence = len(self.records) + 1
        payload = shape.packed() if isinstance(shape, Piece) else packed(shape)  # pyright: ignore[reportArgumentType]
        self.records.append(Record(kind, sequence, turn or sequence, payload))
        return sequence

    def begin(self, answer_id: str = "a", **more: object) -> int:
        begun = {"answer_id": answer_id, "model_id": "m", "sampling": Sampling(seed=7), **more}
        return self.add(Kind.BEGUN, Begun.model_validate(begun))

    def end(self, turn: int, status: str = "complete", reason: str = "stop", tokens: int = 0) -> None:
        ended = {"status": status, "reason": reason, "tokens": tokens}
        self.add(Kind.ENDED, Ended.model_validate(ended), turn)


def prompt(digest: str) -> Prompt:
    return Prompt(tokens=100, digest=digest, state_key="s", exact_key="e")


def test_a_turn_is_what_its_records_say() -> None:
    journal = Journal()
    turn = journal.begin(already=2, most_tokens=50)
    other = journal.begin("b")
    journal.add(Kind.PROMPT, prompt("p"), turn)
    journal.add(Kind.BASE, Base(digest="d", tokens=64, schedule=1), turn)
    journal.add(Kind.TOKENS, Piece(2, 5, "text", (8, 9), "two"), turn)
    journal.add(Kind.TOKENS, Piece(0, 0, "text", (1,), "x"), other)
    call = ToolCall(id="c", name="f", arguments="{}")
    journal.add(Kind.EVENT, Event(kind="calls", body=[call.model_dump()]), turn)
    journal.add(Kind.EVENT, Event(kind="notice", body="Ended early."), turn)
    journal.add(Kind.EVENT, Event(kind="thought", body={"tokens": 3, "elapsed_s": 0.5}), turn)
    journal.add(Kind.SNAPSHOT, Snapshot(position=128, digest="x"), turn)
    journal.add(Kind.RELAY, Relay(position=256), turn)
    found = turns_of(journal.records)[turn]
    assert (found.begun.already, found.begun.most_tokens, found.begun.sampling.seed) == (2, 50, 7)
    assert found.prompt == prompt("p") and found.base == Base(digest="d", tokens=64, schedule=1)
    assert [piece.text for piece in found.pieces] == ["two"]
    assert found.tokens == 4
    assert found.calls == [call]
    assert found.notices == ["Ended early."]
    assert found.thought == Thought(tokens=3, elapsed_s=0.5)
    assert found.ended is None and found.was_cut_off and found.may_go_on
    assert found.resumes == 0


@pytest.mark.parametrize(
    ("status", "reason", "cut_off", "may_go_on"),
    [
        ("complete", "stop", False, False),
        ("complete", "tool_calls", False, False),
        ("complete", "length", False, True),
        ("complete", "cancelled", False, True),
        ("failed", "error", False, True),
        ("interrupted", "interrupted", True, True),
    ],
)
def test_only_what_an_engines_end_cut_off_was_cut_off(
    status: str, reason: str, cut_off: bool, may_go_on: bool
) -> None:
    journal = Journal()
    journal.end(journal.begin(), status, reason)
    turn = turns_of(journal.records)[1]
    assert (turn.was_cut_off, turn.may_go_on) == (cut_off, may_go_on)


def test_resumes_in_vain_are_counted_until_something_comes_of_one() -> None:
    journal = Journal()
    turn = journal.begin(resumes=2)
    assert turns_of(journal.records)[turn].resumes == 2
    journal.add(Kind.TOKENS, Piece(0, 0, "text", (), "no token"), turn)
    assert turns_of(journal.records)[turn].resumes == 2
    journal.add(Kind.SNAPSHOT, Snapshot(position=8192, digest="x"), turn)
    assert turns_of(journal.records)[turn].resumes == 0


def test_text_of_another_machine_is_something_and_calls_told_anew_are_not() -> None:
    journal = Journal()
    turn = journal.begin(resumes=2, model_id="remote:1")
    journal.add(Kind.TOKENS, Piece(0, 0, "call", (), "f {}"), turn)
    assert turns_of(journal.records)[turn].resumes == 2
    journal.add(Kind.TOKENS, Piece(0, 0, "text", (), "more"), turn)
    assert turns_of(journal.records)[turn].resumes == 0


class Chain(Journal):
    """The turns of one answer, each with what it rests on."""

    def went(
        self,
        digest: str = "p",
        *,
        key: str = "e",
        already: int = 0,
        wrote: int = 0,
        base: str | None = "base",
        read: int = 100,
    ) -> None:
        turn = self.begin(already=already)
        self.add(Kind.PROMPT, Prompt(tokens=100, digest=digest, state_key="s", exact_key=key), turn)
        if base is not None:
            self.add(Kind.BASE, Base(digest=base, tokens=1, schedule=1, read=read), turn)
        self.add(Kind.SNAPSHOT, Snapshot(position=turn, digest=f"state {turn}"), turn)
        self.add(Kind.RELAY, Relay(position=1000 + turn), turn)
        if wrote:
            self.add(Kind.TOKENS, Piece(already, already, "text", tuple(range(wrote)), "x" * wrote), turn)
            self.end(turn, "interrupted", "interrupted", already + wrote)

    @property
    def last(self) -> Turn:
        # What a journal is made shorter to says the same.
        last, shorter = (
            last_turn(list(turns_of(each).values()), "a") for each in (self.records, needed(self.records))
        )
        assert last is not None and shorter is not None
        assert (last.base, last.prompt, last.snapshots) == (shorter.base, shorter.prompt, shorter.snapshots)
        return last


def test_a_turn_that_goes_on_knows_the_states_of_those_before_it_that_went_the_same_way() -> None:
    chain = Chain()
    chain.went(wrote=3)
    chain.went(already=3, wrote=2)
    chain.went(already=5)
    assert chain.last.begun.already == 5
    assert chain.last.base is not None and chain.last.base.digest == "base"
    assert [each.digest for each in chain.last.snapshots] == ["state 1", "state 8", "state 15"]
    assert [each.position for each in chain.last.relays] == [1001, 1008, 1015]
    assert last_turn([], "a") is None


@pytest.mark.parametrize(
    "otherwise",
    [
        {"digest": "other"},
        {"key": "other threads"},
        {"base": None},
        {"base": "other"},
        {"read": 103},
    ],
    ids=str,
)
def test_what_a_turn_left_that_went_another_way_is_no_part_of_it(otherwise: dict[str, Any]) -> None:
    chain = Chain()
    chain.went(wrote=3)
    chain.went(already=3, **otherwise)  # and the engine ended before a token came
    assert chain.last.base is not None and (chain.last.base.digest, chain.last.base.read) == ("base", 100)
    assert chain.last.prompt is not None and (chain.last.prompt.digest, chain.last.prompt.exact_key) == (
        "p",
        "e",
    )
    assert [each.digest for each in chain.last.snapshots] == ["state 1"]
    chain.went(already=3, wrote=4, **otherwise)
    # From here on nothing is as it would have come, also for who goes the first way again.
    assert chain.last.base is None
    chain.went(already=7, wrote=1)
    assert chain.last.base is None


def test_what_was_read_of_a_prompt_that_is_read_once_more_counts() -> None:
    chain = Chain()
    chain.went()
    chain.went()
    chain.went(wrote=2)
    assert [each.digest for each in chain.last.snapshots] == ["state 1", "state 6", "state 11"]


def test_an_answer_without_a_token_begins_anew() -> None:
    chain = Chain()
    chain.went("other", key="other threads", base="other")
    chain.went(wrote=3)
    assert chain.last.base is not None and chain.last.base.digest == "base"
    assert chain.last.prompt is not None and chain.last.prompt.digest == "p"


def test_an_answer_whose_beginning_is_not_on_the_disk_has_no_base_of_a_later_turn() -> None:
    chain = Chain()
    chain.went(wrote=3, base=None)
    chain.went(already=3, base="later", read=103)
    assert chain.last.base is None


def test_of_an_answer_with_its_own_end_nothing_is_needed() -> None:
    journal = Journal()
    journal.end(journal.begin())
    assert needed(journal.records, frozenset()) == []
    # Unless the store has not got it.
    assert needed(journal.records, frozenset({"a"})) == journal.records


def test_of_an_answer_that_can_go_on_its_text_is_not_needed_and_its_states_are() -> None:
    journal = Journal()
    turn = journal.begin(resumes=1)
    journal.add(Kind.PROMPT, prompt("p"), turn)
    journal.add(Kind.TOKENS, Piece(0, 0, "text", (5,), "five"), turn)
    journal.add(Kind.EVENT, Event(kind="notice", body="secret"), turn)
    journal.add(Kind.SNAPSHOT, Snapshot(position=101, digest="x"), turn)
    journal.end(turn, "interrupted", "interrupted", 1)
    kept = needed(journal.records, frozenset())
    assert [record.kind for record in kept] == [Kind.BEGUN, Kind.PROMPT, Kind.SNAPSHOT, Kind.ENDED]
    [found] = turns_of(kept).values()
    # That it got further is not forgotten with the tokens that said so.
    assert (found.resumes, found.tokens) == (0, 1)


def test_an_answer_that_ended_at_last_takes_its_earlier_turns_with_it() -> None:
    journal = Journal()
    journal.end(journal.begin(), "interrupted", "interrupted")
    journal.end(journal.begin(already=3))
    assert needed(journal.records, frozenset()) == []


def test_a_journal_does_not_grow_with_answers_that_nobody_goes_on_with() -> None:
    journal = Journal()
    for number in range(UNFINISHED_KEPT + 5):
        journal.end(journal.begin(f"a{number}"), "complete", "length")
    kept = turns_of(needed(journal.records, frozenset()))
    assert [turn.begun.answer_id for turn in kept.values()] == [
        f"a{n}" for n in range(5, UNFINISHED_KEPT + 5)
    ]


def test_what_cannot_be_read_is_left_out_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal()
    turn = journal.begin()
    secret = b'{"status": "secret words"}'
    journal.records.append(Record(Kind.ENDED, 2, turn, secret))
    journal.records.append(Record(Kind.TOKENS, 3, turn, b"secret"))
    journal.add(Kind.EVENT, Event(kind="calls", body="no list"), turn)
    with caplog.at_level(logging.ERROR):
        [found] = turns_of(journal.records).values()
    assert found.ended is None and found.pieces == [] and found.calls == []
    assert len(caplog.records) == 2 and "secret" not in caplog.text
