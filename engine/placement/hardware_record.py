"""What was measured of this machine, kept in `hardware.json` in the data folder until the machine changes.

Owns: the file's shape, reading it so that nothing in it can do harm, and telling whether it is still about this
machine. Does not measure (`bandwidth`). A file that is broken, of another format or of another machine is as none.
"""

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.atomic_file import is_disk_full, write_atomically
from engine.errors import DataFolderError, DiskFull
from engine.placement.hardware import Gpu, Memory, Processor

FORMAT = 1
NAME = "hardware.json"
MAX_BYTES = 1 << 20
MOST_MODELS = 200
_SAME_MEMORY = 0.02
"""A kernel update changes what is left of the memory by less than this share; a module taken out by more."""

_log = logging.getLogger(__name__)

_Rate = Annotated[float, Field(ge=1, lt=1e18, allow_inf_nan=False)]
"""Nothing is slower than one a second; what is divided by a rate stays finite."""
_Count = Annotated[int, Field(ge=0, le=1 << 60)]
_Text = Annotated[str, Field(max_length=500)]
_Seconds = Annotated[float, Field(gt=0, lt=1000, allow_inf_nan=False)]
_Ratio = Annotated[float, Field(gt=0.001, lt=1000, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Fingerprint(_Part):
    """What must be the same for a measurement to hold."""

    processor: _Text
    cores: _Count
    memory_bytes: _Count
    gpus: Annotated[list[_Text], Field(max_length=64)] = Field(default_factory=list[str])
    disk: _Text

    def agrees(self, other: "Fingerprint") -> bool:
        """Whether both are of the same machine as it stands; the memory may differ by a little."""
        near = abs(self.memory_bytes - other.memory_bytes) <= _SAME_MEMORY * self.memory_bytes
        return near and self.model_copy(update={"memory_bytes": other.memory_bytes}) == other


class MeasuredDisk(_Part):
    """Bytes per second; see `bandwidth.DiskRates`."""

    sequential_bytes_per_s: _Rate
    random_bytes_per_s: _Rate
    mapped_bytes_per_s: _Rate


class Multiplying(_Part):
    """Of matrices of one number format: bytes of weights per second for a single token, and multiplications with
    addition per second for many tokens at once."""

    one_bytes_per_s: _Rate
    many_per_s: _Rate


class DeviceRates(_Part):
    """What one of llama.cpp's devices does; see `backends.llama_device_rates`. Bytes per second and seconds.

    `copy`: read and written within its memory. `pinned`, `pageable`: to it, from memory that its driver may reach by
    itself and from any other; `back`: from it. `operation_s`: what asking for a small operation costs; `exchange_s`:
    a token's row to the processor and back. None: it has no such thing.
    """

    threads: Annotated[int, Field(ge=0, le=65536)] = 0
    """Of a processor."""
    copy_bytes_per_s: _Rate
    pinned_bytes_per_s: _Rate | None
    pageable_bytes_per_s: _Rate
    back_bytes_per_s: _Rate
    operation_s: _Seconds
    exchange_s: _Seconds
    q8_0: Multiplying | None
    mxfp4: Multiplying | None


class MeasuredGpu(_Part):
    """A GPU of this machine; `why` there are no rates of it, a clause."""

    name: _Text
    rates: DeviceRates | None = None
    why: _Text = ""


class Observed(_Part):
    """What a model gave here, divided by what had been foretold without this knowledge. None: it was not seen."""

    decode: _Ratio | None = None
    prefill: _Ratio | None = None

    def after(self, before: "Observed | None", weight: float) -> "Observed":
        """The mean of this and what was seen before, of ratios and thus geometric; `weight`: of this, 0 to 1."""
        if before is None:
            return self
        return Observed(
            decode=_mean(self.decode, before.decode, weight),
            prefill=_mean(self.prefill, before.prefill, weight),
        )


def _mean(new: float | None, old: float | None, weight: float) -> float | None:
    if new is None or old is None:
        return old if new is None else new
    return float(new**weight * old ** (1 - weight))


class HardwareRecord(_Part):
    """`hardware.json`. `memory_threads` read the memory at `memory_bytes_per_s`; `memory_one_bytes_per_s`: one alone.

    `arithmetic_per_s`: multiplications with addition, by one core. `disk` None: it could not be measured. `gpus`: in
    llama.cpp's order. `plain`: the processor, as llama.cpp multiplies with weights that it has not reordered; None
    where that was not measured, as in records of before.
    """

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    measured_at: Annotated[float, Field(ge=0, le=3e10)]
    """Seconds since 1970, UTC; every system's calendar goes on to the end of that."""
    load: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Of the system in the minute before, where it tells: other programs make every figure smaller."""
    on_battery: bool | None = None
    fingerprint: Fingerprint
    memory_threads: Annotated[int, Field(ge=1, le=65536)]
    memory_bytes_per_s: _Rate
    memory_one_bytes_per_s: _Rate
    arithmetic_per_s: _Rate
    disk: MeasuredDisk | None = None
    gpus: Annotated[list[MeasuredGpu], Field(max_length=64)] = Field(default_factory=list[MeasuredGpu])
    plain: DeviceRates | None = None
    observed: Annotated[dict[_Text, Observed], Field(max_length=MOST_MODELS)] = Field(
        default_factory=dict[str, Observed]
    )
    """By model and placement (`forecast.observed_key`)."""

    def with_observed(self, key: str, observed: Observed) -> "HardwareRecord":
        """The record with what a model gave; of too many models the one noted first is forgotten."""
        kept = {name: each for name, each in self.observed.items() if name != key}
        for name in list(kept)[: max(0, len(kept) - MOST_MODELS + 1)]:
            del kept[name]
        return self.model_copy(update={"observed": kept | {key: observed}})


def fingerprint(processor: Processor, memory: Memory, gpus: tuple[Gpu, ...], disk: str) -> Fingerprint:
    """Of a machine as `hardware` finds it."""
    return Fingerprint(
        processor=processor.name[:500],
        cores=processor.cores,
        memory_bytes=memory.total_bytes,
        gpus=[f"{gpu.name}, {gpu.total_bytes} bytes"[:500] for gpu in gpus][:64],
        disk=disk[:500],
    )


def read_record(root: Path) -> HardwareRecord | None:
    """The record in the data folder `root`; None where there is none that can be used. Raises nothing."""
    path = root / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        return HardwareRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        _log.warning("%s is ignored: %s", path, type(error).__name__)
        return None


def write_record(root: Path, record: HardwareRecord) -> None:
    """Keep the record; after a crash there is the old one or the new. Raises DiskFull, DataFolderError."""
    path = root / NAME
    try:
        write_atomically(path, record.model_dump_json(indent=2).encode() + b"\n")
    except OSError as error:
        what, why = "The measurements of this machine cannot be kept", error.strerror or str(error)
        if is_disk_full(error):
            raise DiskFull(what, f"the disk that holds {root} is full", "free some space there") from error
        remedy = "give yourself permission to write there"
        raise DataFolderError(what, f"{path} cannot be written ({why})", remedy) from error
