"""Which backend opens a model, and by which plan.

Owns: that choice. Imports a backend's library only when a model of that kind is opened. Does not know what
a model file holds.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.backends.base import Backend
from engine.errors import ModelFileError
from engine.placement.load_plan import LoadPlan
from engine.placement.planner import Wishes
from engine.protocol import ModelEntry

if TYPE_CHECKING:
    from engine.backends.llama_experts import ExpertWatch

_logger = logging.getLogger(__name__)
SCRIPT_SUFFIX = ".script.json"


def open_backend(entry: ModelEntry, *, wishes: Wishes, on_progress: Callable[[float], bool]) -> Backend:
    """Open `entry` as far as it can be as wished; takes as long as the file is large.

    `on_progress` is told the loaded fraction, 0 to 1; when it
    returns False, loading stops with ModelLoadError. Raises ModelFileError when the file is gone or is not a
    model, DoesNotFit when this machine has not the memory for it now, ModelLoadError when it cannot be loaded.
    """
    path = Path(entry.path)
    if not path.is_file():
        raise ModelFileError(
            f"{entry.name} could not be opened",
            f"there is no file {path}",
            "put the file back or choose another model",
        )
    if path.name.endswith(SCRIPT_SUFFIX):
        from engine.backends.scripted import ScriptedBackend

        return ScriptedBackend.open(
            path, name=entry.name, context_tokens=wishes.context_tokens, on_progress=on_progress
        )
    from engine.backends.llama_loading import reaches_gpu
    from engine.backends.llamacpp import LlamaCppBackend

    # Where llama.cpp has a GPU, it places a model by its own rules.
    plan = None if reaches_gpu() else _plan(path, entry.name, wishes)
    watch = None if plan is None else _watch(path, plan)
    try:
        return LlamaCppBackend.open(
            path,
            name=entry.name,
            context_tokens=wishes.context_tokens,
            threads=wishes.threads,
            kv_type=wishes.cache_type,
            on_progress=on_progress,
            plan=plan,
            watch=watch,
        )
    except BaseException:
        if watch is not None:
            watch.close()
        raise


def _watch(path: Path, plan: LoadPlan) -> "ExpertWatch | None":
    """What reads a model's experts ahead where the plan leaves some on the disk; None where nothing can or need."""
    if not plan.part_bytes("experts", "disk"):
        return None
    try:
        from engine.backends.llama_experts import ExpertWatch
    except ImportError:  # a build of llama.cpp without ggml as a library of its own
        return None
    return ExpertWatch.open(path, memory_bytes=0)


def _plan(path: Path, name: str, wishes: Wishes) -> LoadPlan | None:
    """How to load a file by what is free now; None for one that llama.cpp has to refuse in its own words."""
    from engine.placement.present_plan import plan_for, sizes_of_file

    try:
        sizes = replace(sizes_of_file(path), name=name)
    except ModelFileError:
        return None
    plan = plan_for(sizes, wishes)
    for each in plan.decisions:
        _logger.info("%s: %s (%s)", name, each.what, each.why)
    return plan
