"""What is said of an optional part."""

from typing import Any

import pytest

from app.part_words import part_words, task_share, task_words, variant_words
from engine.protocol import ErrorBody
from engine.protocol_parts import PartEntry, PartTask, PartVariant

CPU = PartVariant(
    name="cpu",
    title="for the processor",
    download_bytes=200_700_000,
    unpacked_bytes=735_100_000,
    needed_bytes=1_118_700_000,
)
ABSENT = PartEntry(
    name="native",
    title="PyTorch",
    state="absent",
    variants=[CPU],
    suited="cpu",
    why="no NVIDIA GPU was found here",
    free_bytes=10**12,
)
RUNNING = PartTask(id="1", part="native", variant="cpu", state="running", total_bytes=200_700_000)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {},
            "PyTorch is not installed. Only DeepSeek-V4 is computed with it, and none is here. It takes 735.1 MB on "
            "the disk (for the processor, because no NVIDIA GPU was found here).",
        ),
        (
            {"pays": True, "free_bytes": 10**9},
            "PyTorch is not installed. A DeepSeek-V4 is here, which Seamount's own engine computes with it: exact, and "
            "slower than llama.cpp for now. It takes 735.1 MB on the disk (for the processor, because no NVIDIA GPU "
            "was found here). There is not the room for it: 1.1 GB are needed, and 1.0 GB are free.",
        ),
        (
            {"state": "installed", "version": "2.13.0+cpu", "unpacked_bytes": 735_100_000},
            "PyTorch 2.13.0+cpu is installed and takes 735.1 MB.",
        ),
        (
            {"state": "installed", "version": "2.13.0+cpu", "unpacked_bytes": 735_100_000, "in_use": True},
            "PyTorch 2.13.0+cpu is installed and takes 735.1 MB. In use by this engine now.",
        ),
        (
            {"state": "outdated", "version": "2.9"},
            "PyTorch 2.9 is installed; this version of Seamount goes with a newer set.",
        ),
        ({"state": "outside", "version": "2.11"}, "The Python that runs Seamount has PyTorch 2.11."),
        (
            {"state": "elsewhere", "why": "it is for another", "how": "get it so", "variants": []},
            "Not to be had here: it is for another; get it so.",
        ),
    ],
)
def test_what_is_there(changed: dict[str, Any], words: str) -> None:
    assert part_words(ABSENT.model_copy(update=changed)) == words


@pytest.mark.parametrize(
    ("changed", "words", "share"),
    [
        ({}, "0 bytes of 200.7 MB", 0.0),
        (
            {
                "done_bytes": 100_350_000,
                "bytes_per_s": 3.1e6,
                "seconds_left": 62.0,
                "item": "torch 2.13.0+cpu",
            },
            "torch 2.13.0+cpu: 100.3 MB of 200.7 MB, 3.1 MB a second, 1 min 2 s left",
            0.5,
        ),
        ({"total_bytes": 0}, "0 bytes of 0 bytes", 0.0),
        ({"state": "stopped"}, "Stopped. Nothing of it is left, and the next time begins anew.", 0.0),
        (
            {"state": "failed", "error": ErrorBody(code="x", text="The disk is full.")},
            "The disk is full.",
            0.0,
        ),
        ({"state": "failed"}, "It failed, and gave no reason; try once more.", 0.0),
    ],
)
def test_how_far_it_is(changed: dict[str, Any], words: str, share: float) -> None:
    task = RUNNING.model_copy(update=changed)
    assert task_words(task) == words
    assert task_share(task) == pytest.approx(share)


def test_a_set_in_the_list() -> None:
    assert variant_words(CPU) == "For the processor, 200.7 MB to download"
