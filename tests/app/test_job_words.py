"""What is said about jobs."""

from typing import Any

import pytest

from app.job_words import (
    badge_words,
    cancel_words,
    halves_words,
    item_words,
    note_words,
    origin_words,
    outcome_words,
    path_name,
    place_words,
    progress_words,
    share,
    size_words,
    state_words,
)
from engine.protocol_jobs import Exactness, Job, JobProgress

PROGRESS = JobProgress(
    done_bytes=48_300_000_000, total_bytes=156_400_000_000, bytes_per_s=812e6, seconds_left=133,
    item="blk.13.ffn_gate_exps.weight", items_done=421, items=1372,
)  # fmt: skip
CONVERT = {"kind": "convert", "source": "/c/DeepSeek-V4-Flash-0731", "target": "/m/flash.gguf"}
FETCH = {"kind": "fetch", "what": "deepseek-ai/DeepSeek-V4-Flash", "revision": "60d8d7071234567890"}
VERIFY = {"kind": "verify", "path": "/m/flash.gguf"}
MOVE = {"kind": "move", "item_id": "m1", "folder": "/disk2"}


def job(state: str = "running", asked: dict[str, Any] = CONVERT, **more: Any) -> Job:
    return Job.model_validate({
        "id": "j", "state": state, "created_at": 0, "title": "Flash", "asked": asked, "place": "/m/flash.gguf",
        "progress": PROGRESS, **more,
    })  # fmt: skip


def test_progress_is_done_total_rate_and_time_left() -> None:
    assert progress_words(job()) == "48.3 GB of 156.4 GB · 31% · 812.0 MB/s · 2 min 13 s left"
    assert progress_words(job("paused")) == "48.3 GB of 156.4 GB · 31%"
    long = PROGRESS.model_copy(update={"seconds_left": 9000})
    assert progress_words(job(progress=long)).endswith("2 h 30 min left")
    assert progress_words(job(progress=None)) == "Reading the checkpoint’s headers…"
    assert progress_words(job(asked=FETCH, progress=None)) == "Asking for the list of files…"
    assert progress_words(job("queued", progress=None)) == ""
    assert item_words(job()) == "421 of 1,372 tensors · blk.13.ffn_gate_exps.weight"
    assert item_words(job("paused")) == ""


def test_numbers_that_lie_stay_within_the_bar() -> None:
    over = PROGRESS.model_copy(update={"done_bytes": 10**15})
    assert share(job(progress=over)) == 1.0
    assert share(job(progress=PROGRESS.model_copy(update={"total_bytes": 0}))) == 0.0
    assert share(job(progress=PROGRESS.model_copy(update={"done_bytes": -5}))) == 0.0


def test_a_job_that_does_both_says_how_far_each_is() -> None:
    both = {**FETCH, "convert": {"consume": True}}
    progress = PROGRESS.model_copy(
        update={"stage": "fetching", "fetched_bytes": 40_000_000_000, "fetch_bytes": 100_000_000_000}
    )
    told = job(asked=both, progress=progress)
    assert halves_words(told) == "Downloaded 40.0 GB of 100.0 GB · converted 8.3 GB of 56.4 GB"
    assert state_words(told) == "Downloading and converting"
    assert item_words(told).startswith("421 of 1,372 files")
    assert halves_words(job(asked=FETCH, progress=progress)) == ""
    assert "deletes each part once it is converted" in origin_words(told)


@pytest.mark.parametrize(
    ("stage", "words"),
    [("listing", "Asking for the list of files"), ("fetching", "Downloading"), ("moving", "Moving"),
     ("checking", "Checking"), ("converting", "Converting")],
)  # fmt: skip
def test_a_running_job_says_what_it_does(stage: str, words: str) -> None:
    assert state_words(job(asked=FETCH, progress=PROGRESS.model_copy(update={"stage": stage}))) == words


