"""A kept state goes with the last conversation that has it, and not before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store.sessions import SessionStore
from engine.store.state_uses import StateUses


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path: Path) -> Iterator[SessionStore]:
    opened = SessionStore.open(path)
    yield opened
    opened.close()


def test_what_only_a_purged_conversation_has_is_to_be_deleted_until_it_is(store: SessionStore) -> None:
    uses = StateUses(store.database)
    one, other = store.create_session().id, store.create_session().id
    for session, state in ((one, "own"), (one, "own"), (one, "shared"), (other, "shared"), (other, "others")):
        assert uses.note(session, state)
    store.purge_session(one)
    assert uses.to_delete() == ["own"]
    uses.deleted(["own"])
    assert uses.to_delete() == []
    store.purge_session(other)
    assert sorted(uses.to_delete()) == ["others", "shared"]


def test_a_deletion_that_can_be_undone_keeps_them_and_the_next_start_does_not(
    store: SessionStore, path: Path
) -> None:
    uses = StateUses(store.database)
    kept, gone = store.create_session().id, store.create_session().id
    uses.note(kept, "kept")
    uses.note(gone, "gone")
    for session in (kept, gone):
        store.delete_session(session)
    assert uses.to_delete() == []
    store.restore_session(kept)
    store.close()
    again = SessionStore.open(path)
    assert StateUses(again.database).to_delete() == ["gone"]
    again.close()


def test_a_state_that_is_written_after_its_conversation_was_purged_is_not_kept(store: SessionStore) -> None:
    uses = StateUses(store.database)
    gone, other = store.create_session().id, store.create_session().id
    uses.note(other, "shared")
    store.purge_session(gone)
    assert uses.note(gone, "shared")
    assert not uses.note(gone, "late")
    assert uses.to_delete() == ["late"]
    # Another conversation comes to the same tokens before the file is gone.
    assert uses.note(other, "late")
    assert uses.to_delete() == []


def test_of_states_without_files_nothing_is_noted(store: SessionStore) -> None:
    uses = StateUses(store.database)
    session = store.create_session().id
    uses.note(session, "here")
    uses.note(session, "evicted")
    uses.keep_only(["here"])
    store.purge_session(session)
    assert uses.to_delete() == ["here"]
