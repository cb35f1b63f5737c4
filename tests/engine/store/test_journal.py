"""What one turn writes, as it is read back."""

from pathlib import Path

from engine.protocol import ErrorBody, Message, Sampling, Thought, ToolCall, Usage
from engine.store.journal import TurnJournal, ids_digest
from engine.store.journal_file import JournalFile, read_journal
from engine.store.journal_records import Piece
from engine.store.journal_turns import Base, Begun, Ended, Prompt, Relay, Snapshot, Turn, turns_of

USAGE = Usage(
    prompt_tokens=1,
    reused_tokens=0,
    generated_tokens=2,
    context_tokens=9,
    first_token_s=0.1,
    prefill_rate=1.0,
    generation_rate=2.0,
    seed=3,
)


class Sink:
    """A journal of its own, and what it calls."""

    def __init__(self, path: Path, **message: object) -> None:
        self.synced: list[bool] = []
        self.closed: list[tuple[bool, bool]] = []
        self.file = JournalFile(path, None)
        answer = {"id": "a", "parent_id": None, "role": "assistant", "status": "running", "created_at": 0}
        begun = Begun(answer_id="a", model_id="m", sampling=Sampling(seed=3), already=2)
        self.journal = TurnJournal(
            self.file,
            Message.model_validate({**answer, "text": "", **message}),
            begun,
            None,
            self.synced.append,
            lambda first, settled: self.closed.append((first, settled)),
        )

    def turn(self) -> Turn:
        self.file.close()
        [turn] = turns_of(read_journal(self.file.path, None).records).values()
        return turn


def test_pieces_follow_on_what_the_answer_has(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "s" / "journal", text="So far", reasoning="Hm.", unfinished_call="f {")
    sink.journal.tokens([7], " and", "text")
    sink.journal.tokens([], "f {", "call")
    sink.journal.tokens([8, 9], "\ud800\0!", "text")
    sink.journal.tokens([], "?", "reasoning")
    assert sink.turn().pieces == [
        Piece(2, 6, "text", (7,), " and"),
        # An answer that goes on tells its calls from the beginning.
        Piece(3, 0, "call", (), "f {"),
        Piece(3, 10, "text", (8, 9), "��!"),
        Piece(5, 3, "reasoning", (), "?"),
    ]
    # What begins a turn is in the store, and that is to be as durable.
    assert sink.synced == [True, False, False, False, False]


def test_all_else_is_read_as_it_was_written(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "s" / "journal")
    journal, error = sink.journal, ErrorBody(code="generation", text="It failed.")
    calls = [ToolCall(id="c", name="f", arguments='{"a": "\ud800"}')]
    journal.profile("v4-release")
    journal.prompt(3, ids_digest([1, 2, 3]), "state", "exact")
    journal.base("digest", 64, 1, 99)
    journal.thought(Thought(tokens=4, elapsed_s=0.25))
    journal.notice("Ended \0early.")
    journal.calls(calls)
    journal.snapshot(128, "other")
    journal.relay(256)
    journal.ended("failed", "error", USAGE, error)
    turn = sink.turn()
    assert turn.prompt == Prompt(tokens=3, digest=ids_digest([1, 2, 3]), state_key="state", exact_key="exact")
    assert turn.base == Base(digest="digest", tokens=64, schedule=1, read=99)
    assert (turn.events[0].kind, turn.events[0].body) == ("profile", "v4-release")
    assert turn.thought == Thought(tokens=4, elapsed_s=0.25)
    assert turn.notices == ["Ended �early."]
    assert [call.arguments for call in turn.calls] == ['{"a": "�"}']
    assert turn.snapshots == [Snapshot(position=128, digest="other")]
    assert turn.relays == [Relay(position=256)]
    assert turn.ended == Ended(status="failed", reason="error", tokens=2, usage=USAGE, error=error)


def test_it_is_closed_once_and_settled_when_the_store_can(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "s" / "journal")
    sink.journal.close(settled=False)
    sink.journal.close(settled=True)
    assert sink.closed == [(True, False), (False, True)]


def test_tokens_have_one_digest_and_others_another() -> None:
    assert ids_digest([1, 2]) == ids_digest((1, 2))
    assert len({ids_digest(ids) for ids in ([], [1], [1, 2], [2, 1], [258])}) == 5
    assert len(ids_digest([])) == 64
