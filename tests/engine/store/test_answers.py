"""Answers with reasoning, calls and their results, by what the store gives back, also after a kill."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest, Conflict, DiskFull, NotFound
from engine.protocol import Message, Sampling, Thought, ToolCall, ToolResult
from engine.store.sessions import SessionStore

SAMPLING = Sampling(temperature=0.3, seed=11)
THOUGHT = Thought(tokens=3, elapsed_s=1.5)
CALLS = [
    ToolCall(id="c1", name="weather", arguments='{"city":"Köln"}'),
    ToolCall(id="c2", name="weather", arguments="{city", status="rejected", problem="It is no JSON."),
    ToolCall(id="c3", name="time", arguments="{}", status="repaired"),
]
NOTICES = ["A call was repaired.", "Ein \0\ud800 Hinweis."]
CLEAN_NOTICES = ["A call was repaired.", "Ein �� Hinweis."]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path):
    opened = SessionStore.open(path)
    yield opened
    opened.close()


def connection_of(store: SessionStore) -> sqlite3.Connection:
    return store._database._connection


def begun(store: SessionStore, mode: Any = "high") -> tuple[str, Message, Message]:
    """(session, question, running answer)."""
    session = store.create_session()
    question, answer = store.begin_turn(
        session.id, parent_id=None, question="q", model_id="v4", sampling=SAMPLING, mode=mode
    )
    assert question is not None
    return session.id, question, answer


def write(store: SessionStore, answer_id: str) -> None:
    """All three parts, in pieces."""
    store.append(answer_id, "Let me ", [1], "reasoning")
    store.append(answer_id, "see.", [2], "reasoning")
    store.append(answer_id, "", [3], "reasoning")
    store.append(answer_id, "I shall ", [4])
    store.append(answer_id, "look.", [5])
    store.append(answer_id, "<call", [6], "call")
    store.append(answer_id, " one>", [7], "call")


def called(store: SessionStore) -> tuple[str, Message]:
    """(session, an answer that ended in CALLS)."""
    session_id, _, answer = begun(store)
    write(store, answer.id)
    return session_id, store.end_turn(
        answer.id, status="complete", finish_reason="tool_calls", thought=THOUGHT, tool_calls=CALLS
    )


def give(store: SessionStore, session_id: str, answer_id: str, **texts: str) -> tuple[list[Message], Message]:
    results = [ToolResult(tool_call_id=call_id, text=text) for call_id, text in texts.items()]
    return store.begin_results(session_id, answer_id, results, model_id="v4", sampling=SAMPLING, mode="max")


def test_each_part_is_read_as_it_grows(store: SessionStore) -> None:
    session_id, _, answer = begun(store)
    assert (answer.mode, answer.reasoning, answer.unfinished_call) == ("high", "", "")
    write(store, answer.id)
    for message in (
        store.message(session_id, answer.id),
        store.session(session_id).messages[-1],
        store.branch(session_id, answer.id)[-1],
    ):
        assert (message.reasoning, message.text, message.unfinished_call) == (
            "Let me see.",
            "I shall look.",
            "<call one>",
        )
    assert store.token_ids(answer.id) == [1, 2, 3, 4, 5, 6, 7]


def test_an_answer_without_a_mode_has_none(store: SessionStore) -> None:
    session_id, _, answer = begun(store, mode=None)
    assert answer.mode is None
    assert store.message(session_id, answer.id).mode is None


def test_an_answer_ends_with_all_that_came_of_it(store: SessionStore, path: Path) -> None:
    session_id, _, answer = begun(store)
    write(store, answer.id)
    ended = store.end_turn(
        answer.id,
        status="complete",
        finish_reason="tool_calls",
        thought=THOUGHT,
        tool_calls=CALLS,
        notices=NOTICES,
    )
    assert (ended.reasoning, ended.text, ended.unfinished_call) == ("Let me see.", "I shall look.", "")
    assert (ended.thought, ended.tool_calls, ended.notices) == (THOUGHT, CALLS, CLEAN_NOTICES)
    store.close()
    store = SessionStore.open(path)
    assert store.message(session_id, answer.id) == ended
    assert store.token_ids(answer.id) == [1, 2, 3, 4, 5, 6, 7]
    row = connection_of(store).execute("SELECT call_text, (SELECT count(*) FROM chunk) FROM message")
    assert set(row.fetchall()) == {("", 0)}
    store.close()


def test_a_call_that_was_cut_is_kept_as_it_was_written(store: SessionStore, path: Path) -> None:
    session_id, _, answer = begun(store)
    write(store, answer.id)
    ended = store.end_turn(answer.id, status="complete", finish_reason="length")
    assert (ended.unfinished_call, ended.tool_calls) == ("<call one>", [])
    store.close()
    store = SessionStore.open(path)
    assert store.message(session_id, answer.id) == ended
    store.close()


def test_what_the_reasoning_took_is_stored_when_it_ends(store: SessionStore) -> None:
    session_id, _, answer = begun(store)
    store.append(answer.id, "Hm.", [1], "reasoning")
    store.set_thought(answer.id, THOUGHT)
    assert store.message(session_id, answer.id).thought == THOUGHT
    assert store.end_turn(answer.id, status="complete", finish_reason="stop").thought == THOUGHT
    with pytest.raises(Conflict):
        store.set_thought(answer.id, THOUGHT)
    with pytest.raises(NotFound):
        store.set_thought("nowhere", THOUGHT)


def test_what_a_dead_engine_left_is_in_its_place(store: SessionStore, path: Path) -> None:
    session_id, _, answer = begun(store, mode="max")
    write(store, answer.id)
    store.set_thought(answer.id, THOUGHT)
    store.close()
    store = SessionStore.open(path)
    assert connection_of(store).execute("SELECT count(*) FROM chunk").fetchone() == (0,)
    left = store.message(session_id, answer.id)
    assert (left.status, left.finish_reason, left.mode) == ("interrupted", "interrupted", "max")
    assert (left.reasoning, left.text, left.unfinished_call, left.thought) == (
        "Let me see.",
        "I shall look.",
        "<call one>",
        THOUGHT,
    )
    assert store.list_sessions("shall") and not store.list_sessions("let me")
    again, ids, sampling = store.reopen_answer(session_id, answer.id)
    assert (again.reasoning, again.text, again.unfinished_call) == ("Let me see.", "I shall look.", "")
    assert (again.mode, again.thought, ids, sampling) == ("max", THOUGHT, [1, 2, 3, 4, 5, 6, 7], SAMPLING)
    store.close()


def test_an_answer_goes_on_without_its_calls(store: SessionStore) -> None:
    session_id, _, answer = begun(store)
    write(store, answer.id)
    store.end_turn(
        answer.id, status="complete", finish_reason="length", tool_calls=CALLS[:1], notices=["Cut."]
    )
    assert set(store.recall(["c1"])) == {"c1"}
    again, ids, _ = store.reopen_answer(session_id, answer.id)
    assert (again.tool_calls, again.notices, again.unfinished_call) == ([], [], "")
    assert ids == [1, 2, 3, 4, 5, 6, 7]
    assert store.recall(["c1"]) == {}, "these calls are not made any more"
    store.append(answer.id, "<call two>", [8], "call")
    assert store.message(session_id, answer.id).unfinished_call == "<call two>"
    ended = store.end_turn(answer.id, status="complete", finish_reason="tool_calls", tool_calls=CALLS[1:2])
    assert (ended.tool_calls, ended.notices, ended.unfinished_call) == (CALLS[1:2], [], "")
    assert store.recall(["c2"]) == {"c2": ("Let me see.", [1, 2, 3, 4, 5, 6, 7, 8])}


def test_an_answer_that_ended_in_calls_came_to_its_own_end(store: SessionStore) -> None:
    session_id, answer = called(store)
    with pytest.raises(Conflict, match="own end"):
        store.reopen_answer(session_id, answer.id)


# --- results ----------------------------------------------------------------------------------------


def test_results_stand_in_the_order_of_the_calls(store: SessionStore, path: Path) -> None:
    session_id, answer = called(store)
    results, following = give(store, session_id, answer.id, c3="noon", c1="rain\0", c2="")
    assert [(each.role, each.tool_call_id, each.text, each.status) for each in results] == [
        ("tool", "c1", "rain�", "complete"),
        ("tool", "c2", "", "complete"),
        ("tool", "c3", "noon", "complete"),
    ]
    assert [each.parent_id for each in (*results, following)] == [
        answer.id,
        *(each.id for each in results),
    ]
    assert (following.role, following.status, following.mode) == ("assistant", "running", "max")
    assert (following.model_id, following.tool_call_id) == ("v4", None)
    stored = store.session(session_id)
    assert stored.leaf_id == following.id and stored.summary.message_count == 6
    assert stored.messages[2:] == [*results, following]
    assert store.branch(session_id, following.id) == stored.messages
    assert [each.id for each in store.list_sessions("noon")] == [session_id]
    assert stored.summary.title == "q"
    store.close()
    store = SessionStore.open(path)
    assert store.branch(session_id, following.id)[2:5] == results
    assert store.reopen_answer(session_id, following.id)[2] == SAMPLING
    store.close()


def test_results_given_again_are_siblings(store: SessionStore) -> None:
    session_id, answer = called(store)
    first, first_answer = give(store, session_id, answer.id, c1="1", c2="2", c3="3")
    store.end_turn(first_answer.id, status="complete", finish_reason="stop")
    second, second_answer = give(store, session_id, answer.id, c1="one", c2="two", c3="three")
    assert first[0].parent_id == second[0].parent_id == answer.id
    assert second[0].created_at > first[0].created_at
    assert [each.text for each in store.branch(session_id, first_answer.id)[2:5]] == ["1", "2", "3"]
    assert [each.text for each in store.branch(session_id, second_answer.id)[2:5]] == ["one", "two", "three"]
    assert store.session(session_id).leaf_id == second_answer.id


def test_another_answer_stands_beneath_the_same_results(store: SessionStore) -> None:
    session_id, answer = called(store)
    results, first = give(store, session_id, answer.id, c1="1", c2="2", c3="3")
    none, second = store.begin_turn(
        session_id, parent_id=first.parent_id, question=None, model_id="v4", sampling=SAMPLING
    )
    assert none is None and second.parent_id == first.parent_id == results[-1].id
    question, _ = store.begin_turn(
        session_id, parent_id=results[-1].id, question="And?", model_id="v4", sampling=SAMPLING
    )
    assert question is not None and (question.role, question.parent_id) == ("user", results[-1].id)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([], "no result for the calls c1, c2, c3"),
        (["c1", "c3"], "no result for the call c2"),
        (["c1", "c2", "c3", "c9"], "did not make the call c9"),
        (["c9", "c8"], "did not make the calls c9, c8"),
        (["c1", "c2", "c3", "c2"], "more than one result for the call c2"),
        ([f"x{index}" for index in range(9)], "did not make the calls x0, x1, x2, x3, x4 and 4 more"),
        (["\ud800" + "y" * 500], "did not make the call .y{63};"),
    ],
)
def test_results_that_do_not_fit_the_calls(store: SessionStore, given: list[str], why: str) -> None:
    session_id, answer = called(store)
    before = store.session(session_id)
    results = [ToolResult.model_construct(tool_call_id=call_id, text="x") for call_id in given]
    with pytest.raises(BadRequest, match=why):
        store.begin_results(session_id, answer.id, results, model_id="v4", sampling=SAMPLING)
    assert store.session(session_id) == before


def test_results_of_what_makes_no_calls(store: SessionStore) -> None:
    session_id, question, answer = begun(store)
    with pytest.raises(Conflict, match="still being written"):
        give(store, session_id, answer.id, c1="x")
    store.end_turn(answer.id, status="complete", finish_reason="stop")
    with pytest.raises(BadRequest, match="makes no call"):
        give(store, session_id, answer.id, c1="x")
    with pytest.raises(BadRequest, match="not an answer"):
        give(store, session_id, question.id, c1="x")
    for session, message in ((session_id, "nowhere"), ("nowhere", answer.id)):
        with pytest.raises(NotFound):
            give(store, session, message, c1="x")
    session_id, answer = called(store)
    results, following = give(store, session_id, answer.id, c1="1", c2="2", c3="3")
    with pytest.raises(BadRequest, match="not an answer"):
        give(store, session_id, results[0].id, c1="1", c2="2", c3="3")
    with pytest.raises(BadRequest, match="not an answer"):
        store.reopen_answer(session_id, results[0].id)
    store.end_turn(following.id, status="complete", finish_reason="stop")
    store.delete_session(session_id)
    with pytest.raises(Conflict, match="deleted"):
        give(store, session_id, answer.id, c1="1", c2="2", c3="3")


# --- what cannot be read, what cannot be written -------------------------------------------------------


@pytest.mark.parametrize("damage", ["", "{", "7", "[{}]", '["x"', "null", '[{"id": 1}]', "[" * 1000])
def test_a_column_that_cannot_be_read_leaves_the_conversation_readable(
    store: SessionStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    session_id, answer = called(store)
    connection_of(store).execute(
        "UPDATE message SET tool_calls = ?1, notices = ?1, usage = ?1, sampling = ?1, mode = ?1", (damage,)
    )
    connection_of(store).execute("UPDATE session SET tools = ?", (damage,))
    message = store.session(session_id).messages[-1]
    assert (message.text, message.reasoning, message.thought) == ("I shall look.", "Let me see.", THOUGHT)
    assert (message.tool_calls, message.notices, message.usage, message.mode) == ([], [], None, None)
    assert store.tools(session_id) == store.session(session_id).tools == []
    for column in ("tool_calls", "notices", "usage", "mode", "tools"):
        assert f"the column {column} " in caplog.text
    with pytest.raises(BadRequest, match="makes no call"):
        give(store, session_id, answer.id, c1="1", c2="2", c3="3")
    # The answer can still be continued where it may be, end again, and go with its session.
    connection_of(store).execute("UPDATE message SET finish_reason = 'length'")
    assert store.reopen_answer(session_id, answer.id)[2] == Sampling()
    store.end_turn(answer.id, status="complete", finish_reason="length", tool_calls=CALLS)
    assert store.message(session_id, answer.id).tool_calls == CALLS
    connection_of(store).execute("UPDATE message SET tool_calls = ?", (damage,))
    store.purge_session(session_id)


def fill(store: SessionStore, answer_id: str, part: Any) -> int:
    """Let the file grow no further, and append until it is full: how many pieces were stored."""
    connection = connection_of(store)
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchone()
    for index in range(100_000):
        try:
            store.append(answer_id, "x" * 500, [index], part)
        except DiskFull:
            return index
    raise AssertionError("the disk never filled up")


def make_room(store: SessionStore) -> None:
    connection_of(store).execute("PRAGMA max_page_count = 1000000").fetchone()


@pytest.mark.parametrize("part", ["reasoning", "call"])
def test_on_a_full_disk_what_fits_is_kept(store: SessionStore, path: Path, part: Any) -> None:
    session_id, _, answer = begun(store)
    store.append(answer.id, "said", [0])
    count = fill(store, answer.id, part)
    assert count > 20
    ended = store.end_turn(
        answer.id,
        status="complete",
        finish_reason="tool_calls",
        thought=THOUGHT,
        tool_calls=CALLS,
        notices=["Full."],
    )
    assert (ended.status, ended.thought, ended.tool_calls, ended.notices) == (
        "complete",
        THOUGHT,
        CALLS,
        ["Full."],
    )
    long = "x" * 500 * count
    assert ended.text == "said"
    assert (ended.reasoning, ended.unfinished_call) == (long if part == "reasoning" else "", "")
    assert connection_of(store).execute("SELECT count(*) FROM chunk").fetchone() == (count + 1,)
    assert store.recall(["c1"]) == {}
    make_room(store)
    store.close()
    store = SessionStore.open(path)
    assert store.message(session_id, answer.id) == ended
    assert store.token_ids(answer.id) == [0, *range(count)]
    assert connection_of(store).execute("SELECT DISTINCT call_text FROM message").fetchall() == [("",)]
    assert connection_of(store).execute("SELECT count(*) FROM chunk").fetchone() == (0,)
    store.close()


def test_on_a_full_disk_the_end_is_marked_without_what_does_not_fit(store: SessionStore) -> None:
    session_id, _, answer = begun(store)
    store.set_thought(answer.id, THOUGHT)
    count = fill(store, answer.id, "call")
    huge = [ToolCall(id="c1", name="write", arguments="x" * 500_000)]
    # Calls that nobody could ever give results of do not make an end: it can be stored later.
    with pytest.raises(DiskFull):
        store.end_turn(answer.id, status="complete", finish_reason="tool_calls", tool_calls=huge)
    assert store.message(session_id, answer.id).status == "running"
    ended = store.end_turn(
        answer.id,
        status="failed",
        finish_reason="error",
        thought=Thought(tokens=9, elapsed_s=9),
        tool_calls=huge,
        notices=["Full."],
    )
    assert (ended.status, ended.thought, ended.tool_calls, ended.notices) == ("failed", THOUGHT, [], [])
    assert ended.unfinished_call == "x" * 500 * count
    make_room(store)
    again, ids, _ = store.reopen_answer(session_id, answer.id)
    assert (again.unfinished_call, ids) == ("", list(range(count)))
    done = store.end_turn(answer.id, status="complete", finish_reason="tool_calls", tool_calls=huge)
    assert (done.tool_calls, set(store.recall(["c1"]))) == (huge, {"c1"})


def test_results_that_do_not_fit_on_the_disk_leave_nothing(store: SessionStore) -> None:
    session_id, answer = called(store)
    _, _, other = begun(store)
    fill(store, other.id, "text")
    before = store.session(session_id)
    with pytest.raises(DiskFull):
        give(store, session_id, answer.id, c1="1", c2="2" * 500_000, c3="3")
    assert store.session(session_id) == before
    make_room(store)
    assert len(give(store, session_id, answer.id, c1="1", c2="2" * 500_000, c3="3")[0]) == 3


def test_a_piece_is_one_statement_however_long_the_answer_is(store: SessionStore) -> None:
    _, _, answer = begun(store)
    statements: list[str] = []
    connection_of(store).set_trace_callback(statements.append)
    for part in ("reasoning", "text", "call"):
        for _ in range(200):
            store.append(answer.id, "piece ", [1], part)
    assert len(statements) == 600
    assert all(each.lstrip().startswith("INSERT INTO chunk") for each in statements)
    connection_of(store).set_trace_callback(None)
