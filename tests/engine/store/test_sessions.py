"""The rules of the message tree, by what the store gives back, also after it was opened again."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import BadRequest, Conflict, DataFolderError, NotFound
from engine.protocol import ErrorBody, Message, Sampling, Usage
from engine.store.sessions import SessionStore

SAMPLING = Sampling(temperature=0.3, seed=11)
USAGE = Usage(
    prompt_tokens=10,
    reused_tokens=4,
    generated_tokens=2,
    context_tokens=12,
    first_token_s=0.25,
    prefill_rate=100.5,
    generation_rate=20.0,
    seed=11,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path):
    opened = SessionStore.open(path)
    yield opened
    opened.close()


def ask(store: SessionStore, session_id: str, question: str | None, parent_id: str | None = None):
    return store.begin_turn(
        session_id, parent_id=parent_id, question=question, model_id="starter", sampling=SAMPLING
    )


def answered(store: SessionStore, session_id: str, question: str, text: str, parent_id: str | None = None):
    asked, answer = ask(store, session_id, question, parent_id)
    store.append(answer.id, text, [1, 2])
    ended = store.end_turn(answer.id, status="complete", finish_reason="stop", usage=USAGE, error=None)
    assert asked is not None
    return asked, ended


def reopened(store: SessionStore, path: Path) -> SessionStore:
    store.close()
    return SessionStore.open(path)


def test_a_new_session_is_empty_and_listed(store: SessionStore) -> None:
    before = time.time()
    summary = store.create_session()
    assert summary.title == "" and summary.message_count == 0 and summary.deleted_at is None
    assert before - 1 <= summary.created_at <= time.time() + 1
    assert store.list_sessions() == [summary]
    session = store.session(summary.id)
    assert session.messages == [] and session.leaf_id is None and session.summary == summary


def test_a_turn_is_on_disk_before_the_model_is_asked(store: SessionStore, path: Path) -> None:
    session = store.create_session()
    asked, answer = ask(store, session.id, "Why is the sea salty?")
    assert asked is not None
    assert (asked.role, asked.text, asked.status, asked.parent_id) == (
        "user",
        "Why is the sea salty?",
        "complete",
        None,
    )
    assert (answer.role, answer.text, answer.status, answer.parent_id, answer.model_id) == (
        "assistant",
        "",
        "running",
        asked.id,
        "starter",
    )
    stored = store.session(session.id)
    assert stored.messages == [asked, answer]
    assert stored.leaf_id == answer.id
    assert stored.summary.title == "Why is the sea salty?" and stored.summary.message_count == 2


def test_the_text_of_a_running_answer_is_read_as_it_grows(store: SessionStore) -> None:
    session = store.create_session()
    _, answer = ask(store, session.id, "q")
    store.append(answer.id, "Ri", [5])
    store.append(answer.id, "vers", [6, 7])
    store.append(answer.id, "", [2**32 - 1])
    assert store.message(session.id, answer.id).text == "Rivers"
    assert store.session(session.id).messages[-1].text == "Rivers"
    assert store.branch(session.id, answer.id)[-1].text == "Rivers"
    assert store.token_ids(answer.id) == [5, 6, 7, 2**32 - 1]
    ended = store.end_turn(answer.id, status="complete", finish_reason="stop", usage=USAGE, error=None)
    assert (ended.text, ended.status, ended.finish_reason, ended.usage) == (
        "Rivers",
        "complete",
        "stop",
        USAGE,
    )
    assert store.token_ids(answer.id) == [5, 6, 7, 2**32 - 1]


def test_a_failed_answer_keeps_its_text_and_its_error(store: SessionStore, path: Path) -> None:
    session = store.create_session()
    _, answer = ask(store, session.id, "q")
    store.append(answer.id, "half", [5])
    why = ErrorBody(code="generation", text="It broke: the backend failed; try again.")
    store.end_turn(answer.id, status="failed", finish_reason="error", usage=None, error=why)
    store = reopened(store, path)
    message = store.message(session.id, answer.id)
    store.close()
    assert (message.text, message.status, message.error, message.usage) == ("half", "failed", why, None)


def test_an_edit_and_a_retry_are_siblings_and_nothing_is_overwritten(store: SessionStore) -> None:
    session = store.create_session()
    first_question, first_answer = answered(store, session.id, "one", "eins")
    _, second_answer = answered(store, session.id, "two", "zwei", first_answer.id)
    edited, edited_answer = ask(store, session.id, "two, edited", first_answer.id)
    none, retried = ask(store, session.id, None, first_question.id)
    assert none is None and edited is not None
    tree = store.session(session.id)
    assert [message.text for message in tree.messages] == [
        "one",
        "eins",
        "two",
        "zwei",
        "two, edited",
        "",
        "",
    ]
    assert tree.leaf_id == retried.id
    assert retried.parent_id == first_answer.parent_id == first_question.id
    assert retried.created_at > first_answer.created_at
    assert [message.text for message in store.branch(session.id, second_answer.id)] == [
        "one",
        "eins",
        "two",
        "zwei",
    ]
    assert [m.id for m in store.branch(session.id, edited_answer.id)] == [
        first_question.id,
        first_answer.id,
        edited.id,
        edited_answer.id,
    ]
    known: set[str] = set()
    for message in tree.messages:
        assert message.parent_id is None or message.parent_id in known
        known.add(message.id)


def test_siblings_keep_their_order_when_the_clock_is_set_back(
    store: SessionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = store.create_session()
    question, answer = answered(store, session.id, "q", "first")
    monkeypatch.setattr(time, "time", lambda: answer.created_at - 3600)
    _, retried = ask(store, session.id, None, question.id)
    assert retried.created_at > answer.created_at


def test_another_branch_can_be_shown(store: SessionStore, path: Path) -> None:
    session = store.create_session()
    question, first = answered(store, session.id, "q", "first")
    ask(store, session.id, None, question.id)
    before = store.session(session.id).summary
    after = store.change_session(session.id, leaf_id=first.id)
    assert after == before, "looking at a branch is not a use that reorders the list"
    store = reopened(store, path)
    assert store.session(session.id).leaf_id == first.id
    store.close()


def test_a_leaf_of_another_session_is_refused(store: SessionStore) -> None:
    one, two = store.create_session(), store.create_session()
    _, answer = answered(store, one.id, "q", "a")
    with pytest.raises(NotFound):
        store.change_session(two.id, leaf_id=answer.id, title="no")
    assert store.session(two.id).summary.title == ""
    for read in (store.message, store.branch):
        with pytest.raises(NotFound):
            read(two.id, answer.id)
    with pytest.raises(NotFound):
        ask(store, two.id, "q", answer.id)


def test_what_cannot_be_begun(store: SessionStore) -> None:
    session = store.create_session()
    with pytest.raises(BadRequest):
        ask(store, session.id, None, None)
    _, running = ask(store, session.id, "q")
    with pytest.raises(Conflict):
        ask(store, session.id, "too early", running.id)
    store.end_turn(running.id, status="complete", finish_reason="stop")
    with pytest.raises(BadRequest):
        ask(store, session.id, None, running.id)
    with pytest.raises(NotFound):
        ask(store, "no such session", "q")
    with pytest.raises(NotFound):
        ask(store, session.id, "q", "no such message")
    assert len(store.session(session.id).messages) == 2


def test_an_answer_that_has_ended_takes_no_more(store: SessionStore) -> None:
    session = store.create_session()
    _, answer = answered(store, session.id, "q", "a")
    with pytest.raises(Conflict):
        store.append(answer.id, "more", [1])
    with pytest.raises(Conflict):
        store.end_turn(answer.id, status="complete", finish_reason="stop")
    with pytest.raises(NotFound):
        store.append("no such answer", "more", [1])
    with pytest.raises(NotFound):
        store.end_turn("no such answer", status="complete", finish_reason="stop")
    with pytest.raises(ValueError, match="running"):
        store.end_turn(answer.id, status="running", finish_reason="stop")
    assert store.message(session.id, answer.id).text == "a"


@pytest.mark.parametrize(
    ("status", "reason"), [("interrupted", "interrupted"), ("failed", "error"), ("complete", "length")]
)
def test_an_unfinished_answer_goes_on(store: SessionStore, path: Path, status: str, reason: str) -> None:
    session = store.create_session()
    _, answer = ask(store, session.id, "q")
    store.append(answer.id, "one ", [1])
    why = ErrorBody(code="x", text="y")
    store.end_turn(answer.id, status=status, finish_reason=reason, usage=USAGE, error=why)
    again, ids, sampling = store.reopen_answer(session.id, answer.id)
    assert (again.status, again.text, again.finish_reason, again.error) == ("running", "one ", None, None)
    assert (ids, sampling) == ([1], SAMPLING)
    store.append(answer.id, "two", [2])
    store.end_turn(answer.id, status="complete", finish_reason="stop", usage=USAGE, error=None)
    store = reopened(store, path)
    message = store.message(session.id, answer.id)
    assert (message.text, message.status, store.token_ids(answer.id)) == ("one two", "complete", [1, 2])
    store.close()


def test_what_cannot_go_on(store: SessionStore) -> None:
    session = store.create_session()
    question, answer = answered(store, session.id, "q", "a")
    with pytest.raises(Conflict, match="own end"):
        store.reopen_answer(session.id, answer.id)
    with pytest.raises(BadRequest):
        store.reopen_answer(session.id, question.id)
    _, cut = ask(store, session.id, "next", answer.id)
    with pytest.raises(Conflict, match="still being written"):
        store.reopen_answer(session.id, cut.id)
    store.end_turn(cut.id, status="complete", finish_reason="cancelled")
    ask(store, session.id, "and on", cut.id)
    with pytest.raises(Conflict, match="follow"):
        store.reopen_answer(session.id, cut.id)


def test_a_seed_that_was_drawn_later_is_kept(store: SessionStore) -> None:
    session = store.create_session()
    _, answer = store.begin_turn(
        session.id, parent_id=None, question="q", model_id="m", sampling=Sampling(temperature=1.5)
    )
    store.end_turn(answer.id, status="complete", finish_reason="length", usage=USAGE, error=None)
    assert store.reopen_answer(session.id, answer.id)[2] == Sampling(temperature=1.5, seed=11)


def test_what_a_dead_engine_left_is_interrupted_with_its_text(store: SessionStore, path: Path) -> None:
    session = store.create_session()
    _, empty = ask(store, session.id, "nothing came")
    _, answer = ask(store, session.id, "q")
    store.append(answer.id, "shown ", [1])
    store.append(answer.id, "text", [2])
    store = reopened(store, path)
    left = store.message(session.id, answer.id)
    assert (left.text, left.status, left.finish_reason) == ("shown text", "interrupted", "interrupted")
    assert store.message(session.id, empty.id).status == "interrupted"
    assert store.list_sessions("shown text") == [store.session(session.id).summary]
    assert store.reopen_answer(session.id, answer.id)[1:] == ([1, 2], SAMPLING)
    store.close()


def test_deleting_is_undone_in_the_same_run_and_final_in_the_next(store: SessionStore, path: Path) -> None:
    kept, gone = store.create_session("kept"), store.create_session("gone")
    _, answer = answered(store, gone.id, "the secret word is xylograph", "noted")
    store.delete_session(gone.id)
    store.delete_session(gone.id)
    assert [each.id for each in store.list_sessions()] == [kept.id]
    assert store.list_sessions("xylograph") == []
    assert store.session(gone.id).summary.deleted_at is not None
    for change in (
        lambda: ask(store, gone.id, "q"),
        lambda: store.change_session(gone.id, title="t"),
        lambda: store.reopen_answer(gone.id, answer.id),
    ):
        with pytest.raises(Conflict):
            change()
    store.restore_session(gone.id)
    assert store.session(gone.id).messages[-1] == answer
    store.delete_session(gone.id)
    store = reopened(store, path)
    with pytest.raises(NotFound):
        store.session(gone.id)
    with pytest.raises(NotFound):
        store.restore_session(gone.id)
    assert [each.id for each in store.list_sessions()] == [kept.id]
    on_disk = b"".join(file.read_bytes() for file in path.parent.iterdir())
    store.close()
    assert b"xylograph" not in on_disk


def test_purging_leaves_no_text_in_any_file(store: SessionStore, path: Path) -> None:
    session = store.create_session()
    parent = None
    # Deep enough to pass SQLite's limit on nested cascades, were there one per level.
    for index in range(600):
        _, answer = answered(store, session.id, f"question {index} xylograph", "answer", parent)
        parent = answer.id
    _, running = ask(store, session.id, "one more", parent)
    with pytest.raises(Conflict):
        store.purge_session(session.id)
    store.end_turn(running.id, status="complete", finish_reason="stop")
    store.purge_session(session.id)
    assert b"xylograph" not in b"".join(file.read_bytes() for file in path.parent.iterdir())
    with pytest.raises(NotFound):
        store.purge_session(session.id)
    with pytest.raises(NotFound):
        store.append(running.id, "x", [])


def test_the_list_is_by_last_use(store: SessionStore) -> None:
    one, two, three = (store.create_session(title) for title in ("one", "two", "three"))
    assert [each.title for each in store.list_sessions()] == ["three", "two", "one"]
    ask(store, one.id, "q")
    store.change_session(two.id, title="renamed")
    assert [each.title for each in store.list_sessions()] == ["one", "three", "renamed"]
    assert three.id


@pytest.mark.parametrize(
    ("query", "hits"),
    [
        ("ÄPFEL", {"fruit"}),
        ("äpfel", {"fruit"}),
        ("a\N{COMBINING DIAERESIS}pfel", {"fruit"}),
        ("海", {"sea"}),
        ("一海", set()),
        ("100%", {"fruit"}),
        ("0%0", set()),
        ("_", {"under_score"}),
        ("  reef ", {"sea"}),
        ("SEA", {"sea"}),
        ("STRASSE", {"sea"}),
        ("", {"sea", "fruit", "under_score"}),
        ("   ", {"sea", "fruit", "under_score"}),
        ("nowhere", set()),
        ("ß\ud800", set()),
    ],
)
def test_search(store: SessionStore, query: str, hits: set[str]) -> None:
    answered(store, store.create_session("fruit").id, "100% Äpfel\nund Birnen", "ja")
    _, answer = ask(store, store.create_session("sea").id, "深海 ist tief")
    store.append(answer.id, "In the Re", [1])
    store.append(answer.id, "ef, Straße", [1])
    store.end_turn(answer.id, status="complete", finish_reason="stop")
    store.create_session("under_score")
    assert {each.title for each in store.list_sessions(query)} == hits


def test_text_from_outside_is_stored_clean_and_whole(store: SessionStore, path: Path) -> None:
    nasty = "a\0b\ud800c\u202ed\u200f\r\n" + "x" * 1_000_000
    session = store.create_session("t\0\ud800\nu")
    asked, answer = ask(store, session.id, nasty)
    assert asked is not None and asked.text == nasty.replace("\0", "�").replace("\ud800", "�")
    store.append(answer.id, "\0\ud83d", [1])
    store.end_turn(
        answer.id, status="failed", finish_reason="error", error=ErrorBody(code="c", text="e\ud800")
    )
    store = reopened(store, path)
    messages = store.session(session.id).messages
    assert messages[0].text == asked.text
    assert messages[1].text == "��"
    assert store.session(session.id).model_dump_json()
    assert store.session(session.id).summary.title == "t�� u"
    store.close()


def test_two_threads_write_two_answers(store: SessionStore) -> None:
    sessions = [store.create_session() for _ in range(2)]
    answers = [ask(store, session.id, "q")[1] for session in sessions]

    def write(answer: Message) -> None:
        for index in range(300):
            store.append(answer.id, f"{index} ", [index])
            if index % 50 == 0:
                store.list_sessions("299")

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(write, answer) for answer in answers]:
            done.result()
    for session, answer in zip(sessions, answers, strict=True):
        ended = store.end_turn(answer.id, status="complete", finish_reason="stop")
        assert ended.text == "".join(f"{index} " for index in range(300))
        assert store.token_ids(answer.id) == list(range(300))
        assert store.session(session.id).messages[-1] == ended


def test_a_closed_store_says_so(path: Path) -> None:
    store = SessionStore.open(path)
    store.close()
    store.close()
    with pytest.raises(DataFolderError, match="closed"):
        store.list_sessions()
    with pytest.raises(DataFolderError, match="closed"):
        store.create_session()


CHILD = """
import sys
from pathlib import Path
from engine.protocol import Sampling
from engine.store.sessions import SessionStore

