"""What is kept, in words."""

from typing import Any

import pytest

from app.storage_words import (
    encryption_words,
    file_name,
    plain_words,
    restore_words,
    states_words,
    task_share,
    task_words,
)
from engine.protocol import ErrorBody
from engine.protocol_encryption import EncryptionState
from engine.protocol_storage import RestorePrepared, StorageTask, StorageUsage


def usage(**more: Any) -> StorageUsage:
    fields = {
        "sessions_bytes": 1, "journals_bytes": 1, "states_bytes": 1_200_000_000, "states_count": 14,
        "states_damaged": 0, "states_budget_bytes": 1, "free_bytes": 5_000_000_000, **more,
    }  # fmt: skip
    return StorageUsage.model_validate(fields)


def test_what_models_have_read() -> None:
    assert states_words(usage()) == "1.2 GB in 14 files now; 5.0 GB are free."
    assert states_words(usage(states_count=1)) == "1.2 GB in 1 file now; 5.0 GB are free."
    assert states_words(usage(states_count=0, free_bytes=50_000_000_000)) == "Nothing is kept now."
    assert states_words(usage(states_count=0, states_budget_bytes=0)) == "Nothing is kept now."
    assert "; 5.0 GB are free, and a twentieth" in states_words(usage(states_count=0))
    assert states_words(usage(states_damaged=1)).endswith("One was damaged and set aside.")
    assert states_words(usage(states_damaged=2)).endswith("2 were damaged and set aside.")


def task(state: str, **more: Any) -> StorageTask:
    return StorageTask.model_validate({"id": "k", "kind": "backup", "state": state, **more})


def test_a_task_from_its_beginning_to_every_end() -> None:
    assert task_words(task("running")) == "Looking at what there is…"
    half = task("running", done_bytes=500_000, total_bytes=1_000_000)
    assert (task_words(half), task_share(half)) == ("500.0 kB of 1.0 MB", 0.5)
    assert task_words(task("done", lines=("a", "b"))) == "a\nb"
    assert task_words(task("done")) == "Done."
    assert "Nothing was written" in task_words(task("stopped"))
    assert task_words(task("failed", error=ErrorBody(code="c", text="Full."))) == "Full."
    assert "once more" in task_words(task("failed"))
    assert task_share(task("running")) == 0


def test_a_restore_says_what_becomes_of_what_is_here() -> None:
    words = restore_words(RestorePrepared(created_at=0, sessions_bytes=1, aside="/data/aside"))
    assert "/data/aside" in words
    assert "not deleted" in words


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"on": False}, "are not encrypted."),
        ({"on": True}, "are encrypted."),
        ({"on": False, "pending": "on"}, "will be when the engine starts next"),
        ({"on": True, "pending": "off"}, "will not be any more"),
        ({"on": True, "locked": {"code": "l", "text": "No key."}}, "No key."),
        (
            {"on": True, "locked": {"code": "l", "text": "No key."}, "restart_needed": True},
            "key is here again",
        ),
    ],
)
def test_every_state_of_encryption(fields: dict[str, Any], part: str) -> None:
    assert part in encryption_words(EncryptionState.model_validate(fields))


def test_plain_copies_are_named() -> None:
    assert plain_words(EncryptionState(on=True)) == ""
    assert "a, b, c, …" in plain_words(EncryptionState(on=True, plain_files=["a", "b", "c", "d"]))


def test_a_title_becomes_a_name_that_every_system_takes() -> None:
    assert file_name('a/b: "c"?', ".md") == "a b c.md"
    assert file_name("///", ".json") == "conversation.json"
    assert len(file_name("x" * 500, ".md")) <= 83
