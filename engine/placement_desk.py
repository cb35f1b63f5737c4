"""How models lie on this machine, and how they would: plans, forecasts and choices, put together for a window.

Owns: what a placement is made of, and keeping the sizes of files that were read. Does not decide what lies where
(`placement/planner`) or how fast that is (`placement/forecast`), and does not load anything (`model_host`).
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.backends.backend_choice import computes
from engine.errors import DoesNotFit, ModelFileError, NotFound, Retold, SeamountError
from engine.library.catalogue_entries import load_catalogue
from engine.library.foretelling import known_model, room_at_rest
from engine.library.offers import result_bytes_of
from engine.model_host import ModelHost, wishes_of
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.choices import KeptChoices
from engine.placement.forecast import (
    LONG_PROMPT_TOKENS,
    TYPICAL_PROMPT_TOKENS,
    Forecast,
    Range,
    forecast,
)
from engine.placement.hardware_record import HardwareRecord, read_record
from engine.placement.load_needs import given_back_bytes
from engine.placement.load_plan import LoadPlan, What
from engine.placement.load_plan import Place as PlaceName
from engine.placement.measurement import present_record
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import (
    GPU_RESERVE_SHARE,
    LEAST_GPU_RESERVE_BYTES,
    Room,
    Wishes,
    plan,
)
from engine.placement.present_plan import native_plan_for, plan_for, sizes_of_file
from engine.protocol import ErrorBody, ModelEntry, Settings
from engine.protocol_placement import (
    MOST_CONTEXT_TOKENS,
    Choices,
    Foretelling,
    Limits,
    Place,
    PlacedPart,
    Placement,
    Reason,
    Span,
    Taken,
)

if TYPE_CHECKING:
    from engine.backends.base import Backend

MOST_SIZES = 64
SCRIPT_SUFFIX = ".script.json"


class PlacementDesk:
    """For one data folder. Any thread; it reads files and asks the system, so not the event loop's.

    `entry(model_id)` finds a model (NotFound); `gpus()` gives those that llama.cpp can compute on.
    """

    def __init__(
        self,
        folder: DataFolder,
        host: ModelHost,
        choices: KeptChoices,
        settings: Callable[[], Settings],
        entry: Callable[[str], ModelEntry],
        gpus: Callable[[], tuple[hardware.Gpu, ...]],
    ) -> None:
        self._folder, self._host, self._choices = folder, host, choices
        self._settings, self._entry, self._gpus = settings, entry, gpus
        self._lock = threading.Lock()
        self._sizes: dict[tuple[str, int, int, int], ModelSizes] = {}

    def of_model(self, model_id: str, asked: Choices | None = None, *, exact: bool = False) -> Placement:
        """Of a model that lies here, by what was chosen for it; by `asked`, where that says something.

        `exact`: its load is rehearsed, as before a load, which takes a second or two; else its buffers are reckoned.
        Raises NotFound, ModelFileError. What does not fit is told in the placement.
        """
        entry = self._entry(model_id)
        if entry.source == "remote":
            raise NotFound(
                f"{entry.name} lies nowhere", "it runs on another machine", "choose a model of this machine"
            )
        path = Path(entry.path)
        if path.name.endswith(SCRIPT_SUFFIX):
            raise NotFound(
                f"{entry.name} lies nowhere", "it is a script, not a model", "choose a model's file"
            )
        kept = self._choices.of(model_id)
        wishes = self._host.wishes(model_id, kept if asked is None else asked)
        sizes = replace(self._sizes_of(path), name=entry.name)
        opened, gpus = self._host.opened, self._gpus_for(wishes)
        room = self._room(opened[2] if opened else None, gpus)
        # What is loaded is told as it is: what is free now is what it has left.
        mine = opened if opened is not None and opened[0] == model_id and opened[1] == wishes else None
        record = self.record()
        made: Callable[[], LoadPlan | None] = partial(plan, sizes, room, wishes, record=record)
        if mine is not None and mine[2].plan is not None:
            made = partial(getattr, mine[2], "plan")
        elif computes(wishes.backend) == "native":
            made = partial(native_plan_for, sizes, wishes, room=room)
        elif exact:
            from engine.backends.opening import rehearsal_of

            rehearse = rehearsal_of(path, here=False)
            made = partial(plan_for, sizes, wishes, rehearse=rehearse, room=room, record=record)
        told = self._told(model_id, sizes, room, wishes, path.parent, made)
        return told.model_copy(
            update={
                "choices": kept,
                "loaded": mine is not None,
                "taken": _taken(mine[2]) if mine else None,
            }
        )

    def of_offer(self, name: str, asked: Choices) -> Placement:
        """Of a model of the catalogue that is not here yet, on this machine when little else runs.

        Raises NotFound for another name, and for a model whose shape nobody knows before it is here.
        """
        entries = load_catalogue(self._folder).entries
        # What was looked up bears its repository's name.
        entry = entries.get(name) or next(
            (each for each in entries.values() if each.repository.casefold() == name.casefold()), None
        )
        result_bytes = None if entry is None else result_bytes_of(entry)
        sizes = None if result_bytes is None else known_model(result_bytes)
        if entry is None or sizes is None:
            raise NotFound(
                "Nothing can be said of how it would lie on this machine",
                f"what {(entry.title if entry else name)[:100]} is made of is not known before it is here",
                "get it first",
            )
        room = room_at_rest(self._gpus())
        wishes = wishes_of(asked, self._settings())
        sizes = replace(sizes, name=entry.title)
        made = partial(plan, sizes, room, wishes, record=self.record())
        return self._told(name, sizes, room, wishes, self._folder.models, made)

    def choose(self, model_id: str, choices: Choices) -> Placement:
        """Keep what is chosen for a model. Raises NotFound, ModelFileError, DiskFull, DataFolderError; DoesNotFit, and
        then nothing is kept."""
        placement = self.of_model(model_id, choices, exact=True)
        if placement.problem is not None:
            raise Refused(placement.problem.text)
        self._choices.keep(model_id, choices)
        return placement.model_copy(update={"choices": choices})

    def record(self) -> HardwareRecord | None:
        """What was measured of this machine as it is now; None where that never happened."""
        return present_record(self._folder.root, self._folder.models, self._gpus())

    # --- inside --------------------------------------------------------------------------------------

    def _told(
        self,
        model_id: str,
        sizes: ModelSizes,
        room: Room,
        wishes: Wishes,
        folder: Path,
        made: Callable[[], LoadPlan | None],
    ) -> Placement:
        problem: SeamountError | None = None
        found: LoadPlan | None = None
        try:
            found = made()
        except (DoesNotFit, ModelFileError) as error:
            problem = error
        foretold, why_not = (None, "") if found is None else self._foretold(sizes, found)
        told = told_of(model_id, sizes, room, wishes, found, problem, foretold, why_not)
        disk = _disk(sizes, found, folder)
        return told.model_copy(update={"places": [*told.places, *disk]})

    def _foretold(self, sizes: ModelSizes, found: LoadPlan) -> tuple[Forecast | None, str]:
        """The forecast, or why there is none."""
        if found.computed_by == "native":
            return None, "Nothing is foretold of the native engine."
        record = self.record()
        if record is None:
            known = read_record(self._folder.root) is not None
            why = "has changed since it was measured" if known else "has not been measured yet"
            return None, f"Nothing is foretold: this machine {why}."
        told = forecast(sizes, found, record)
        if told is not None:
            return told, ""
        lacking = "GPU" if found.gpu is not None else "disk"
        return None, f"Nothing is foretold: the {lacking} of this machine could not be measured."

    def _gpus_for(self, wishes: Wishes) -> tuple[hardware.Gpu, ...]:
        """Those that whoever is to compute it reaches."""
        if computes(wishes.backend) != "native":
            return self._gpus()
        from engine.backends.opening import native_gpus

        return native_gpus()

    def _room(self, backend: "Backend | None", gpus: tuple[hardware.Gpu, ...]) -> Room:
        """What this machine has free once the loaded model is gone, which a load lets go of first."""
        memory = hardware.memory()
        gpu_bytes, ram_bytes = (0, 0) if backend is None else _held(backend)
        number = backend.plan.gpu_number if backend is not None and backend.plan is not None else 0
        freed = tuple(
            replace(gpu, free_bytes=min(gpu.total_bytes, gpu.free_bytes + gpu_bytes)) if at == number else gpu
            for at, gpu in enumerate(gpus)
        )
        free_bytes = min(memory.total_bytes, memory.available_bytes + ram_bytes)
        return Room.of(replace(memory, available_bytes=free_bytes), hardware.processor(), freed)

    def _sizes_of(self, path: Path) -> ModelSizes:
        """Read again only where the file changed; of a split one its first part tells."""
        try:
            status = path.stat()
        except OSError:
            return sizes_of_file(path)  # it says what is wrong
        key = (os.fspath(path), status.st_size, status.st_mtime_ns, status.st_ino)
        with self._lock:
            known = self._sizes.get(key)
        if known is None:
            known = sizes_of_file(path)
            with self._lock:
                for old in list(self._sizes)[: max(0, len(self._sizes) - MOST_SIZES + 1)]:
                    del self._sizes[old]
                self._sizes[key] = known
        return known


class Refused(Retold, DoesNotFit):
    """A choice that does not fit, with the planner's own sentence."""


