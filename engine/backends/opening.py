"""Which backend opens a model, and by which plan.

Owns: that choice, and what is tried when a GPU does not keep to what was planned. Imports a backend's library only
when a model of that kind is opened. Does not know what a model file holds.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from engine.backends.backend_choice import computes
from engine.backends.base import Backend
from engine.backends.load_guard import LoadGuard
from engine.errors import DoesNotFit, ModelFileError, ModelLoadError
from engine.model_table import size_text
from engine.parts import search_path
from engine.parts.part_lock import read_lock
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.hardware import Gpu
from engine.placement.load_needs import given_back_bytes
from engine.placement.load_plan import LoadPlan
from engine.placement.measurement import present_record
from engine.placement.nvidia import nvidia_gpus, refreshed
from engine.placement.planner import ComputeBytes, Wishes
from engine.protocol import ModelEntry

if TYPE_CHECKING:
    from engine.backends.llama_experts import ExpertWatch
    from engine.placement.present_plan import Rehearse

_logger = logging.getLogger(__name__)
SCRIPT_SUFFIX = ".script.json"
GPUS_KEPT_S = 5.0
_gpus: tuple[float, tuple[Gpu, ...]] | None = None


def open_backend(
    entry: ModelEntry,
    *,
    wishes: Wishes,
    on_progress: Callable[[float], bool],
    root: Path | None = None,
    as_before: bool = False,
) -> Backend:
    """Open `entry` as far as it can be as wished; takes as long as the file is large.

    `root`: the data folder, where what was found of threads is kept from load to load; None: it is found anew.
    `as_before`: an answer is to go on exactly; see `llama_threads.ThreadSearch`.
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
    if computes(wishes.backend) == "native":
        return _NativeOpener(path, entry.name, wishes, on_progress, root).open()
    return _Opener(path, entry.name, wishes, on_progress, root, as_before=as_before).open()


class _Opener:
    """One model that llama.cpp opens: by a plan, and by another one where a GPU does not keep to it."""

    def __init__(
        self,
        path: Path,
        name: str,
        wishes: Wishes,
        on_progress: Callable[[float], bool],
        root: Path | None,
        *,
        as_before: bool = False,
    ) -> None:
        self._as_before = as_before
        self._path, self._name, self._wishes, self._root = path, name, wishes, root
        self._on_progress = on_progress
        self._stopped = False

    def open(self) -> Backend:
        plan = self._plan(self._wishes, self._gpus())
        try:
            return self._load(plan)
        except ModelLoadError as error:
            if plan is None or plan.gpu is None or self._stopped:
                raise
            return self._again(plan, error)

    def _again(self, failed: LoadPlan, error: ModelLoadError) -> Backend:
        """By what is free now, and then by the processor alone. Raises ModelLoadError with the first failure."""
        gpus = self._gpus(fresh=True)
        free = next((each.free_bytes for each in gpus if each.name == failed.gpu), None)
        trouble = (
            f"{size_text(failed.held_bytes('gpu'))} of {failed.gpu} were planned for it, "
            + ("which is not there now" if free is None else f"of which {size_text(free)} are free now")
            + f" ({error.why})"
        )
        _logger.warning("%s was not loaded as planned: %s", self._name, trouble)
        for wishes in (self._wishes, replace(self._wishes, gpu_budget_bytes=0)):
            try:
                plan = self._plan(wishes, gpus)
                if plan is None or plan == failed:
                    continue
                on = plan.gpu or "the processor alone"
                _logger.warning("%s is loaded once more, by a plan for %s", self._name, on)
                return self._load(plan)
            except (ModelLoadError, DoesNotFit) as after:
                if self._stopped:
                    raise
                _logger.warning("%s", after.text)
        raise ModelLoadError(
            f"{self._name} could not be loaded",
            f"{trouble}, and the processor alone cannot hold it either",
            "close other programs that use the GPU or memory, or set a smaller context",
        ) from error

    def _load(self, plan: LoadPlan | None) -> Backend:
        from engine.backends.llama_threads import ThreadSearch
        from engine.backends.llamacpp import LlamaCppBackend

        watch = None if plan is None else _watch(self._path, plan)
        if plan is not None and plan.part_bytes("experts", "disk"):
            plan = replace(plan, experts_read="mapped" if watch is None else watch.way)
        try:
            return LlamaCppBackend.open(
                self._path,
                name=self._name,
                context_tokens=self._wishes.context_tokens,
                threads=self._wishes.threads,
                kv_type=self._wishes.cache_type,
                on_progress=self._progress if plan is None else LoadGuard(plan, self._progress),
                plan=plan,
                watch=watch,
                search=None
                if self._wishes.threads
                else ThreadSearch.of(
                    self._path, self._root, lambda: self._progress(1.0), as_before=self._as_before
                ),
            )
        except BaseException:
            if watch is not None:
                watch.close()
            raise

    def _gpus(self, *, fresh: bool = False) -> tuple[Gpu, ...]:
        return gpus_now(fresh=fresh)

    def _progress(self, fraction: float) -> bool:
        self._stopped = self._stopped or not self._on_progress(fraction)
        return not self._stopped

    def check(self, gpus: tuple[Gpu, ...], freed_bytes: int) -> None:
        """Raises DoesNotFit when it would not fit with these GPUs and `freed_bytes` of RAM more."""
        self._plan(self._wishes, gpus, freed_bytes)

    def _plan(self, wishes: Wishes, gpus: tuple[Gpu, ...], freed_bytes: int | None = None) -> LoadPlan | None:
        """How to load the file by what is free now; None for one that llama.cpp has to refuse in its own words."""
        from engine.placement import present_plan

        try:
            sizes = replace(present_plan.sizes_of_file(self._path), name=self._name)
        except ModelFileError:
            return None
        # The window plans by the same record: one of another machine would place it otherwise than was shown.
        record = None
        if self._root is not None:
            record = present_record(self._root, DataFolder(self._root).models, gpus)
        plan = present_plan.plan_for(
            sizes,
            wishes,
            gpus,
            rehearse=rehearsal_of(self._path, here=True),
            freed_bytes=freed_bytes or 0,
            record=record,
        )
        for each in plan.decisions if freed_bytes is None else ():
            _logger.info("%s: %s (%s)", self._name, each.what, each.why)
        return plan


