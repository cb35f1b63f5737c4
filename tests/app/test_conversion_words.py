"""What is said about conversions."""

from typing import Any

import pytest

from app.conversion_words import (
    badge_words,
    breakable,
    inspection_words,
    origin_words,
    progress_words,
    space_words,
    state_words,
    suggested_target,
    tensor_words,
)
from engine.protocol_jobs import Exactness, Inspection, Job, JobProgress, ResultBytes

PROGRESS = JobProgress(
    done_bytes=48_300_000_000, total_bytes=156_400_000_000, bytes_per_s=812e6, seconds_left=133,
    tensor="blk.13.ffn_gate_exps.weight", tensors_done=421, tensors=1372,
)  # fmt: skip
FOUND = Inspection(
    path="/c/DeepSeek-V4-Flash-0731", name="DeepSeek-V4-Flash-0731", release="DeepSeek-V4 0731", shards=46,
    tensors=70_000, tensor_bytes=159_600_000_000, parameters=291_000_000_000, drafter="dspark",
    results=[ResultBytes(dense="q8_0", model_bytes=156_400_000_000, draft_bytes=4_000_000_000)],
    free_bytes=158_000_000_000,
)  # fmt: skip


def job(state: str = "running", **more: Any) -> Job:
    return Job.model_validate({
        "id": "j", "state": state, "created_at": 0, "source": "/c/DeepSeek-V4-Flash-0731",
        "target": "/m/flash.gguf", "dense": "q8_0", "draft": "separate", "consume": False,
        "progress": PROGRESS, **more,
    })  # fmt: skip


def test_progress_is_done_total_rate_and_time_left() -> None:
    assert progress_words(job()) == "48.3 GB of 156.4 GB · 31% · 812.0 MB/s · 2 min 13 s left"
    assert progress_words(job("paused")) == "48.3 GB of 156.4 GB · 31%"
    long = PROGRESS.model_copy(update={"seconds_left": 9000})
    assert progress_words(job(progress=long)).endswith("2 h 30 min left")
    assert progress_words(job(progress=None)) == "Reading the checkpoint’s headers…"
    assert progress_words(job("queued", progress=None)) == ""
    assert tensor_words(job()) == "421 of 1,372 tensors · blk.13.ffn_gate_exps.weight"
    assert tensor_words(job("paused")) == ""


def test_a_long_path_can_be_broken_and_is_the_same_otherwise() -> None:
    path = "/data/" + "very_long_name-of.a/folder/" * 4 + "x" * 100
    broken = breakable(f"in {path}: no")
    assert broken.replace("\u200b", "") == f"in {path}: no"
    assert max(len(part) for part in broken.split("\u200b")) <= 26
    assert breakable("short words only, in any number of them") == "short words only, in any number of them"


def test_states_and_origin() -> None:
    assert state_words(job(stopping=True)) == "Stopping…"
    assert state_words(job("queued")) == "Waiting for its turn"
    assert origin_words(job()) == "of DeepSeek-V4-Flash-0731 · dense part Q8_0 · in /m"
    assert "deletes the checkpoint" in origin_words(job(consume=True))


@pytest.mark.parametrize("lossless", [True, False])
def test_the_badge_does_not_say_more_than_is_so(lossless: bool) -> None:
    exactness = Exactness(
        lossless=lossless, exact=10, approximate=0 if lossless else 1, worst_relative_rms=0.0061
    )
    badge, words = badge_words(exactness)
    assert badge == ("Lossless" if lossless else "Experts lossless")
    assert ("1 tensor rounded to 8 bits, by 0.61% at most" in words) is not lossless


def test_what_it_takes_and_what_is_free() -> None:
    assert space_words(FOUND, "q8_0", "skip", consume=False) == (
        "It takes 156.4 GB; 158.0 GB are free there.", True,
    )  # fmt: skip
    words, fits = space_words(FOUND, "q8_0", "separate", consume=False)
    assert not fits
    assert "not enough" in words
    assert space_words(FOUND, "q8_0", "separate", consume=True)[1]
    assert space_words(FOUND, "bf16", "skip", consume=False) == ("", True)


def test_a_checkpoint_line_by_line() -> None:
    assert inspection_words(FOUND) == [
        "DeepSeek-V4-Flash-0731 · DeepSeek-V4 0731",
        "291.0B parameters · a DSpark drafter",
        "46 shards, 70,000 tensors, 159.6 GB",
    ]
    assert suggested_target(FOUND) == "/c/DeepSeek-V4-Flash-0731.gguf"
