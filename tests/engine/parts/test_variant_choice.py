"""Which set of packages suits a machine."""

from dataclasses import replace

import pytest

from engine.parts.part_lock import read_lock
from engine.parts.variant_choice import suited
from engine.placement.nvidia import NvidiaGpu, Seen

H100 = NvidiaGpu("NVIDIA H100", "0000:c1:00.0", "GPU-1", 80 << 30, 79 << 30, "580.65.06", 5, 16, 5, 16)


@pytest.mark.parametrize(
    ("driver", "name", "why"),
    [
        (None, "cpu", "no NVIDIA GPU was found here"),
        ("580.65.06", "cuda", "NVIDIA H100 was found here"),
        ("610", "cuda", "NVIDIA H100 was found here"),
        ("1000.1", "cuda", "NVIDIA H100 was found here"),
        ("575.99", "cpu", "the driver of NVIDIA H100 is 575.99, and the set for GPUs needs 580 or newer"),
        ("", "cpu", "the driver of NVIDIA H100 is , and"),
    ],
)
def test_the_set_for_gpus_where_there_is_one_and_its_driver_is_new_enough(
    driver: str | None, name: str, why: str
) -> None:
    seen = Seen() if driver is None else Seen((replace(H100, driver=driver),))
    variant, told = suited(read_lock(), seen)
    assert variant.name == name and told.startswith(why)


def test_a_part_without_a_set_for_gpus() -> None:
    lock = read_lock()
    alone = lock.model_copy(update={"variant": lock.variant[:1]})
    assert suited(alone, Seen((H100,)))[0].name == "cpu"
