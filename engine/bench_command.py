"""`seamount bench`: how fast this machine is, and how fast a model runs on it, as lines or as JSON.

Owns: what is printed. Measuring the machine is `placement.measurement`, running a model is `model_bench`.
"""

import datetime
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import BadRequest, SeamountError
from engine.model_table import size_text
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.forecast import (
    LONG_PROMPT_TOKENS,
    TYPICAL_PROMPT_TOKENS,
    Forecast,
    Range,
    Turn,
    forecast,
    foretold_rates,
    observed,
    observed_key,
)
from engine.placement.hardware_record import HardwareRecord, MeasuredGpu, read_record, write_record
from engine.placement.load_plan import LoadPlan, Place, What
from engine.placement.measurement import measure, present_fingerprint
from engine.placement.planner import Wishes
from engine.placement.present_plan import sizes_of_file
from engine.protocol import BackendChoice, ErrorBody
from engine.version import version

if TYPE_CHECKING:
    from engine.model_bench import Run
    from engine.placement.model_sizes import ModelSizes


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


@dataclass(frozen=True)
class Asked:
    """What `seamount bench MODEL` is asked for. `context_tokens` None: as many as the runs need."""

    model: str
    prompt_tokens: tuple[int, ...] = (512,)
    depths: tuple[int, ...] = (0,)
    context_tokens: int | None = None
    threads: int = 0
    backend: BackendChoice = "auto"


def bench_model(folder: DataFolder, asked: Asked, *, as_json: bool) -> int:
    """Load a model by its plan, time it, and keep what it gave beside the machine's figures; exit status 0, with
    `as_json` 1 for an error.

    Raises NotFound, ModelFileError, DoesNotFit, ModelLoadError, BadRequest, GenerationError, DataFolderError unless
    `as_json`.
    """
    try:
        folder.create()
        facts, lines = _run(folder, asked, _teller(quiet=as_json))
    except SeamountError as error:
        return _told(error, as_json=as_json)
    if as_json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    for line in lines:
        print(line)
    return 0


def _run(
    folder: DataFolder, asked: Asked, on_step: Callable[[str], None]
) -> tuple[dict[str, Any], list[str]]:
    from engine.backends.opening import open_backend
    from engine.library.models import ModelLibrary
    from engine.model_bench import DECODED_TOKENS, run_model
    from engine.parts import search_path

    entry = _entry(ModelLibrary(folder), asked.model)
    sizes = sizes_of_file(Path(entry.path))
    needed = max(asked.depths) + max(asked.prompt_tokens) + DECODED_TOKENS
    wishes = Wishes(asked.context_tokens or needed, threads=asked.threads, backend=asked.backend)
    on_step(entry.name)
    search_path.settle(search_path.native_part(folder))
    began_s = time.perf_counter()
    backend = open_backend(entry, wishes=wishes, on_progress=lambda _fraction: True, root=folder.root)
    load_s = time.perf_counter() - began_s
    try:
        plan = backend.plan
        if plan is None:
            raise BadRequest(
                f"{entry.name} cannot be measured",
                "llama.cpp places it by its own rules, without a plan that could be told with the figures",
                "use llama.cpp's own llama-bench",
            )
        runs = run_model(backend, asked.prompt_tokens, asked.depths, on_step)
        taken = backend.taken
    finally:
        backend.close()
    built = hardware.llama_cpp()
    gpus = () if isinstance(built, str) else built.gpus
    # Forecasts, and what they learn of, are llama.cpp's.
    record, foretold = (
        _foretold(folder, gpus, sizes, plan, runs) if plan.computed_by == "llamacpp" else (None, None)
    )
    rates = [None if record is None else foretold_rates(sizes, plan, record, _turn(run)) for run in runs]
    facts: dict[str, Any] = {
        "model": {"id": entry.id, "name": entry.name, "size_bytes": entry.size_bytes, "key": sizes.key},
        "engine": {
            "seamount": version(),
            "llama_cpp_python": None if isinstance(built, str) else built.version,
            "features": [] if isinstance(built, str) else list(built.features),
        },
        "plan": asdict(plan) | {"parts": _totals(plan), "placement": observed_key(sizes, plan)},
        "taken": None if taken is None else asdict(taken),
        "load_s": load_s,
        "hardware": None if record is None else facts_of(record),
        "forecast": None if foretold is None else asdict(foretold),
        "runs": [
            asdict(run)
            | {
                "prefill_tokens_per_s": run.prefill_tokens_per_s,
                "decode_tokens_per_s": run.decode_tokens_per_s,
                "first_token_s": run.prefill_s + run.decode_s,
                "foretold_prefill_tokens_per_s": None if told is None else told[0],
                "foretold_decode_tokens_per_s": None if told is None else told[1],
            }
            for run, told in zip(runs, rates, strict=True)
        ],
    }
    return facts, _model_lines(entry.name, plan, list(zip(runs, rates, strict=True)), foretold, load_s)


