"""Clusters as people write them."""

import pytest

from engine.errors import BadRequest
from engine.placement.cluster_nodes import CARDS, Cluster, memory_text, read_cluster

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("written", "gpus", "gpu_bytes"),
    [
        ("8x80", 8, 80 * GB),
        ("8x80GB", 8, 80 * GB),
        (" 8 x 80 gb ", 8, 80 * GB),
        ("8×80G", 8, 80 * GB),
        ("8*80", 8, 80 * GB),
        ("8x80GiB", 8, 80 << 30),
        ("8xH100", 8, 80 * GB),
        ("8 x NVIDIA H200", 8, 141 * GB),
        ("8xRTX PRO 6000", 8, 96 * GB),
        ("4xgb300", 4, 268 * GB),
        ("1x80", 1, 80 * GB),
        ("3x24", 3, 24 * GB),
        ("72x186", 72, 186 * GB),
        ("4x80+4x80", 8, 80 * GB),
        ("4xH100 + 2x80", 6, 80 * GB),
    ],
)
def test_it_is_read(written: str, gpus: int, gpu_bytes: int) -> None:
    assert read_cluster(written, 2) == Cluster(2, gpus, gpu_bytes)


@pytest.mark.parametrize(
    ("written", "nodes", "why"),
    [
        ("", 1, "nothing does not say"),
        ("8", 1, "8 does not say how many GPUs"),
        ("x80", 1, "does not say"),
        ("8x", 1, "does not say"),
        ("8x80x2", 1, "does not say"),
        ("8x80TB", 1, "does not say"),
        ("-8x80", 1, "does not say"),
        ("8x8.5", 1, "does not say"),
        ("8x80\n8x80", 1, "does not say"),
        ("٨x80", 1, "does not say"),
        ("0x80", 1, "0 GPUs in one machine"),
        ("73x80", 1, "73 GPUs in one machine"),
        ("999999x80", 1, "999999 GPUs"),
        ("8x4", 1, "4 GB of memory for one GPU"),
        ("8x4096", 1, "4096 GB of memory"),
        ("8xA100", 1, "the GPU a100 is not known"),
        ("4x80+4x40", 1, "GPUs of several kinds"),
        ("4xH100,4xH200", 1, "GPUs of several kinds"),
        ("8x80" * 100, 1, "too long"),
        ("8x80", 0, "0 machines"),
        ("8x80", 65, "65 machines"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(written: str, nodes: int, why: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_cluster(written, nodes)
    assert why in refused.value.text
    assert refused.value.text.count("\n") == 0 or "\n" in written


def test_it_is_said_as_people_say_it() -> None:
    assert read_cluster("8x80", 2).text == "2 machines, each with 8 GPUs of 80 GB"
    assert read_cluster("1x80", 1).text == "one machine with one GPU of 80 GB"
    assert memory_text(80 << 30) == "85.9 GB"


def test_every_card_can_be_written_in_a_numbers_place() -> None:
    for card, size in CARDS.items():
        assert read_cluster(f"2x{card}", 1).gpu_bytes == size * GB