class _NativeOpener(_Opener):
    """One model that the native engine opens. What it cannot compute is refused before torch, which takes seconds, is
    loaded, unless there is a GPU to be asked about."""

    def _gpus(self, *, fresh: bool = False) -> tuple[Gpu, ...]:  # noqa: ARG002 - they are asked anew each time
        return native_gpus()

    def _load(self, plan: LoadPlan | None) -> Backend:
        try:
            search_path.ready()
            from engine.backends.native import NativeBackend
        except (ImportError, OSError) as error:  # OSError: a library of PyTorch's that the system cannot load
            why, how = _no_pytorch(error)
            raise ModelLoadError(
                f"{self._name} could not be loaded",
                f"the native engine needs PyTorch, which {why}",
                f"{how}, or let llama.cpp compute the model "
                "(Settings → Machine → Computed by, or --backend llamacpp)",
            ) from error
        return NativeBackend.open(
            self._path,
            name=self._name,
            context_tokens=self._wishes.context_tokens,
            on_progress=self._progress,
            plan=plan,
        )

    def _plan(self, wishes: Wishes, gpus: tuple[Gpu, ...], freed_bytes: int | None = None) -> LoadPlan | None:
        """Raises ModelFileError, DoesNotFit."""
        from engine.placement import present_plan

        sizes = replace(present_plan.sizes_of_file(self._path), name=self._name)
        plan = present_plan.native_plan_for(sizes, wishes, gpus, freed_bytes=freed_bytes or 0)
        for each in plan.decisions if freed_bytes is None else ():
            _logger.info("%s: %s (%s)", self._name, each.what, each.why)
        return plan


def _no_pytorch(error: Exception) -> tuple[str, str]:
    """Why there is no PyTorch to compute with, and what to do."""
    by_pip, by_parts = 'with `pip install "seamount[native]"`', "in Settings → Machine"
    if find_spec("torch") is None:
        by_parts += " or with `seamount parts install native`"
        return "is not installed", f"get it {by_parts if read_lock().fits_here else by_pip}"
    where = by_pip if search_path.added() is None else by_parts
    return f"could not be loaded ({error})", f"remove it and get it again {where}"