def _turn(run: "Run") -> Turn:
    """A run as a turn; how many tokens were written is no part of it, since their median is all that counts."""
    return Turn(run.depth_tokens, run.prompt_tokens, run.prefill_tokens_per_s, 1, run.decode_tokens_per_s)


def _foretold(
    folder: DataFolder,
    gpus: tuple[hardware.Gpu, ...],
    sizes: "ModelSizes",
    plan: LoadPlan,
    runs: "Sequence[Run]",
) -> tuple[HardwareRecord | None, Forecast | None]:
    """The record of this machine and what was foretold from it; what the model gave is then noted in the record.

    None without a record, or of a machine that has changed. The run with the least before it and the longest prompt
    counts.
    """
    record = read_record(folder.root)
    if record is None or not record.fingerprint.agrees(present_fingerprint(folder.models, gpus)):
        return None, None
    told = forecast(sizes, plan, record)
    run = min(runs, key=lambda each: (each.depth_tokens, -each.prompt_tokens))
    seen = observed(sizes, plan, record, _turn(run))
    if seen is not None:
        write_record(folder.root, record.with_observed(observed_key(sizes, plan), seen))
    return record, told


def _entry(library: Any, named: str) -> Any:
    """A model by its id or its path. Raises NotFound, ModelFileError, BadRequest."""
    from engine.engine import find_model
    from engine.model_host import HeaderError

    entry = library.entry(find_model(library, named))
    if entry.path.endswith(".script.json"):
        raise BadRequest(f"{entry.name} cannot be measured", "it is a script", "choose a model")
    if entry.problem is not None:
        raise HeaderError(entry.problem.text)
    return entry


def _model_lines(
    name: str,
    plan: LoadPlan,
    runs: "Sequence[tuple[Run, tuple[float, float] | None]]",
    foretold: Forecast | None,
    load_s: float,
) -> list[str]:
    """`runs`: each with the tokens read and written per second that were foretold of it."""
    lines = [f"{name}, {plan.threads} thread{'s' if plan.threads > 1 else ''}, loaded in {load_s:.1f} s"]
    lines += [f"  {each.what} ({each.why})" for each in plan.decisions]
    lines.append(
        f"{'behind':>9} {'prompt':>8} {'read tok/s':>12} {'foretold':>9} {'write tok/s':>12} {'foretold':>9}   "
        "slow to quick"
    )
    for run, told in runs:
        spread = f"{1 / run.decode_slow_s:.1f} to {1 / run.decode_quick_s:.1f}"
        read, written = ("", "") if told is None else (f"{told[0]:.1f}", f"{told[1]:.1f}")
        lines.append(
            f"{run.depth_tokens:>9,} {run.prompt_tokens:>8,} {run.prefill_tokens_per_s:>12.1f} {read:>9} "
            f"{run.decode_tokens_per_s:>12.1f} {written:>9}   {spread}"
        )
    if plan.computed_by == "native":
        lines.append("no forecast: nothing is foretold of the native engine")
    elif foretold is None:
        lines.append(
            "no forecast: `seamount bench --hardware` has not measured this machine, or not all of it"
        )
    else:
        lines += _foretold_lines(plan, foretold)
    return lines