store = SessionStore.open(Path(sys.argv[1]))
session = store.create_session()
_, answer = store.begin_turn(
    session.id, parent_id=None, question="count", model_id="m", sampling=Sampling(seed=1), mode="high"
)
print(session.id, answer.id, flush=True)
index = 0
while True:
    store.append(answer.id, f"{index} ", [index], ("reasoning", "text", "call")[index // 100 % 3])
    print(index, flush=True)
    index += 1
"""


def test_every_acknowledged_append_survives_a_kill(path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert child.stdout is not None
    session_id, answer_id = child.stdout.readline().split()
    acknowledged = -1
    # Past the size at which SQLite first copies its log into the file, so the kill falls around that too.
    for line in child.stdout:
        acknowledged = int(line)
        if acknowledged >= 1500:
            break
    child.kill()
    rest = child.stdout.read().split("\n")
    acknowledged = max([acknowledged, *(int(each) for each in rest[:-1])])
    child.stdout.close()
    child.wait()
    store = SessionStore.open(path)
    message = store.message(session_id, answer_id)
    ids = store.token_ids(answer_id)
    store.close()
    assert (message.status, message.mode) == ("interrupted", "high")
    assert len(ids) > acknowledged >= 1500
    assert ids == list(range(len(ids)))
    assert [message.reasoning, message.text, message.unfinished_call] == [
        "".join(f"{index} " for index in ids if index // 100 % 3 == part) for part in range(3)
    ]


def test_reading_a_conversation_takes_as_few_statements_however_long_it_is(store: SessionStore) -> None:
    session = store.create_session()
    parent = None
    for index in range(500):
        _, answer = answered(store, session.id, f"question {index} " * 10, "answer " * 150, parent)
        parent = answer.id
    short = store.create_session()
    answered(store, short.id, "question", "answer", None)
    statements: list[str] = []

    def counted(session_id: str) -> int:
        statements.clear()
        store.session(session_id)
        return len(statements)

    with store._database.reading() as connection:
        connection.set_trace_callback(statements.append)
    assert len(store.session(session.id).messages) == 1000
    assert counted(session.id) == counted(short.id) < 10
