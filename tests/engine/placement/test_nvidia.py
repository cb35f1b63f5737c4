"""What NVIDIA's library says, played by an object that answers like it."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from engine.placement.hardware import Gpu
from engine.placement.nvidia import NvidiaGpu, Seen, matching, nvidia_gpus, pci_id, refreshed

GIB = 1 << 30


class FakeError(Exception):
    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(f"error {value}")


@dataclass
class FakeNvml:
    """`pynvml` with as many GPUs as `memory` has entries (total, free); `broken`: question and index → code."""

    memory: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    broken: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    init_code: int = 0
    ended: int = 0
    NVMLError = FakeError
    NVML_ERROR_INSUFFICIENT_POWER = 8
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_GPU_IS_LOST = 15

    def nvmlInit(self) -> None:
        if self.init_code:
            raise FakeError(self.init_code)

    def nvmlShutdown(self) -> None:
        self.ended += 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.memory)

    def __getattr__(self, name: str) -> Callable[[int], Any]:
        answers: dict[str, Callable[[int], Any]] = {
            "nvmlDeviceGetHandleByIndex": lambda at: at,
            "nvmlDeviceGetName": lambda at: f"H{at}".encode(),
            "nvmlDeviceGetUUID": lambda at: f"GPU-{at}",
            "nvmlDeviceGetPciInfo": lambda at: SimpleNamespace(busId=f"0000000{at}:C1:00.0".encode()),
            "nvmlDeviceGetMemoryInfo": lambda at: SimpleNamespace(
                total=self.memory[at][0], free=self.memory[at][1]
            ),
            "nvmlDeviceGetCurrPcieLinkGeneration": lambda _at: 1,
            "nvmlDeviceGetCurrPcieLinkWidth": lambda _at: 16,
            "nvmlDeviceGetMaxPcieLinkGeneration": lambda _at: 5,
            "nvmlDeviceGetMaxPcieLinkWidth": lambda _at: 16,
        }

        def ask(at: int) -> Any:
            if code := self.broken.get((name, at)):
                raise FakeError(code)
            return answers[name](at)

        if name not in answers:
            raise AttributeError(name)
        return ask


def gpu(at: int, total_bytes: int = 80 * GIB, free_bytes: int = 70 * GIB, backend: str = "CUDA") -> Gpu:
    return Gpu(f"H{at}", total_bytes, free_bytes, f"{backend}{at}", backend, False, f"000{at}:c1:00.0")


def test_what_a_gpu_says_is_kept() -> None:
    nvml = FakeNvml([(81 * GIB, 60 * GIB)])
    expected = NvidiaGpu("H0", "0000:c1:00.0", "GPU-0", 81 * GIB, 60 * GIB, "580.1", 1, 16, 5, 16)
    assert nvidia_gpus(nvml) == Seen((expected,), 0)
    assert nvml.ended == 1
    assert matching(gpu(0), Seen((expected,))) == expected
    assert matching(gpu(1), Seen((expected,))) is None
    assert matching(Gpu("H0", 1, 1), Seen((expected,))) is None


def test_the_free_memory_is_that_of_now_and_of_the_same_gpu_in_any_order() -> None:
    nvml = FakeNvml([(81 * GIB, 10 * GIB), (81 * GIB, 20 * GIB), (81 * GIB, 30 * GIB)])
    now = refreshed([gpu(2), gpu(0), gpu(1, backend="Vulkan")], nvml)
    assert [each.free_bytes for each in now] == [30 * GIB, 10 * GIB, 20 * GIB]
    assert [each.total_bytes for each in now] == [80 * GIB] * 3
    # Nothing can be free that CUDA does not count.
    assert refreshed([gpu(0)], FakeNvml([(81 * GIB, 81 * GIB)]))[0].free_bytes == 80 * GIB


def test_a_part_of_a_gpu_keeps_its_own_figures() -> None:
    part = gpu(0, total_bytes=10 * GIB, free_bytes=9 * GIB)
    assert refreshed([part], FakeNvml([(81 * GIB, 60 * GIB)])) == (part,)


def test_what_nvml_does_not_know_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    others = (Gpu("Radeon", 16 * GIB, 15 * GIB, "Vulkan0", "Vulkan"), gpu(5))
    assert refreshed(others, FakeNvml([(81 * GIB, GIB)])) == others
    with caplog.at_level(logging.WARNING):
        for code in (FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND, FakeNvml.NVML_ERROR_DRIVER_NOT_LOADED):
            assert refreshed([gpu(0)], FakeNvml(init_code=code)) == (gpu(0),)
        assert not caplog.records
        assert refreshed([gpu(0)], FakeNvml(init_code=999)) == (gpu(0),)
    assert "does not answer" in caplog.text


@pytest.mark.parametrize("question", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetCurrPcieLinkWidth"])
@pytest.mark.parametrize("code", [FakeNvml.NVML_ERROR_GPU_IS_LOST, FakeNvml.NVML_ERROR_INSUFFICIENT_POWER])
def test_a_gpu_that_disappeared_is_absent(question: str, code: int) -> None:
    nvml = FakeNvml([(81 * GIB, 10 * GIB), (81 * GIB, 20 * GIB)], {(question, 0): code})
    assert [each.pci_id for each in nvidia_gpus(nvml).gpus] == ["0001:c1:00.0"]
    assert [each.device for each in refreshed([gpu(0), gpu(1)], nvml)] == ["CUDA1"]


def test_one_that_only_does_not_answer_is_not(caplog: pytest.LogCaptureFixture) -> None:
    nvml = FakeNvml(
        [(81 * GIB, 10 * GIB), (81 * GIB, 20 * GIB)],
        {("nvmlDeviceGetMemoryInfo", 0): 999, ("nvmlDeviceGetMaxPcieLinkGeneration", 1): 3},
    )
    now = refreshed([gpu(0), gpu(1)], nvml)
    assert [each.free_bytes for each in now] == [70 * GIB, 20 * GIB]
    assert nvidia_gpus(nvml).gpus[0].pcie_generation_most == 0
    assert "GPU 0 does not answer" in caplog.text


def test_an_answer_that_makes_no_sense_is_none(caplog: pytest.LogCaptureFixture) -> None:
    nvml = FakeNvml([(81 * GIB, 10 * GIB)])
    nvml.nvmlDeviceGetCount = lambda: "many"  # type: ignore[method-assign]
    assert nvidia_gpus(nvml) == Seen()
    assert "does not tell" in caplog.text
    assert nvml.ended == 1


def test_ids_are_written_as_ggml_does() -> None:
    assert pci_id("00000000:C1:00.0") == "0000:c1:00.0"
    assert pci_id(" 00010000:01:00.0") == "10000:01:00.0"
    assert pci_id("nonsense") == "nonsense"
