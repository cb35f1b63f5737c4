"""Titles fit on one line and cannot disturb what stands beside them; a person's stays."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import NotFound
from engine.protocol import Sampling
from engine.store.sessions import SessionStore
from engine.store.titles import FIRST_WORDS_CHARACTERS, TITLE_CHARACTERS, tidy_title, title_of_question


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Why is the sea salty?", "Why is the sea salty?"),
        ("  two\n\n lines\tand more ", "two lines and more"),
        ("", ""),
        (" \n ", ""),
        ("word " * 30, " ".join(["word"] * 12) + "…"),
        ("x" * 100, "x" * 59 + "…"),
        ("海" * 100, "海" * 59 + "…"),
        ("one, two, three, four, five, six, seven, eight, nine, ten, eleven", None),
        ("\u202eevil\u2066\x1b[31m\0", "evil [31m�"),
    ],
)
def test_a_title_is_the_first_words(question: str, title: str | None) -> None:
    made = title_of_question(question)
    assert title is None or made == title
    if title is None:
        assert made == "one, two, three, four, five, six, seven, eight, nine, ten…"


def test_a_letter_keeps_its_marks() -> None:
    made = title_of_question("x" * 58 + "e\u0301\u0302" + "y" * 20)
    assert made == "x" * 58 + "…"
    family = "👩\u200d👩\u200d👧"
    assert title_of_question("x" * 57 + family + "y" * 20) == "x" * 57 + "…"


@pytest.mark.timeout(30)  # what is quadratic in a million never ends
def test_a_megabyte_is_cut() -> None:
    assert title_of_question("\n" * 500_000 + "x" * 1_000_000).startswith("xxx")


@given(st.text(max_size=700))
def test_titles_are_bounded_lines(text: str) -> None:
    for title, longest in (
        (title_of_question(text), FIRST_WORDS_CHARACTERS),
        (tidy_title(text), TITLE_CHARACTERS),
    ):
        assert len(title) <= longest
        assert title == " ".join(title.split())
        assert "\0" not in title
        title.encode("utf-8")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path):
    opened = SessionStore.open(path)
    yield opened
    opened.close()


def ask(store: SessionStore, session_id: str, question: str) -> None:
    store.begin_turn(session_id, parent_id=None, question=question, model_id="m", sampling=Sampling(seed=1))


def test_a_model_names_what_only_the_question_named(store: SessionStore, path: Path) -> None:
    first, second = store.create_session(), store.create_session()
    ask(store, first.id, "Why is the sea salty?")
    ask(store, second.id, " \n ")
    before = [each.id for each in store.list_sessions()]
    assert not store.set_model_title(first.id, " \n\u202e")
    assert store.list_sessions()[1].title == "Why is the sea salty?"
    assert store.set_model_title(first.id, "Salt\nof the \u202e sea " + "x" * 1000)
    title = store.session(first.id).summary.title
    assert title.startswith("Salt of the sea xxx") and len(title) == 200
    assert store.set_model_title(second.id, "Nothing")
    assert [each.id for each in store.list_sessions()] == before, "it is not a use that reorders the list"
    store.close()
    store = SessionStore.open(path)
    assert not store.set_model_title(first.id, "Another"), "once"
    with pytest.raises(NotFound):
        store.set_model_title("nowhere", "x")
    store.close()


def test_what_a_person_named_stays(store: SessionStore) -> None:
    given, renamed, emptied, deleted = (store.create_session(title) for title in ("Mine", "", "x", ""))
    for session in (given, renamed, emptied, deleted):
        ask(store, session.id, "q")
    store.change_session(renamed.id, title="Mine too")
    store.change_session(emptied.id, title=" ")
    store.delete_session(deleted.id)
    for session in (given, renamed, deleted):
        assert not store.set_model_title(session.id, "A model's")
    assert store.set_model_title(emptied.id, "A model's"), "a person took the title away"
    assert {each.title for each in store.list_sessions()} == {"Mine", "Mine too", "A model's"}
    store.change_session(emptied.id, leaf_id=store.session(emptied.id).leaf_id, title="Mine again")
    assert not store.set_model_title(emptied.id, "A model's")


def test_a_person_renames_what_a_model_named(store: SessionStore) -> None:
    session = store.create_session()
    assert store.set_model_title(session.id, "A model's")
    assert store.change_session(session.id, title="Mine").title == "Mine"
    ask(store, session.id, "q")
    assert store.session(session.id).summary.title == "Mine"
