"""Which numbers of threads were found best here, kept in `threads.json` in the data folder.

Owns: the file's shape, reading it so that nothing in it can do harm, and telling whether what it says still holds: for
the same model placed in the same way on the same processor, found while little else ran. Does not try anything
(`engine.backends.llama_threads`). A file that is broken or of another format is as none: what is in it is found anew.
"""

import logging
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.atomic_file import write_atomically
from engine.placement.hardware import Processor
from engine.placement.load_plan import LoadPlan
from engine.placement.thread_choice import ThreadChoice

FORMAT = 1
NAME = "threads.json"
MAX_BYTES = 1 << 20
MOST_MODELS = 200
QUIET_CORES = 0.25
"""As much of a core other programs may have used while it was tried; beyond, it is tried again at the next load."""

_log = logging.getLogger(__name__)

_Threads = Annotated[int, Field(ge=1, le=65536)]
_Gain = Annotated[float, Field(gt=0, lt=1e6, allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class KeptThreads(_Part):
    """What one trial found. `busy_cores`: cores' worth of time that other programs took meanwhile."""

    decode: _Threads
    prompt: _Threads
    free: _Threads
    decode_gain: _Gain
    prompt_gain: _Gain
    busy_cores: Annotated[float, Field(ge=0, le=65536, allow_inf_nan=False)]


class _Record(_Part):
    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    found: Annotated[
        dict[Annotated[str, Field(max_length=1000)], KeptThreads], Field(max_length=MOST_MODELS)
    ] = Field(default_factory=dict[str, KeptThreads])


def thread_key(model_key: str, plan: LoadPlan, processor: Processor) -> str:
    """What must be the same for a choice to hold: model, where it lies, and what computes."""
    place = (
        "processor" if plan.gpu is None else f"{plan.gpu} {plan.gpu_layers} {plan.held_bytes('gpu') >> 20}"
    )
    copied = "copied" if plan.copied else "mapped" if plan.memory_mapped else "read"
    cores = f"{processor.name} {processor.cores} of {processor.usable}"
    return f"{model_key} | {place} {copied} {plan.cache_type} | {cores}"[:1000]


def kept_choice(root: Path, key: str, *, as_before: bool = False) -> ThreadChoice | None:
    """What was found under that key on a quiet machine; `as_before`: also on a busy one. None for nothing. Raises
    nothing."""
    found = _read(root).found.get(key)
    if found is None or (found.busy_cores > QUIET_CORES and not as_before):
        return None
    return ThreadChoice(found.decode, found.prompt, found.free, found.decode_gain, found.prompt_gain)


def keep_choice(root: Path, key: str, choice: ThreadChoice, busy_cores: float) -> None:
    """Keep what was found; of too many the one noted first is forgotten. A file that cannot be written is only
    logged: then it is tried again next time."""
    before = {name: each for name, each in _read(root).found.items() if name != key}
    for name in list(before)[: max(0, len(before) - MOST_MODELS + 1)]:
        del before[name]
    try:
        kept = KeptThreads(
            decode=choice.decode,
            prompt=choice.prompt,
            free=choice.free,
            decode_gain=choice.decode_gain,
            prompt_gain=choice.prompt_gain,
            busy_cores=busy_cores,
        )
        record = _Record(found=before | {key: kept})
        write_atomically(root / NAME, record.model_dump_json(indent=2).encode() + b"\n")
    except (OSError, ValidationError) as error:
        _log.warning("the number of threads found best is not kept: %s", type(error).__name__)


def _read(root: Path) -> _Record:
    path = root / NAME
    try:
        if path.stat().st_size > MAX_BYTES:
            return _Record()
        return _Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Record()
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        _log.warning("%s is ignored: %s", path, type(error).__name__)
        return _Record()
