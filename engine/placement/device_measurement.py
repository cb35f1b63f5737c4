"""How fast each of llama.cpp's devices is, asked of a program that measures one of them and ends.

Owns: that program's start, its time, what becomes of its end, and reading its answer with suspicion. Does not know
how anything is measured (`backends.llama_device_rates`): a driver that crashes or hangs takes only that program.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from engine import own_program
from engine.placement.bandwidth import Unmeasured
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import DeviceRates, MeasuredGpu

ALL_GPUS_S = 18.0
"""For all GPUs together: the whole measurement of a machine is to take less than a minute."""
PROCESSOR_S = 20.0
LIMIT_BYTES = 1 << 30
"""Taken of a device's memory, and about as much of this machine's."""
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from engine.backends.llama_device_rates import main
sys.exit(main(sys.argv[2:]))
"""
_ANSWER = "rates of a device: "
_LONGEST_ANSWER = 1 << 16


def device_rates(
    which: str, *, threads: int = 0, limit_bytes: int = LIMIT_BYTES, timeout_s: float = ALL_GPUS_S
) -> DeviceRates | Unmeasured:
    """Of `cpu` with so many threads, or of the GPU with that number in llama.cpp's list."""
    command = own_program.code_command(_PROGRAM, str(_ROOT), which, str(threads), str(limit_bytes))
    return rates_told(command, threads=threads, timeout_s=timeout_s)


def rates_told(command: Sequence[str], *, threads: int, timeout_s: float) -> DeviceRates | Unmeasured:
    """What a program says that measures a device."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Unmeasured(f"its driver took longer than {timeout_s:.0f} s")
    except OSError as error:
        return Unmeasured(error.strerror or str(error))
    told = next((line for line in done.stdout.splitlines() if line.startswith(_ANSWER)), None)
    if told is None:
        lines = done.stderr.strip().splitlines()
        end = f"its driver ended the measurement with status {done.returncode}"
        return Unmeasured(f"{end} ({lines[-1][:200]})" if lines else end)
    try:
        answer = json.loads(told.removeprefix(_ANSWER)[:_LONGEST_ANSWER])
        if "why" in answer:
            return Unmeasured(str(answer["why"])[:500])
        return DeviceRates.model_validate(answer["rates"] | {"threads": threads})
    except (ValueError, TypeError, KeyError, ValidationError):
        return Unmeasured("its figures make no sense")


def measured_gpus(gpus: Sequence[Gpu], available_bytes: int) -> list[MeasuredGpu]:
    """All GPUs, in their order; two of the same kind are measured once. `available_bytes`: of this machine's memory."""
    ends_s = time.monotonic() + ALL_GPUS_S
    limit_bytes = min(LIMIT_BYTES, available_bytes // 4)
    found: dict[tuple[str, int], MeasuredGpu] = {}
    for number, gpu in enumerate(gpus):
        kind = (gpu.name, gpu.total_bytes)
        if kind in found:
            continue
        left_s = ends_s - time.monotonic()
        rates: DeviceRates | Unmeasured = Unmeasured("those before it took all the time there is")
        if left_s > 1:
            rates = device_rates(str(number), limit_bytes=limit_bytes, timeout_s=left_s)
        name = gpu.name[:500]
        found[kind] = (
            MeasuredGpu(name=name, why=rates.why)
            if isinstance(rates, Unmeasured)
            else MeasuredGpu(name=name, rates=rates)
        )
    return [found[gpu.name, gpu.total_bytes] for gpu in gpus][:64]
