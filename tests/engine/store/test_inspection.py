"""Whether a store is as it should be: what was broken by hand is found, and nothing else."""

import sqlite3
from pathlib import Path

import pytest

from engine.errors import DataFolderError
from engine.store.database import Database
from engine.store.inspection import MOST_PROBLEMS, Inspection, problems_of
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = SessionStore.open(tmp_path / "sessions.db")
    for _ in range(2):
        fill(store)
    store.close()
    return tmp_path / "sessions.db"


def looked_at(path: Path) -> list[str]:
    database = Database.open(path)
    try:
        return Inspection(database).problems()
    finally:
        database.close()


def by_hand(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for each in statements:
            assert connection.execute(each).rowcount != 0, "it breaks nothing"
    connection.close()


def test_all_is_well_and_counted_also_while_an_answer_is_written(tmp_path: Path) -> None:
    store = SessionStore.open(tmp_path / "sessions.db")
    session_id = fill(store)
    told: list[tuple[int, int]] = []
    second = store.database.another()
    store.append(store.session(session_id).messages[-1].id, "more", [1])
    assert problems_of(second, lambda done, total: told.append((done, total))) == ([], 1, 5)
    assert told == [(number, 5) for number in range(1, 6)]
    second.close()
    store.close()


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE message SET usage = '{' WHERE usage IS NOT NULL", "its usage cannot be read"),
        ("UPDATE message SET sampling = '5' WHERE number = 2", "its sampling cannot be read"),
        ("UPDATE message SET tool_calls = '[{}]' WHERE number = 2", "its tool calls cannot be read"),
        ("UPDATE message SET notices = 'x' WHERE number = 2", "its notices cannot be read"),
        ("UPDATE message SET mode = 'wild' WHERE number = 2", "its mode cannot be read"),
        ("UPDATE message SET token_ids = x'010203' WHERE number = 2", "its token ids are cut off"),
        ("UPDATE message SET created_at = -1.0 WHERE number = 1", "its time is none"),
        ("UPDATE message SET tool_call_id = 'other' WHERE tool_call_id IS NOT NULL", "did not make"),
        ("UPDATE message SET parent = NULL WHERE number = 4", "neither a question nor"),
        ("UPDATE message SET status = 'failed' WHERE number = 1", "can only be complete"),
        ("UPDATE session SET leaf_id = 'nobody' WHERE number = 1", "shows a branch that is not there"),
        ("UPDATE session SET tools = '[' WHERE number = 1", "The tools of the conversation"),
        ("DELETE FROM search_text WHERE message = 2", "is not found by a search"),
        ("INSERT INTO chunk (message, text, token_ids) VALUES (1, 'x', x'')", "no answers have pieces"),
        ("UPDATE message SET session = 77 WHERE number = 10", "belongs to nothing"),
    ],
)
def test_what_was_broken_is_told(path: Path, statement: str, said: str) -> None:
    by_hand(path, statement)
    problems = looked_at(path)
    assert any(said in problem for problem in problems), problems
    assert all(problem.endswith(".") and "\n" not in problem for problem in problems)


def test_a_damaged_page_is_told(path: Path) -> None:
    content = bytearray(path.read_bytes())
    with sqlite3.connect(path) as connection:
        page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'message'").fetchone()[0]
    connection.close()
    content[(root - 1) * page_bytes : root * page_bytes] = b"\xa5" * page_bytes
    path.write_bytes(content)
    database = Database.open(path)
    problems, _, _ = problems_of(database, lambda _done, _total: None)
    database.close()
    assert problems and "damaged" in problems[0]


def test_of_a_store_that_is_broken_throughout_not_everything_is_told(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        for number in range(100, 100 + MOST_PROBLEMS):
            connection.execute(
                "INSERT INTO message (number, id, session, role, status, created_at, text, token_ids)"
                " VALUES (?, ?, 1, 'user', 'failed', 1.0, '', x'')",
                (number, str(number)),
            )
    connection.close()
    problems = looked_at(path)
    assert len(problems) == MOST_PROBLEMS + 1 and problems[-1] == "There is more."


def test_who_listens_can_end_it(path: Path) -> None:
    def enough(_done: int, _total: int) -> None:
        raise DataFolderError("It was ended", "that was asked for", "begin again")

    database = Database.open(path)
    with pytest.raises(DataFolderError):
        Inspection(database, enough).problems()
    database.close()
