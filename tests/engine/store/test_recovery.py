"""After a power cut: the store is as it was some time ago, and the journal has the rest."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.protocol import ErrorBody, Message, Sampling, Thought, ToolCall, Usage
from engine.store.journal import TurnJournal
from engine.store.journals import Journals
from engine.store.resealing import reseal
from engine.store.rows import AnswerPart
from engine.store.sealing import Ciphers, MasterKey
from engine.store.sessions import SessionStore

USAGE = Usage(
    prompt_tokens=10,
    reused_tokens=0,
    generated_tokens=4,
    context_tokens=99,
    first_token_s=0.1,
    prefill_rate=1.0,
    generation_rate=2.0,
    seed=7,
)
CALL = ToolCall(id="call_1", name="weather", arguments='{"city": "Lima"}')


class Disk:
    """A data folder whose store can fall back to an earlier moment, as one that was not synced does."""

    def __init__(self, root: Path, ciphers: Ciphers | None = None) -> None:
        self.root = root
        self.ciphers = ciphers
        self.store: SessionStore
        self.journals: Journals
        self.open()
        self.session_id = self.store.create_session().id
        self.store.make_durable()

    def open(self) -> None:
        self.store = SessionStore.open(
            self.root / "now" / "sessions.db", self.ciphers.rows if self.ciphers else None
        )
        cipher = self.ciphers.journals if self.ciphers else None
        self.journals = Journals(self.root / "journals", lambda: 0, cipher)

    def remember(self) -> None:
        """What of the store the disk has now."""
        shutil.rmtree(self.root / "synced", ignore_errors=True)
        shutil.copytree(self.root / "now", self.root / "synced")

    def lose_power(self) -> None:
        """Start again with the store that was remembered and the journal of now."""
        self.store.close()
        shutil.rmtree(self.root / "now")
        shutil.copytree(self.root / "synced", self.root / "now")
        self.open()

    def begin(self) -> tuple[Message, TurnJournal]:
        _, answer = self.store.begin_turn(
            self.session_id, parent_id=None, question="Why?", model_id="m", sampling=Sampling(seed=7)
        )
        journal = self.journals.turn(self.session_id, answer, model_id="m", sampling=Sampling(seed=7))
        return answer, journal

    def go_on(self, answer_id: str) -> TurnJournal:
        answer, already, sampling = self.store.reopen_answer(self.session_id, answer_id)
        return self.journals.turn(
            self.session_id, answer, model_id="m", sampling=sampling, already=len(already)
        )

    def write(
        self, answer: Message, journal: TurnJournal, *pieces: tuple[list[int], str, AnswerPart]
    ) -> None:
        for ids, text, part in pieces:
            journal.tokens(ids, text, part)
            self.store.append(answer.id, text, ids, part)

    def message(self, answer: Message) -> Message:
        return self.store.message(self.session_id, answer.id)


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Disk]:
    (tmp_path / "now").mkdir()
    ciphers = None
    if request.param:
        key = MasterKey.new()
        ciphers = Ciphers.of(key)
        SessionStore.open(tmp_path / "now" / "sessions.db").close()
        reseal(tmp_path / "now" / "sessions.db", None, ciphers.rows, key.id)
    made = Disk(tmp_path, ciphers)
    yield made
    made.store.close()


PIECES: list[tuple[list[int], str, AnswerPart]] = [
    ([1, 2], "I think", "reasoning"),
    ([], " so.", "reasoning"),
    ([3], "", "text"),
    ([4], "Because", "text"),
    ([5, 6], " it ís.", "text"),
    ([], " ", "text"),
]


@pytest.mark.parametrize("synced", range(len(PIECES) + 1))
def test_every_piece_that_the_store_lost_is_put_back_in_its_place(disk: Disk, synced: int) -> None:
    answer, journal = disk.begin()
    disk.remember()
    for number, piece in enumerate(PIECES, 1):
        disk.write(answer, journal, piece)
        if number == synced:
            disk.remember()
    disk.lose_power()
    [unfinished] = disk.journals.recover(disk.store)
    message = disk.message(answer)
    assert (message.reasoning, message.text) == ("I think so.", "Because it ís. ")
    assert disk.store.token_ids(answer.id) == [1, 2, 3, 4, 5, 6]
    assert (message.status, message.finish_reason) == ("interrupted", "interrupted")
    assert (unfinished.answer_id, unfinished.model_id, unfinished.resumes) == (answer.id, "m", 0)
    assert [each.id for each in disk.store.list_sessions("because it")] == [disk.session_id]
    # Once is enough.
    disk.journals.recover(disk.store)
    assert disk.message(answer) == message


def test_an_end_that_the_store_lost_is_put_back(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.write(answer, journal, ([1], "Think.", "reasoning"))
    disk.remember()
    thought = Thought(tokens=1, elapsed_s=0.5)
    journal.thought(thought)
    journal.notice("The reasoning was ended.")
    disk.write(answer, journal, ([2], "weather {", "call"), ([], '"city"', "call"), ([3], "", "text"))
    journal.calls([CALL])
    journal.ended("complete", "tool_calls", USAGE, None)
    disk.lose_power()
    assert disk.journals.recover(disk.store) == []
    message = disk.message(answer)
    assert (message.status, message.finish_reason, message.usage) == ("complete", "tool_calls", USAGE)
    assert (message.tool_calls, message.unfinished_call) == ([CALL], "")
    assert (message.thought, message.notices) == (thought, ["The reasoning was ended."])
    assert disk.store.token_ids(answer.id) == [1, 2, 3]
    assert disk.store.recall([CALL.id]) == {CALL.id: ("Think.", [1, 2, 3])}


def test_a_call_that_was_being_written_is_put_back(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.write(answer, journal, ([1], "weather {", "call"))
    disk.remember()
    disk.write(answer, journal, ([2], '"ci', "call"))
    disk.lose_power()
    disk.journals.recover(disk.store)
    assert disk.message(answer).unfinished_call == 'weather {"ci'
    assert disk.store.token_ids(answer.id) == [1, 2]


def test_an_error_is_an_end_too(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.remember()
    disk.write(answer, journal, ([1], "Half", "text"))
    error = ErrorBody(code="generation", text="The model failed.")
    journal.ended("failed", "error", None, error)
    disk.lose_power()
    assert disk.journals.recover(disk.store) == []
    message = disk.message(answer)
    assert (message.text, message.status, message.error) == ("Half", "failed", error)


def test_an_answer_that_was_gone_on_with_is_whole_even_if_the_store_forgot_that(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.write(answer, journal, ([1], "One", "text"), ([2], "f {", "call"))
    journal.ended("complete", "length", None, None)
    disk.store.end_turn(answer.id, status="complete", finish_reason="length")
    journal.close(settled=False)
    disk.remember()
    journal = disk.go_on(answer.id)
    # Its calls are told anew.
    disk.write(answer, journal, ([], "f {", "call"), ([3], '"a"', "call"), ([4], " two", "text"))
    disk.lose_power()
    [unfinished] = disk.journals.recover(disk.store)
    message = disk.message(answer)
    assert (message.text, message.unfinished_call) == ("One two", 'f {"a"')
    assert (message.status, disk.store.token_ids(answer.id)) == ("interrupted", [1, 2, 3, 4])
    assert unfinished.answer_id == answer.id


def test_what_the_store_could_not_take_is_not_mixed_with_what_came_later(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.write(answer, journal, ([1], "One", "text"))
    journal.tokens([2], " lost", "text")  # and the store's disk was full
    journal.ended("failed", "error", None, None)
    disk.store.end_turn(answer.id, status="failed", finish_reason="error")
    journal.close(settled=True)
    journal = disk.go_on(answer.id)
    disk.write(answer, journal, ([9], " other", "text"))
    disk.remember()
    disk.write(answer, journal, ([10], " end", "text"))
    disk.lose_power()
    disk.journals.recover(disk.store)
    assert disk.message(answer).text == "One other end"
    assert disk.store.token_ids(answer.id) == [1, 9, 10]


FAR_PIECES: list[tuple[list[int], str, AnswerPart]] = [
    ([], "I think", "reasoning"),
    ([], " so.", "reasoning"),
    ([], "Because", "text"),
    ([], " it ís.", "text"),
]


@pytest.mark.parametrize("synced", range(len(FAR_PIECES) + 1))
def test_text_without_tokens_is_put_back_too(disk: Disk, synced: int) -> None:
    """As another machine gives it."""
    answer, journal = disk.begin()
    disk.remember()
    for number, piece in enumerate(FAR_PIECES, 1):
        disk.write(answer, journal, piece)
        if number == synced:
            disk.remember()
    disk.lose_power()
    disk.journals.recover(disk.store)
    message = disk.message(answer)
    assert (message.reasoning, message.text) == ("I think so.", "Because it ís.")
    assert (message.status, disk.store.token_ids(answer.id)) == ("interrupted", [])
    disk.journals.recover(disk.store)
    assert disk.message(answer) == message


def test_text_without_tokens_that_was_lost_is_not_mixed_with_what_came_later(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.write(answer, journal, ([], "One", "text"))
    journal.tokens([], " lost", "text")  # and the store's disk was full
    journal.ended("failed", "error", None, None)
    disk.store.end_turn(answer.id, status="failed", finish_reason="error")
    journal.close(settled=True)
    disk.remember()
    journal = disk.go_on(answer.id)
    disk.write(answer, journal, ([], " other", "text"), ([], " end", "text"))
    disk.lose_power()
    disk.journals.recover(disk.store)
    assert disk.message(answer).text == "One other end"


def test_a_journal_that_contradicts_the_store_changes_nothing(disk: Disk) -> None:
    answer, journal = disk.begin()
    journal.tokens([1], "One", "text")
    journal.tokens([2], " two", "text")
    disk.store.append(answer.id, "Uno", [77])
    disk.remember()
    disk.lose_power()
    disk.journals.recover(disk.store)
    message = disk.message(answer)
    assert (message.text, message.status) == ("Uno", "interrupted")


def test_a_journal_with_a_gap_gives_what_stands_before_it(disk: Disk) -> None:
    answer, journal = disk.begin()
    disk.remember()
    disk.write(answer, journal, ([1], "One", "text"), ([2], " two", "text"))
    disk.remember()
    known = disk.journals.last(disk.session_id, answer.id)
    assert known is not None
    disk.lose_power()
    del known.pieces[0]
    other = disk.store.begin_turn(
        disk.session_id, parent_id=None, question="Else?", model_id="m", sampling=Sampling(seed=1)
    )[1]
    disk.store.end_turn(other.id, status="interrupted", finish_reason="interrupted")
    restored = disk.store.restore(disk.session_id, other.id, [known])
    assert restored is not None and restored.pieces == 0
    assert disk.store.message(disk.session_id, other.id).text == ""


def test_an_answer_that_is_not_there_is_left_out(disk: Disk) -> None:
    disk.remember()
    answer, _ = disk.begin()
    known = disk.journals.last(disk.session_id, answer.id)
    disk.lose_power()
    assert known is not None
    assert disk.store.restore(disk.session_id, answer.id, [known]) is None
    assert disk.journals.recover(disk.store) == []
    assert not list((disk.root / "journals").iterdir())