def _held(backend: "Backend") -> tuple[int, int]:
    """What of GPU and RAM a loaded model gives back when it is let go of; pages of a mapped file count as free."""
    taken, found = backend.taken, backend.plan
    if taken is not None:
        return taken.gpu_bytes, taken.ram_bytes
    return (0, 0) if found is None else (found.held_bytes("gpu"), given_back_bytes(found))


def _taken(backend: "Backend") -> Taken | None:
    taken, found = backend.taken, backend.plan
    if taken is None or found is None:
        return None
    return Taken(
        gpu_bytes=taken.gpu_bytes,
        host_bytes=taken.ram_bytes + taken.mapped_bytes,
        # llama.cpp's own account knows nothing of what the driver takes.
        planned_gpu_bytes=found.held_bytes("gpu") - found.part_bytes("driver", "gpu"),
        planned_host_bytes=found.held_bytes("ram")
        + found.held_bytes("disk")
        - found.part_bytes("states", "ram"),
    )


def told_of(
    model_id: str,
    sizes: ModelSizes,
    room: Room,
    wishes: Wishes,
    found: LoadPlan | None,
    problem: SeamountError | None,
    foretold: Forecast | None,
    why_not: str,
) -> Placement:
    """A plan, or why there is none, with its forecast, or why there is none, as it is told; the disk left out."""
    trained = sizes.context_train_tokens or MOST_CONTEXT_TOKENS
    return Placement(
        model_id=model_id,
        name=sizes.name,
        choices=Choices(),
        context_tokens=wishes.context_tokens if found is None else found.context_tokens,
        cache_type=wishes.cache_type,
        gpu_budget_bytes=wishes.gpu_budget_bytes,
        favour=wishes.favour,
        threads=wishes.threads if found is None else found.threads,
        micro_batch_tokens=None if found is None else found.micro_batch_tokens,
        places=_places(room, found),
        reasons=[Reason(what=each.what, why=each.why) for each in found.decisions] if found else [],
        forecast=None if foretold is None or found is None else _foretelling(foretold, found),
        forecast_problem=why_not or None,
        limits=Limits(
            context_tokens=min(trained, MOST_CONTEXT_TOKENS),
            gpu_budget_bytes=max((_gpu_budget(gpu) for gpu in room.gpus), default=0),
        ),
        problem=None if problem is None else ErrorBody(code=problem.code, text=problem.text),
    )