def _foretold_lines(plan: LoadPlan, foretold: Forecast) -> list[str]:
    prompt = min(TYPICAL_PROMPT_TOKENS, plan.context_tokens - 1)
    lines = [
        f"foretold: read {_range(foretold.prefill_tokens_per_s)}, "
        f"write {_range(foretold.decode_tokens_per_s)} tokens a second"
        + (", by what it gave before" if foretold.seen else ""),
        f"          loaded in {_range(foretold.load_s)} s, first token after {_range(foretold.first_token_s)} s "
        f"for a prompt of {prompt:,} tokens",
    ]
    if foretold.long_prompt_s is not None:
        lines.append(f"          after {_range(foretold.long_prompt_s)} s for {LONG_PROMPT_TOKENS:,}")
    on_gpu = f"{size_text(foretold.gpu_bytes)} of the GPU, " if foretold.gpu_bytes else ""
    lines.append(
        f"          {on_gpu}{size_text(foretold.ram_bytes)} of RAM, {size_text(foretold.disk_bytes)} on the disk"
    )
    if foretold.disk_bytes_per_token.high:
        read = foretold.disk_bytes_per_token
        lines.append(
            f"          {size_text(int(read.low))} to {size_text(int(read.high))} from disk for each token written"
        )
    return lines


def _range(found: Range) -> str:
    return f"{found.likely:.1f} ({found.low:.1f} to {found.high:.1f})"


def _totals(plan: LoadPlan) -> list[dict[str, Any]]:
    """The plan's parts by kind, all layers together."""
    kinds: dict[What, None] = dict.fromkeys(part.what for part in plan.parts)
    places: tuple[Place, ...] = ("gpu", "ram", "disk")
    return [
        {"what": what} | {f"{place}_bytes": plan.part_bytes(what, place) for place in places}
        for what in kinds
    ]


def _teller(*, quiet: bool) -> Callable[[str], None]:
    def on_step(text: str) -> None:
        if not quiet:
            print(f"measuring {text} …", file=sys.stderr, flush=True)

    return on_step


def lines_of(record: HardwareRecord, trouble: str | None = None) -> list[str]:
    """A record for people; `trouble`: why the disk could not be measured."""
    threads = f"{record.memory_threads} thread{'s' if record.memory_threads > 1 else ''}"
    lines = [
        f"memory      {_rate(record.memory_bytes_per_s)} by {threads}, {_rate(record.memory_one_bytes_per_s)} by one",
        f"processor   {record.arithmetic_per_s / 1e9:.0f} thousand million multiplications a second and core",
    ]
    if record.plain is None or record.plain.mxfp4 is None:
        lines.append("            llama.cpp's own multiplications were not measured")
    else:
        count = record.plain.threads
        lines.append(
            f"            reads experts at {_rate(record.plain.mxfp4.one_bytes_per_s)} while it multiplies with them, "
            f"by {count} thread{'s' if count > 1 else ''} and in the order of the file"
        )
    for gpu in record.gpus:
        lines += _gpu_lines(gpu)
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


def _gpu_lines(gpu: MeasuredGpu) -> list[str]:
    rates = gpu.rates
    if rates is None:
        return [f"{gpu.name} not measured: {gpu.why}"]
    pinned = (
        "" if rates.pinned_bytes_per_s is None else f"{_rate(rates.pinned_bytes_per_s)} from pinned memory, "
    )
    lines = [
        f"{gpu.name}",
        f"  memory    {_rate(rates.copy_bytes_per_s)} read and written",
        f"  to it     {pinned}{_rate(rates.pageable_bytes_per_s)} from other memory; "
        f"{_rate(rates.back_bytes_per_s)} back",
        f"  waiting   {rates.operation_s * 1e6:.1f} µs for an operation, {rates.exchange_s * 1e6:.0f} µs for a token "
        "to the processor and back",
    ]
    for name, found in (("Q8_0", rates.q8_0), ("MXFP4", rates.mxfp4)):
        if found is not None:
            lines.append(
                f"  {name:<9} {_rate(found.one_bytes_per_s)} for one token, {found.many_per_s / 1e9:,.0f} "
                "thousand million multiplications a second for many"
            )
    return lines


def facts_of(record: HardwareRecord) -> dict[str, Any]:
    """A record as JSON; what models gave is left out."""
    return record.model_dump(exclude={"observed"})


def _measured(folder: DataFolder, *, quiet: bool) -> tuple[HardwareRecord, str | None]:
    """Measure, and keep the result with what was seen of models before, if this is still the same machine."""
    built = hardware.llama_cpp()
    gpus = () if isinstance(built, str) else built.gpus
    record, trouble = measure(folder.models, _teller(quiet=quiet), gpus)
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
