"""How a model that is not here yet would run on this machine.

Owns: the shapes of the released models (`assets/shapes.toml`), knowing one by what its result weighs, and putting it
before planner and forecast with what this machine has when little else runs. No speed is foretold where this machine
was not measured, or is another one by now.
"""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from convert.conversion_error import ConversionError
from convert.model_shape import ModelShape
from engine.errors import DoesNotFit
from engine.library.fit import KEPT_FREE_BYTES, Foretold
from engine.placement import hardware
from engine.placement.forecast import Range, forecast
from engine.placement.hardware_record import HardwareRecord, read_record
from engine.placement.measurement import present_fingerprint
from engine.placement.model_sizes import ModelSizes, sizes_of_shape
from engine.placement.planner import Room, Wishes, plan

SHAPES = Path(__file__).resolve().parents[2] / "assets" / "shapes.toml"
"""Beside `engine/`, in the checkout as in the wheel."""
FORMAT = 1
_LONG_CONTEXT_TOKENS = 131_072
"""Enough for the long prompt that is foretold, and an answer."""
_PADDING = 1e-5
"""A result's tensors are padded to 32 bytes: less than that share of it."""


class Foretelling:
    """For one data folder. `context_tokens` and `gpus` give the settings' context and the GPUs known by now."""

    def __init__(
        self,
        root: Path,
        models: Path,
        context_tokens: Callable[[], int],
        gpus: Callable[[], tuple[hardware.Gpu, ...]],
    ) -> None:
        self._root, self._models = root, models
        self._context_tokens, self._gpus = context_tokens, gpus

    def of(self, result_bytes: int, shape: ModelShape | None = None) -> Foretold | DoesNotFit | None:
        """What is foretold of a V4 whose GGUF weighs that much; DoesNotFit where this machine is too small for it.

        None: its shape is not known; or there is no GPU, and this machine was not measured or is another by now.
        """
        gpus = self._gpus()
        record = read_record(self._root)
        if record is not None and not record.fingerprint.agrees(present_fingerprint(self._models, gpus)):
            record = None
        if record is None and not gpus:
            return None
        sizes = known_model(result_bytes) if shape is None else _of_shape(shape)
        if sizes is None:
            return None
        room = room_at_rest(gpus)
        try:
            found = plan(sizes, room, Wishes(self._context_tokens()), record=record)
        except DoesNotFit as error:
            return error
        told = None if record is None else forecast(sizes, found, record)
        long = None if told is None else told.long_prompt_s
        if record is not None and told is not None and long is None:
            long = _long_prompt(sizes, room, record)
        return Foretold(found, told, long)


def room_at_rest(gpus: tuple[hardware.Gpu, ...]) -> Room:
    """What this machine has when little else runs: what the loaded model takes now is in nobody's way."""
    memory = hardware.memory()
    free_bytes = max(0, memory.total_bytes - KEPT_FREE_BYTES)
    return Room.of(
        replace(memory, available_bytes=free_bytes),
        hardware.processor(),
        tuple(replace(gpu, free_bytes=gpu.total_bytes) for gpu in gpus),
    )


def _long_prompt(sizes: ModelSizes, room: Room, record: HardwareRecord) -> Range | None:
    """Seconds for the long prompt, with a context that holds it; None where such a context does not fit."""
    try:
        told = forecast(sizes, plan(sizes, room, Wishes(_LONG_CONTEXT_TOKENS), record=record), record)
    except DoesNotFit:
        return None
    return None if told is None else told.long_prompt_s


def known_model(result_bytes: int) -> ModelSizes | None:
    """The released model that weighs so much once it is converted."""
    for name in released_shapes():
        sizes = _of_shape(released_shapes()[name])
        if sizes is not None and 0 <= result_bytes - sizes.loaded_bytes <= _PADDING * result_bytes:
            return sizes
    return None


@cache
def released_shapes() -> dict[str, ModelShape]:
    """The shapes of Flash and Pro, "flash" and "pro", without their drafters."""
    table = tomllib.loads(SHAPES.read_text("utf-8"))
    if table.pop("format") != FORMAT:
        raise ValueError("assets/shapes.toml has another format")
    found: dict[str, ModelShape] = {}
    for name, config in cast("dict[str, dict[str, Any]]", table).items():
        first = config.pop("first_ratio")
        layers = range(2, config["num_hidden_layers"])
        ratios = [first, first, *(4 if layer % 2 == 0 else 128 for layer in layers)]
        config |= {"model_type": "deepseek_v4", "compress_ratios": ratios}
        found[name] = ModelShape.from_config(config, name)
    return found


@cache
def _of_shape(shape: ModelShape) -> ModelSizes | None:
    """With its dense part in Q8_0; computed once, since Pro has a hundred thousand tensors."""
    try:
        return sizes_of_shape(shape, "q8_0")
    except ConversionError:
        return None