def test_states_and_origin() -> None:
    assert state_words(job(stopping=True)) == "Stopping…"
    assert state_words(job("queued")) == "Waiting for its turn"
    assert state_words(job("interrupted")) == "Interrupted"
    assert state_words(job(asked=MOVE, progress=None)) == "Moving"
    assert origin_words(job()) == "of DeepSeek-V4-Flash-0731 · dense part Q8_0"
    assert "deletes the checkpoint" in origin_words(job(asked={**CONVERT, "consume": True}))
    assert origin_words(job(asked=FETCH)) == "from deepseek-ai/DeepSeek-V4-Flash · as of 60d8d707"
    assert origin_words(job(asked=VERIFY)) == "of flash.gguf"
    assert origin_words(job(asked=MOVE)) == "into disk2"
    places = [place_words(job(asked=asked)) for asked in (CONVERT, FETCH, VERIFY, MOVE)]
    assert places == ["/m/flash.gguf", "/m/flash.gguf", "/m/flash.gguf", "/disk2"]
    assert place_words(job(asked={**FETCH, "convert": {"target": "/m/x.gguf"}})) == "/m/x.gguf"
    assert path_name("C:\\models\\flash.gguf") == path_name("/models/flash.gguf") == "flash.gguf"


def test_what_it_waits_for_is_said_while_it_runs() -> None:
    waits = PROGRESS.model_copy(update={"note": "No network; it goes on when there is one."})
    assert note_words(job(progress=waits)) == "No network; it goes on when there is one."
    still = progress_words(job(progress=waits.model_copy(update={"bytes_per_s": 0, "seconds_left": None})))
    assert still == "48.3 GB of 156.4 GB · 31%"
    assert note_words(job("paused", progress=waits)) == ""


@pytest.mark.parametrize("lossless", [True, False])
def test_the_badge_does_not_say_more_than_is_so(lossless: bool) -> None:
    exactness = Exactness(
        lossless=lossless, exact=10, approximate=0 if lossless else 1, worst_relative_rms=0.0055
    )
    badge, words = badge_words(exactness)
    assert badge == ("Exact" if lossless else "Experts exact, dense 8-bit, 0.55%")
    assert ("1 tensor rounded to 8 bits, by 0.55% at most" in words) is not lossless


def test_a_check_says_what_it_found() -> None:
    good = {"good": True, "checked_bytes": 5_000_000_000}
    assert state_words(job("done", VERIFY, verdict=good)) == "Whole"
    assert outcome_words(job("done", VERIFY, verdict=good)).startswith("All 5.0 GB were read")
    bad = {**good, "good": False, "differences": [f"{n} differs." for n in range(7)]}
    told = job("done", VERIFY, verdict=bad)
    assert state_words(told) == "Damaged"
    lines = outcome_words(told).split("\n")
    assert lines[1] == "– 0 differs."
    assert lines[-1] == "– and 2 more"
    assert size_words(told) == ""


def test_the_outcome_is_the_error_or_the_proof() -> None:
    assert outcome_words(job("failed", error={"code": "x", "text": "It broke."})) == "It broke."
    assert "no receipt" in outcome_words(job("done"))
    assert "Nothing that was done is lost" in outcome_words(job("interrupted"))
    assert outcome_words(job("done", FETCH)) == ""
    assert size_words(job("done", files=["/m/a", "/m/b"])) == "2 files, 156.4 GB"
    # What was fetched to make it is no part of it.
    both = PROGRESS.model_copy(update={"total_bytes": 323 * 10**9, "fetch_bytes": 166 * 10**9})
    made = job("done", {**FETCH, "convert": {"consume": True}}, files=["/m/a"], progress=both)
    assert size_words(made) == "1 file, 157.0 GB"
    only = both.model_copy(update={"total_bytes": 166 * 10**9})
    assert size_words(job("done", FETCH, files=["/m/a"], progress=only)) == "1 file, 166.0 GB"


def test_what_may_be_all_there_is_cannot_be_deleted_by_cancelling() -> None:
    assert cancel_words(job())[3] == "Cancel and delete"
    assert cancel_words(job(asked={**CONVERT, "consume": True}))[3] is None
    assert cancel_words(job(asked=FETCH))[3] == "Cancel and delete"
    # What a download has consumed, the hub has still; and what it wrote is in no list to be removed from.
    assert cancel_words(job(asked={**FETCH, "convert": {"consume": True}}))[3] == "Cancel and delete"
    assert cancel_words(job(asked=VERIFY))[3] is cancel_words(job(asked=MOVE))[3] is None
