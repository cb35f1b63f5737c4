"""The store's file without the room that the deleted left."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from engine.errors import DataFolderError, DiskFull
from engine.store.compaction import compact, store_bytes
from engine.store.inspection import Inspection
from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def store(tmp_path: Path):
    opened = SessionStore.open(tmp_path / "sessions.db")
    yield opened
    opened.close()


def test_what_was_deleted_is_given_back_and_nothing_else_changes(store: SessionStore, tmp_path: Path) -> None:
    kept = fill(store)
    for _ in range(3):
        gone = fill(store)
        session = store.session(gone)
        store.append(session.messages[-1].id, "long " * 100_000, [])
        store.end_turn(session.messages[-1].id, status="complete", finish_reason="stop")
        store.purge_session(gone)
    before = store.session(kept)
    made = compact(store.database)
    assert made.before_bytes > 1_000_000 > 200_000 > made.after_bytes == store_bytes(store.database)
    assert store.session(kept) == before
    assert Inspection(store.database).problems() == []
    store.append(before.messages[-1].id, "goes on", [1])


def test_without_room_it_is_not_begun(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10, 10, 1000))
    with pytest.raises(DiskFull, match="1,000 free"):
        compact(store.database)


def test_a_disk_that_refuses_leaves_the_store_as_it_was(store: SessionStore) -> None:
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    session_id = fill(store)
    before = store.session(session_id)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DataFolderError, match="The conversations were not compacted"):
            compact(store.database)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.session(session_id) == before
    assert Inspection(store.database).problems() == []
    assert compact(store.database).after_bytes > 0
