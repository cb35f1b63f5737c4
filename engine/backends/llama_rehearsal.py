"""A load rehearsed: llama.cpp goes through all of it without taking memory, and says what its buffers would take.

Owns: that run, in this process or in one of its own, and what is remembered of it. Loads llama.cpp only in the run.
A driver that crashes takes only the other process with it; where no GPU is used there is no driver, and a process of
its own would only take time.

llama.cpp's `no_alloc` gives the buffers to compute in exactly. Weights and the cache are not told of then (their
buffers are empty); those are known from the file and from the context, tensor by tensor. A file cannot be mapped in a
rehearsal, which changes nothing about the buffers.
"""

import ctypes
import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import own_program
from engine.launch import CREATION_FLAGS, child_environment
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import ComputeBytes

if TYPE_CHECKING:
    from engine.backends.llama_log import LlamaLog

TIMEOUT_S = 60.0
"""A GPU's driver takes seconds to begin with on some machines; llama.cpp itself takes half of one for Flash."""
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from engine.backends.llama_rehearsal import main; main()"
)
_ANSWER = "rehearsed "
_MOST_KEPT = 32
_kept: "OrderedDict[str, list[list[int]]]" = OrderedDict()


def rehearse(
    path: Path, plan: LoadPlan, micro_batches: Sequence[int], *, here: bool, timeout_s: float = TIMEOUT_S
) -> dict[int, ComputeBytes] | str:
    """What the buffers to compute in take with `plan` and each of these micro-batches instead of its own.

    `here`: in this process, by the thread that loads models; only for a plan that uses no GPU. A string says why it
    cannot be had.
    """
    question = _question(path, plan, micro_batches)
    try:
        found = path.stat()
    except OSError as error:
        return str(error)
    key = json.dumps([question, found.st_size, found.st_mtime_ns])
    if key in _kept:
        _kept.move_to_end(key)
    else:
        answer = _answer(question) if here and plan.gpu is None else _asked(question, timeout_s)
        if isinstance(answer, str):
            return answer
        _kept[key] = answer
        while len(_kept) > _MOST_KEPT:
            _kept.popitem(last=False)
    return {batch: ComputeBytes(*each) for batch, each in zip(micro_batches, _kept[key], strict=True)}


def main() -> None:
    """The process: a question on its standard input, the answer on its output."""
    answer = _answer(json.load(sys.stdin))
    print(_ANSWER + json.dumps(answer), flush=True)


def _question(path: Path, plan: LoadPlan, micro_batches: Sequence[int]) -> dict[str, Any]:
    return {
        "path": str(path),
        "gpu": plan.gpu,
        "gpu_number": plan.gpu_number,
        "model": plan.model_parameters() | {"load_mode": "LLAMA_LOAD_MODE_NONE", "no_alloc": True},
        "patterns": plan.tensors_in_ram(),
        "contexts": [
            plan.context_parameters() | {"n_batch": each, "n_ubatch": each} for each in micro_batches
        ],
    }


def _asked(question: dict[str, Any], timeout_s: float) -> list[list[int]] | str:
    """The answer of a process of its own, whose standard error is what llama.cpp's driver complains of."""
    try:
        done = subprocess.run(
            own_program.code_command(_PROGRAM, str(_ROOT)),
            input=json.dumps(question),
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            env=child_environment(),
            creationflags=CREATION_FLAGS,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {timeout_s:.0f} s"
    except OSError as error:
        return str(error)
    told = next((line for line in done.stdout.splitlines() if line.startswith(_ANSWER)), None)
    if done.returncode or told is None:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"it ended with status {done.returncode}"
    answer: list[list[int]] | str = json.loads(told.removeprefix(_ANSWER))
    return answer


def _answer(question: dict[str, Any]) -> list[list[int]] | str:
    """[GPU, RAM] in bytes for each context of the question; a string says why not."""
    from engine.backends.llama_library import llama
    from engine.backends.llama_loading import begin_log
    from engine.backends.llama_log import LlamaLog
    from engine.backends.llama_placement import Placement, set_parameters
    from engine.errors import ModelLoadError

    llama.llama_backend_init()
    log = LlamaLog(silent=True)
    callback = llama.llama_log_callback(log.line)
    parameters = llama.llama_model_default_params()
    set_parameters(parameters, question["model"])
    try:
        placement = Placement(question["patterns"], question["gpu"], question["gpu_number"])
    except (ImportError, ModelLoadError) as error:
        return str(error)
    placement.apply(parameters)
    path = question["path"].encode("utf-8", "surrogateescape")
    model = None
    llama.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        model = llama.llama_model_load_from_file(path, parameters)
        if not model:
            return log.reason()
        return [_compute_bytes(model, each, log) for each in question["contexts"]]
    except MemoryError:
        return log.reason()
    finally:
        if model:
            llama.llama_model_free(model)
        begin_log()


def _compute_bytes(model: Any, values: dict[str, int | bool | str], log: "LlamaLog") -> list[int]:
    """[GPU, RAM]. Raises MemoryError where llama.cpp makes no such context."""
    from engine.backends.llama_library import llama
    from engine.backends.llama_placement import set_parameters

    parameters = llama.llama_context_default_params()
    set_parameters(parameters, values)
    parameters.n_seq_max = parameters.n_outputs_max = 1
    log.forget()
    context = llama.llama_init_from_model(model, parameters)
    if not context:
        raise MemoryError
    llama.llama_free(context)
    # The one for logits is not told by a plan either; it is made in any case, and small.
    buffers = [each for each in log.buffers if each.kind in ("compute", "output")]
    return [sum(each.size_bytes for each in buffers if each.in_ram is ram) for ram in (False, True)]
