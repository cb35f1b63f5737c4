"""The placement's part of `make screenshots`: the dialog in its states.

The real window on an engine that only tells: what is seen needs GPUs and models of hundreds of gigabytes. The plans are
the planner's own, for machines that are made up.
"""

from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QSize

from engine.errors import DoesNotFit
from engine.placement.forecast import forecast
from engine.placement.hardware import Gpu
from engine.placement.hardware_record import (
    DeviceRates,
    Fingerprint,
    HardwareRecord,
    MeasuredDisk,
    MeasuredGpu,
    Multiplying,
)
from engine.placement.model_sizes import ModelSizes
from engine.placement.planner import Room, Wishes, plan
from engine.placement_desk import told_of
from engine.protocol_placement import Place, PlacedPart
from tests.app.conftest import FakeEngine
from tests.engine.placement.models import GB, flash, pro

CARD = Gpu("NVIDIA GeForce RTX 4090", 25_757_220_864, 24_100_000_000)
WIDE = QSize(1280, 720)
NARROW = QSize(700, 620)
KINDS = Multiplying(one_bytes_per_s=0.9e12, many_per_s=4e13)
RATES = DeviceRates(
    copy_bytes_per_s=0.95e12,
    pinned_bytes_per_s=2.5e10,
    pageable_bytes_per_s=0.9e10,
    back_bytes_per_s=2.5e10,
    operation_s=3e-6,
    exchange_s=2e-5,
    q8_0=KINDS,
    mxfp4=KINDS,
)
RECORD = HardwareRecord(
    measured_at=1_750_000_000,
    fingerprint=Fingerprint(processor="AMD Ryzen 9 7950X", cores=16, memory_bytes=64 * GB, disk="nvme"),
    memory_threads=16,
    memory_bytes_per_s=61e9,
    memory_one_bytes_per_s=31e9,
    arithmetic_per_s=72e9,
    disk=MeasuredDisk(sequential_bytes_per_s=6.1e9, random_bytes_per_s=5.2e9, mapped_bytes_per_s=1.9e9),
    gpus=[MeasuredGpu(name=CARD.name, rates=RATES)],
)


def answer(
    sizes: ModelSizes, room: Room, wishes: Wishes, *, record: HardwareRecord | None = RECORD, **more: Any
) -> dict[str, Any]:
    """What an engine on that machine would tell."""
    try:
        found, problem = plan(sizes, room, wishes), None
    except DoesNotFit as error:
        found, problem = None, error
    why = "Nothing is foretold: this machine has not been measured yet." if record is None else ""
    foretold = forecast(sizes, found, record) if found is not None and record is not None else None
    if found is not None and foretold is None and not why:
        why = "Nothing is foretold: the GPU of this machine could not be measured."
    told = told_of("m2", sizes, room, wishes, found, problem, foretold, why)
    disk = Place(
        kind="disk", name="Disk", total_bytes=2000 * GB, used_bytes=1100 * GB, file_bytes=sizes.loaded_bytes,
        parts=[PlacedPart(what="experts", size_bytes=found.part_bytes("experts", "disk"), layers=len(sizes.layers))]
        if found else [],
    )  # fmt: skip
    places = [*told.places, disk] if found else told.places
    return told.model_copy(update={"places": places}).model_dump() | more


def tour(scene: Any, engine: FakeEngine, take: Callable[..., None]) -> None:
    """Through the dialog's states."""
    window, desk = scene.window, scene.desk
    scene.wait(lambda: bool(desk.shelf.entries))
    rich = Room(64 * GB, 55 * GB, 16)
    card = Room(64 * GB, 55 * GB, 16, (CARD,))
    wishes = Wishes(32_768)
    loaded = {"gpu_bytes": 0, "host_bytes": 51_600_000_000, "planned_gpu_bytes": 0,
              "planned_host_bytes": 51_900_000_000}  # fmt: skip
    for state, told, opened in (
        ("p1-placement", answer(flash(), rich, wishes, loaded=True, taken=loaded), False),
        ("p2-placement-gpu", answer(flash(), card, wishes), True),
        ("p3-placement-does-not-fit", answer(pro(), Room(16 * GB, 11 * GB, 8), wishes), False),
        ("p4-placement-not-measured", answer(flash(), rich, wishes, record=None), False),
    ):
        engine.placement = told
        _shown(scene, state, take, opened=opened)
    engine.placement = answer(flash(), card, wishes, record=None)
    engine.hardware = {"measuring": True, "step": "disk"}
    _shown(scene, "p5-placement-measuring", take)
    engine.hardware = {"measuring": False}
    for _ in range(6):
        window.actions_by_id["zoom_in"].trigger()
    engine.placement = answer(flash(), rich, wishes)
    _shown(scene, "p6-placement-200-percent", take)
    window.actions_by_id["zoom_reset"].trigger()


def _shown(scene: Any, state: str, take: Callable[..., None], *, opened: bool = False) -> None:
    placement = scene.desk.placement
    placement.open_model("m2", "DeepSeek-V4-Flash-0731")
    scene.wait(lambda: bool(placement.dialog.bars.rows))
    placement.dialog.reasons_button.setChecked(opened)
    scene.dialog(take, state)
