"""`seamount bench`: how fast this machine is, and how fast a model runs on it, as lines or as JSON.

Owns: what is printed. Measuring the machine is `placement.measurement`, running a model is `model_bench`.
"""

import datetime
import json
import sys
from typing import Any

from engine.errors import SeamountError
from engine.model_table import size_text
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.hardware_record import HardwareRecord, read_record, write_record
from engine.placement.measurement import measure
from engine.protocol import ErrorBody


def bench_hardware(folder: DataFolder, *, as_json: bool) -> int:
    """Measure this machine and keep the result in the data folder; exit status 0, with `as_json` 1 for an error.

    Raises HardwareUnmeasured, DataFolderError unless `as_json`.
    """
    try:
        folder.create()
        record, trouble = _measured(folder, quiet=as_json)
    except SeamountError as error:
        return _told(error, as_json=as_json)
    if as_json:
        print(json.dumps(facts_of(record) | {"disk_problem": trouble}, indent=2))
        return 0
    for line in lines_of(record, trouble):
        print(line)
    return 0


def lines_of(record: HardwareRecord, trouble: str | None = None) -> list[str]:
    """A record for people; `trouble`: why the disk could not be measured."""
    threads = f"{record.memory_threads} thread{'s' if record.memory_threads > 1 else ''}"
    lines = [
        f"memory      {_rate(record.memory_bytes_per_s)} by {threads}, {_rate(record.memory_one_bytes_per_s)} by one",
        f"processor   {record.arithmetic_per_s / 1e9:.0f} thousand million multiplications a second",
    ]
    if record.disk is None:
        lines.append(f"disk        not measured{f': {trouble}' if trouble else ''}")
    else:
        lines.append(
            f"disk        {_rate(record.disk.sequential_bytes_per_s)} from start to end, "
            f"{_rate(record.disk.random_bytes_per_s)} in pieces, {_rate(record.disk.mapped_bytes_per_s)} by page faults"
        )
    when = datetime.datetime.fromtimestamp(record.measured_at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    busy = "" if record.load is None else f", at a load of {record.load:.1f}"
    battery = ", on battery" if record.on_battery else ""
    return [*lines, f"measured    {when}{busy}{battery}"]


def facts_of(record: HardwareRecord) -> dict[str, Any]:
    """A record as JSON; what models gave is left out."""
    return record.model_dump(exclude={"observed"})


def _measured(folder: DataFolder, *, quiet: bool) -> tuple[HardwareRecord, str | None]:
    """Measure, and keep the result with what was seen of models before, if this is still the same machine."""
    built = hardware.llama_cpp()
    gpus = () if isinstance(built, str) else built.gpus

    def on_step(text: str) -> None:
        if not quiet:
            print(f"measuring {text} …", file=sys.stderr, flush=True)

    record, trouble = measure(folder.models, on_step, gpus)
    before = read_record(folder.root)
    if before is not None and before.fingerprint.agrees(record.fingerprint):
        # Those ratios are to forecasts of the old figures, which differ from the new ones by noise.
        record = record.model_copy(update={"observed": before.observed})
    write_record(folder.root, record)
    return record, trouble


def _told(error: SeamountError, *, as_json: bool) -> int:
    if not as_json:
        raise error
    body: dict[str, Any] = ErrorBody(code=error.code, text=error.text).model_dump()
    print(json.dumps({"error": body}, ensure_ascii=False))
    return 1


def _rate(bytes_per_s: float) -> str:
    return f"{size_text(int(bytes_per_s))}/s"
