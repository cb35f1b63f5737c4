"""One measurement of this machine as a whole, in well under a minute.

Owns: what is measured, in which order, and with how many threads. Does not keep the result (`hardware_record`) and
does not know how anything is measured (`bandwidth`).
"""

import time
from collections.abc import Callable
from pathlib import Path

import psutil

from engine.errors import HardwareUnmeasured
from engine.placement import bandwidth, device_measurement, hardware
from engine.placement.hardware_record import (
    Fingerprint,
    HardwareRecord,
    MeasuredDisk,
    fingerprint,
    read_record,
)


def present_fingerprint(models: Path, gpus: tuple[hardware.Gpu, ...] = ()) -> Fingerprint:
    """Of this machine as it is now; `models`: the folder whose disk counts."""
    return fingerprint(hardware.processor(), hardware.memory(), gpus, hardware.disk_of(models))


def present_record(root: Path, models: Path, gpus: tuple[hardware.Gpu, ...] = ()) -> HardwareRecord | None:
    """What was measured, by the data folder `root`; None where that never happened, or this machine is another by
    now. Raises nothing."""
    record = read_record(root)
    return (
        record
        if record is not None and record.fingerprint.agrees(present_fingerprint(models, gpus))
        else None
    )


def measure(
    models: Path, on_step: Callable[[str], None], gpus: tuple[hardware.Gpu, ...] = ()
) -> tuple[HardwareRecord, str | None]:
    """Measure memory, processor, `gpus` and the disk of the folder `models`; the record, and why its disk could not be.

    `on_step(text)` is told what is measured next. A GPU that cannot be measured says why in its place in the record.
    Raises HardwareUnmeasured when there is not even memory to measure with.
    """
    load = _load()
    processor, memory = hardware.processor(), hardware.memory()
    on_step("memory")
    rates: list[float] = []
    for threads in (processor.cores, 1):
        rate = bandwidth.memory_rate(threads, memory.available_bytes)
        if isinstance(rate, bandwidth.Unmeasured):
            raise HardwareUnmeasured("This machine cannot be measured", rate.why, "close other programs")
        rates.append(rate)
    on_step("processor")
    arithmetic = bandwidth.arithmetic_rate()
    # A core stays free, as when a model computes: llama.cpp's threads wait for the one that shares its core.
    plain = device_measurement.device_rates(
        "cpu",
        threads=max(1, processor.cores - 1),
        limit_bytes=min(device_measurement.LIMIT_BYTES, memory.available_bytes // 4),
        timeout_s=device_measurement.PROCESSOR_S,
    )
    if gpus:
        on_step(gpus[0].name if len(gpus) == 1 else f"{len(gpus)} GPUs")
    measured_gpus = device_measurement.measured_gpus(gpus, memory.available_bytes)
    on_step("disk")
    disk = bandwidth.disk_rates(models)
    told = isinstance(disk, bandwidth.Unmeasured)
    record = HardwareRecord(
        measured_at=time.time(),
        load=load,
        on_battery=hardware.surroundings().on_battery,
        fingerprint=fingerprint(processor, memory, gpus, hardware.disk_of(models)),
        # One thread may have had more than all of them together, on a busy machine or with a single core.
        memory_threads=processor.cores if rates[0] >= rates[1] else 1,
        memory_bytes_per_s=max(rates),
        memory_one_bytes_per_s=rates[1],
        arithmetic_per_s=arithmetic,
        disk=None
        if told
        else MeasuredDisk(
            sequential_bytes_per_s=disk.sequential_bytes_per_s,
            random_bytes_per_s=disk.random_bytes_per_s,
            mapped_bytes_per_s=disk.mapped_bytes_per_s,
        ),
        gpus=measured_gpus,
        plain=None if isinstance(plain, bandwidth.Unmeasured) else plain,
    )
    return record, disk.why if told else None


def _load() -> float | None:
    try:
        return psutil.getloadavg()[0]
    except (AttributeError, OSError):
        return None
