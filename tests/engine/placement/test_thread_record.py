import json
from dataclasses import replace
from pathlib import Path

import pytest

from engine.placement.hardware import Processor
from engine.placement.planner import Room, Wishes, plan
from engine.placement.thread_choice import ThreadChoice
from engine.placement.thread_record import (
    MAX_BYTES,
    MOST_MODELS,
    NAME,
    QUIET_CORES,
    keep_choice,
    kept_choice,
    thread_key,
)
from tests.engine.placement.models import dense_model

CHOICE = ThreadChoice(3, 4, 3, 1.0, 1.25)
GB = 10**9


def test_what_was_found_is_found_again(tmp_path: Path) -> None:
    assert kept_choice(tmp_path, "a") is None
    keep_choice(tmp_path, "a", CHOICE, 0.0)
    keep_choice(tmp_path, "b", replace(CHOICE, decode=2), 0.0)
    assert kept_choice(tmp_path, "a") == CHOICE
    assert kept_choice(tmp_path, "b") == replace(CHOICE, decode=2)
    assert kept_choice(tmp_path, "c") is None


def test_what_was_found_on_a_busy_machine_is_found_anew(tmp_path: Path) -> None:
    keep_choice(tmp_path, "a", CHOICE, QUIET_CORES + 0.1)
    assert kept_choice(tmp_path, "a") is None
    keep_choice(tmp_path, "a", CHOICE, QUIET_CORES)
    assert kept_choice(tmp_path, "a") == CHOICE


def test_of_too_many_the_first_is_forgotten(tmp_path: Path) -> None:
    keep_choice(tmp_path, "0", CHOICE, 0.0)
    whole = json.loads((tmp_path / NAME).read_text())
    whole["found"] = {str(number): whole["found"]["0"] for number in range(MOST_MODELS)}
    (tmp_path / NAME).write_text(json.dumps(whole))
    keep_choice(tmp_path, "new", CHOICE, 0.0)
    assert kept_choice(tmp_path, "new") == CHOICE
    assert kept_choice(tmp_path, "1") == CHOICE
    assert kept_choice(tmp_path, "0") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 2, "found": {}}',
        b'{"format": 1, "found": {"a": {"decode": 0, "prompt": 1, "free": 1, "decode_gain": 1, "prompt_gain": 1,'
        b' "busy_cores": 0}}}',
        b'{"format": 1, "found": {"a": {"decode": 1, "prompt": 1, "free": 1, "decode_gain": NaN, "prompt_gain": 1,'
        b' "busy_cores": 0}}}',
        b"[" * 100_000,
        b" " * (MAX_BYTES + 1),
    ],
)
def test_a_broken_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    assert kept_choice(tmp_path, "a") is None
    keep_choice(tmp_path, "a", CHOICE, 0.0)
    assert kept_choice(tmp_path, "a") == CHOICE


def test_a_folder_that_takes_no_file_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep_choice(tmp_path / "gone", "a", CHOICE, 0.0)
    assert "is not kept" in caplog.text


def test_another_placement_or_processor_is_another_key() -> None:
    found = plan(dense_model(), Room(64 * GB, 56 * GB, 4), Wishes(2048))
    processor = Processor("A", 4, 8, 8, cores=4)
    keys = {
        thread_key("m", found, processor),
        thread_key("n", found, processor),
        thread_key("m", replace(found, copied=not found.copied), processor),
        thread_key("m", replace(found, gpu="G", gpu_layers=3), processor),
        thread_key("m", replace(found, cache_type="q8_0"), processor),
        thread_key("m", found, replace(processor, cores=2)),
        thread_key("m", found, replace(processor, name="B")),
    }
    assert len(keys) == 7
    # Neither a longer context nor what was found changes which number is best.
    assert thread_key("m", replace(found, threads=1, context_tokens=99), processor) in keys
