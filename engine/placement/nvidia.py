"""What NVIDIA's own library (NVML) says of GPUs: their memory as it is now, and the slot that they sit in.

Owns: asking it, and which of its GPUs is which of llama.cpp's. Does not know what is done with the answer. Where there
is no NVIDIA driver it is quiet; a GPU that does not answer is as good as absent, and nothing is raised.
Needs nvidia-ml-py, whose module is `pynvml`; the library itself comes with the driver.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from engine.placement.hardware import Gpu

_logger = logging.getLogger(__name__)
CUDA = "CUDA"
"""What ggml calls its part that reaches these GPUs alone; Vulkan reaches them too, and others."""
LARGEST_DIFFERENCE = 0.05
"""CUDA's total memory is less than NVML's by what the driver keeps (0.6 % on an H100). Where they differ by more, the
device is a part of a GPU (MIG), of which NVML's figures for the whole say nothing."""


@dataclass(frozen=True)
class NvidiaGpu:
    """A GPU as NVML sees it. PCIe: generation and lanes as they are now (a GPU that rests goes slower) and the most
    that GPU and slot can do together; 0 where it does not tell. `pci_id` as in `Gpu`."""

    name: str
    pci_id: str
    uuid: str
    total_bytes: int
    free_bytes: int
    driver: str
    pcie_generation: int
    pcie_lanes: int
    pcie_generation_most: int
    pcie_lanes_most: int


@dataclass(frozen=True)
class Seen:
    """All that answer, and how many there are that cannot compute: lost to the driver until a restart, or without
    the power they need (a laptop's on battery)."""

    gpus: tuple[NvidiaGpu, ...] = ()
    absent: int = 0


def nvidia_gpus(library: Any = None) -> Seen:
    """Every NVIDIA GPU of this machine, in NVML's order (that of the bus). Raises nothing.

    `library`: `pynvml`, or what answers like it. Takes some milliseconds, a second where the driver sleeps.
    """
    nvml = _pynvml() if library is None else library
    if nvml is None:
        return Seen()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        # No driver is the usual case on a machine without such a GPU.
        if _code(error) not in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
            _logger.warning("NVIDIA's library does not answer (%s)", error)
        return Seen()
    try:
        return _seen(nvml)
    except (nvml.NVMLError, ValueError, TypeError) as error:
        _logger.warning("NVIDIA's library does not tell its GPUs (%s)", error)
        return Seen()
    finally:
        try:
            nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            _logger.info("NVIDIA's library did not close (%s)", error)


def refreshed(gpus: Sequence[Gpu], library: Any = None) -> tuple[Gpu, ...]:
    """llama.cpp's list of GPUs with the memory that is free now, as far as NVML knows them.

    They are the same GPU where their PCI ids are: CUDA may list them in another order, or only some
    (CUDA_VISIBLE_DEVICES). One that NVML has lost is left out. What NVML calls free has not been lessened by what a
    CUDA context takes (some 500 MB).
    """
    if not any(gpu.pci_id for gpu in gpus):
        return tuple(gpus)
    seen = nvidia_gpus(library)
    now: list[Gpu] = []
    for gpu in gpus:
        known = matching(gpu, seen)
        if known is None and seen.absent and gpu.backend == CUDA:
            continue
        if known is None or abs(known.total_bytes - gpu.total_bytes) > LARGEST_DIFFERENCE * known.total_bytes:
            now.append(gpu)
        else:
            now.append(replace(gpu, free_bytes=min(known.free_bytes, gpu.total_bytes)))
    return tuple(now)


def matching(gpu: Gpu, seen: Seen) -> NvidiaGpu | None:
    """Which of NVML's GPUs llama.cpp's `gpu` is; None where it is none of them."""
    return next((each for each in seen.gpus if gpu.pci_id and each.pci_id == gpu.pci_id), None)


def pci_id(text: str) -> str:
    """NVML's `00000000:C1:00.0` as ggml writes it, `0000:c1:00.0`."""
    domain, _, rest = text.strip().lower().partition(":")
    try:
        return f"{int(domain, 16):04x}:{rest}"
    except ValueError:
        return text.strip().lower()


def _seen(nvml: Any) -> Seen:
    driver = _text(nvml.nvmlSystemGetDriverVersion())
    gpus: list[NvidiaGpu] = []
    absent = 0
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            gpus.append(
                NvidiaGpu(
                    name=_text(nvml.nvmlDeviceGetName(handle)),
                    pci_id=pci_id(_text(nvml.nvmlDeviceGetPciInfo(handle).busId)),
                    uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
                    total_bytes=int(memory.total),
                    free_bytes=max(0, min(int(memory.free), int(memory.total))),
                    driver=driver,
                    pcie_generation=_number(nvml, nvml.nvmlDeviceGetCurrPcieLinkGeneration, handle),
                    pcie_lanes=_number(nvml, nvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
                    pcie_generation_most=_number(nvml, nvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
                    pcie_lanes_most=_number(nvml, nvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
                )
            )
        except nvml.NVMLError as error:
            _logger.warning("GPU %d does not answer NVIDIA's library (%s)", number, error)
            absent += _is_absent(nvml, error)
    return Seen(tuple(gpus), absent)


def _number(nvml: Any, question: Any, handle: Any) -> int:
    """A figure that not every GPU has; 0 for none."""
    try:
        return int(question(handle))
    except nvml.NVMLError as error:
        if _is_absent(nvml, error):
            raise
        return 0


def _is_absent(nvml: Any, error: Any) -> bool:
    return _code(error) in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_INSUFFICIENT_POWER)


def _code(error: Any) -> int:
    return int(getattr(error, "value", -1))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return cast(Any, pynvml)