def native_gpus() -> tuple[Gpu, ...]:
    """The GPUs that the native engine reaches, with what is free of them; none where it lacks PyTorch, or that CUDA.

    Torch, which takes seconds to load, is asked only where NVIDIA's library sees a GPU.
    """
    if not nvidia_gpus().gpus:
        return ()
    search_path.ready()
    try:
        from engine.backends import native_devices
    except (ImportError, OSError):  # told when the engine itself is loaded
        return ()
    return native_devices.gpus()


def rehearsal_of(path: Path, *, here: bool) -> "Rehearse":
    """What tells the planner the buffers of the model at `path`. `here`: the thread that loads models asks, and may
    rehearse in this process."""
    from engine.backends.llama_rehearsal import rehearse

    def told(plan: LoadPlan, micro_batches: Sequence[int]) -> Mapping[int, ComputeBytes]:
        answer = rehearse(path, plan, micro_batches, here=here)
        if isinstance(answer, str):
            _logger.warning("the load of %s could not be rehearsed: %s", path.name, answer)
            return {}
        return answer

    return told


def gpus_now(*, fresh: bool = False) -> tuple[Gpu, ...]:
    """The GPUs that llama.cpp reaches, with what is free of them; none where it was built for the processor alone.

    Asked in a process of its own, so the answer is kept for some seconds unless it is to be `fresh`.
    """
    global _gpus  # one machine, one answer
    from engine.backends.llama_loading import reaches_gpu

    if not reaches_gpu():
        return ()
    now_s = time.monotonic()
    if fresh or _gpus is None or now_s - _gpus[0] > GPUS_KEPT_S:
        built = hardware.llama_cpp()
        if isinstance(built, str):
            _logger.warning("llama.cpp does not tell which GPUs it reaches, so none is used: %s", built)
        _gpus = now_s, () if isinstance(built, str) else refreshed(built.gpus)
    return _gpus[1]


def check_fits(entry: ModelEntry, *, wishes: Wishes, loaded: LoadPlan) -> None:
    """Raises DoesNotFit when `entry` cannot be opened as wished in the place of what is loaded by the plan `loaded`.

    Whatever else is wrong with `entry` is found when it is opened.
    """
    path = Path(entry.path)
    if path.name.endswith(SCRIPT_SUFFIX) or not path.is_file():
        return
    if computes(wishes.backend) == "native":
        opener = _NativeOpener(path, entry.name, wishes, lambda _fraction: True, None)
        with suppress(ModelFileError):
            opener.check(_gpus_without(loaded, native_gpus()), given_back_bytes(loaded))
        return
    gpus = _gpus_without(loaded, gpus_now())
    _Opener(path, entry.name, wishes, lambda _fraction: True, None).check(gpus, given_back_bytes(loaded))


def _gpus_without(loaded: LoadPlan, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """The GPUs with what is free of them once the model that was loaded by that plan is gone."""
    # Of several of the same name it is the one at that place; elsewhere it is only where others have gone.
    named = [at for at, each in enumerate(gpus) if each.name == loaded.gpu]
    if loaded.gpu_number in named:
        named = [loaded.gpu_number]
    given_back = loaded.held_bytes("gpu")
    return tuple(
        replace(each, free_bytes=min(each.total_bytes, each.free_bytes + given_back))
        if at in named[:1]
        else each
        for at, each in enumerate(gpus)
    )


def _watch(path: Path, plan: LoadPlan) -> "ExpertWatch | None":
    """What reads a model's experts ahead where the plan leaves some on the disk; None where nothing can or need."""
    if not plan.part_bytes("experts", "disk"):
        return None
    try:
        from engine.backends.llama_experts import ExpertWatch
    except ImportError:  # a build of llama.cpp without ggml as a library of its own
        return None
    return ExpertWatch.open(path, memory_bytes=0, experts_bytes=plan.part_bytes("experts", "ram"))