def _places(room: Room, found: LoadPlan | None) -> list[Place]:
    gpus = [
        Place(
            kind="gpu",
            name=gpu.name,
            total_bytes=gpu.total_bytes,
            used_bytes=max(0, gpu.total_bytes - gpu.free_bytes),
            reserve_bytes=max(0, gpu.free_bytes - _gpu_budget(gpu)),
            parts=_parts(found, "gpu") if found and found.gpu and found.gpu_number == number else [],
        )
        for number, gpu in enumerate(room.gpus)
    ]
    ram = Place(
        kind="ram",
        name="Memory",
        total_bytes=room.ram_total_bytes,
        used_bytes=max(0, room.ram_total_bytes - room.ram_free_bytes),
        reserve_bytes=room.ram_free_bytes - room.ram_budget_bytes,
        limited=hardware.memory().limited,
        parts=_parts(found, "ram"),
    )
    return [*gpus, ram]


def _disk(sizes: ModelSizes, found: LoadPlan | None, folder: Path) -> list[Place]:
    """Without a plan nothing would be read from it."""
    if found is None:
        return []
    try:
        disk = shutil.disk_usage(folder)
    except OSError:
        return []
    return [
        Place(
            kind="disk",
            name="Disk",
            total_bytes=disk.total,
            used_bytes=max(0, disk.total - disk.free),
            file_bytes=sizes.loaded_bytes + sizes.idle_bytes,
            parts=_parts(found, "disk"),
        )
    ]


def _parts(found: LoadPlan | None, place: PlaceName) -> list[PlacedPart]:
    """What lies in a place, all of a kind together, in the order of the plan's kinds."""
    if found is None:
        return []
    told: list[PlacedPart] = []
    kinds: dict[What, None] = dict.fromkeys(part.what for part in found.parts)
    for what in kinds:
        here = [part for part in found.parts if part.what == what and getattr(part, f"{place}_bytes")]
        if here:
            size_bytes = found.part_bytes(what, place)
            layers = len(set(_layers(part.layer for part in here)))
            told.append(PlacedPart(what=what, size_bytes=size_bytes, layers=layers))
    return told


def _layers(numbers: Iterable[int | None]) -> Iterable[int]:
    return (number for number in numbers if number is not None)


def _gpu_budget(gpu: hardware.Gpu) -> int:
    """What may be taken of it at most."""
    return max(0, gpu.free_bytes - max(LEAST_GPU_RESERVE_BYTES, int(GPU_RESERVE_SHARE * gpu.total_bytes)))


def _foretelling(told: Forecast, found: LoadPlan) -> Foretelling:
    return Foretelling(
        decode_tokens_per_s=_span(told.decode_tokens_per_s),
        prefill_tokens_per_s=_span(told.prefill_tokens_per_s),
        prompt_tokens=min(TYPICAL_PROMPT_TOKENS, found.context_tokens - 1),
        first_token_s=_span(told.first_token_s),
        long_tokens=LONG_PROMPT_TOKENS,
        long_prompt_s=None if told.long_prompt_s is None else _span(told.long_prompt_s),
        load_s=_span(told.load_s),
        ram_bytes=told.ram_bytes,
        gpu_bytes=told.gpu_bytes,
        disk_bytes=told.disk_bytes,
        disk_bytes_per_token=_span(told.disk_bytes_per_token),
        seen=told.seen,
    )


def _span(found: Range) -> Span:
    return Span(low=found.low, likely=found.likely, high=found.high)
