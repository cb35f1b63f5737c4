"""How a model lies on this machine, as it is shown: the pieces of each bar, what is foretold, what was chosen.

Owns: the words, the order of the pieces, and the scale of the slider for a context. Pure; knows no widget.
"""

import math
from dataclasses import dataclass
from typing import Literal

from app.quantities import duration, rough_duration, size_name
from engine.protocol import CacheType
from engine.protocol_placement import LEAST_CONTEXT_TOKENS, Foretelling, Place, Placement, Span, Taken

PieceKind = Literal[
    "dense",
    "output",
    "embedding",
    "cache",
    "states",
    "compute",
    "driver",
    "experts",
    "others",
    "reserve",
    "free",
    "once",
]
NAMES: dict[PieceKind, str] = {
    "dense": "dense part",
    "output": "output",
    "embedding": "embedding",
    "cache": "conversation",
    "states": "kept states",
    "compute": "buffers",
    "driver": "driver",
    "experts": "experts",
    "others": "in use by others",
    "reserve": "kept free",
    "free": "free",
    "once": "read once",
}
MEANINGS: dict[PieceKind, str] = {
    "experts": "Networks of which each word needs only a few",
    "dense": "What every word goes through",
    "output": "The last matrix, from which words are drawn",
    "embedding": "The table in which words are looked up",
    "cache": "What the model keeps of the conversation; all of it is taken at once",
    "states": "Room for states of the conversation, so that less of it is read again",
    "compute": "What it computes in",
    "driver": "What the GPU’s own software takes beside the model",
    "others": "Taken by other programs",
    "reserve": "Left to other programs and the desktop",
    "free": "Nobody’s",
    "once": "In memory from then on; what is mapped is read when it is first needed",
}
CACHE_TYPES: tuple[tuple[CacheType, str], ...] = (
    ("f16", "F16: as usual"),
    ("q8_0", "Q8_0: half of the memory, a little less exact"),
    ("f32", "F32: twice the memory, slower; for comparisons"),
)
FAVOURS = (
    ("balanced", "Both"),
    ("answers", "Writing answers"),
    ("prompts", "Reading long texts"),
)
SCALE_STEPS = 240
_ROUND_TOKENS = 256
"""llama.cpp rounds contexts up to that."""


@dataclass(frozen=True)
class Piece:
    """A piece of a bar."""

    kind: PieceKind
    size_bytes: int
    layers: int = 0

    @property
    def words(self) -> str:
        """As the legend has it."""
        return f"{NAMES[self.kind]} {size_name(self.size_bytes)}"

    @property
    def tip(self) -> str:
        """What it is."""
        if self.layers:
            return f"{MEANINGS[self.kind]}; of {self.layers} layer{'' if self.layers == 1 else 's'}"
        return MEANINGS[self.kind]


def pieces(place: Place) -> list[Piece]:
    """What a bar shows, from the left; together they are `bar_bytes`. The disk's bar is of the model's file alone."""
    parts = [Piece(part.what, part.size_bytes, part.layers) for part in place.parts if part.size_bytes > 0]
    order = list(NAMES)  # always the same, so that a bar keeps its look while a slider moves
    parts.sort(key=lambda piece: order.index(piece.kind))
    held = sum(part.size_bytes for part in parts)
    if place.kind == "disk":
        once = place.file_bytes - held
        return [*parts, *([Piece("once", once)] if once > 0 else [])]
    left = max(0, place.total_bytes - place.used_bytes - held)
    reserve = min(left, place.reserve_bytes)
    rest: list[tuple[PieceKind, int]] = [("reserve", reserve), ("free", left - reserve)]
    others = [Piece("others", place.used_bytes)] if place.used_bytes > 0 else []
    return [*others, *parts, *(Piece(kind, size) for kind, size in rest if size > 0)]


def bar_bytes(place: Place) -> int:
    """What the whole bar stands for."""
    return max(1, sum(piece.size_bytes for piece in pieces(place)))


def place_words(place: Place) -> str:
    """The line above a bar."""
    held = sum(part.size_bytes for part in place.parts)
    if place.kind == "disk":
        again = f", of which {size_name(held)} are read from the disk again and again" if held else ""
        return f"Disk: the model’s file of {size_name(place.file_bytes)}{again}"
    total = f"{size_name(place.total_bytes)}{' (this container’s limit)' if place.limited else ''}"
    free = size_name(max(0, place.total_bytes - place.used_bytes))
    name = place.name if place.kind == "gpu" else "Memory"
    if not held:
        return f"{name}: none of {total}, {free} are free"
    return f"{name}: {size_name(held)} of {total}, {free} were free"


def spoken(place: Place) -> str:
    """A bar for a screen reader."""
    return f"{place_words(place)}. {', '.join(piece.words for piece in pieces(place))}"


def forecast_rows(told: Foretelling) -> list[tuple[str, str]]:
    """Caption and figure of each line."""
    rows = [
        ("Writes", f"{_numbers(told.decode_tokens_per_s)} tokens a second"),
        ("Reads", f"{_numbers(told.prefill_tokens_per_s)} tokens a second"),
        ("First word", f"{_times(told.first_token_s)}, after a prompt of {told.prompt_tokens:,} tokens"),
    ]
    if told.long_prompt_s is not None:
        rows.append(
            ("Long prompt", f"{_times(told.long_prompt_s)} for {told.long_tokens:,} tokens to be read")
        )
    rows.append(("Loads", f"in {_times(told.load_s)}"))
    gpu = f"{size_name(told.gpu_bytes)} of the GPU, " if told.gpu_bytes else ""
    rows.append(
        ("Takes", f"{gpu}{size_name(told.ram_bytes)} of memory, {size_name(told.disk_bytes)} on the disk")
    )
    read = told.disk_bytes_per_token
    if read.high > 0:
        least, most = size_name(round(read.low)), size_name(round(read.high))
        rows.append(("From disk", f"{least} to {most} for each word that is written"))
    return rows


def headline(told: Foretelling) -> str:
    """What matters most of it, in a line."""
    rate, wait_s = told.decode_tokens_per_s.likely, told.first_token_s.likely
    writes = f"about {_figures(rate)} tokens a second" if rate >= 1 else f"a token in about {_time(1 / rate)}"
    return f"Writes {writes}; the first comes after about {_time(wait_s)}."


def forecast_note(told: Foretelling) -> str:
    """What the figures rest on."""
    if told.seen:
        return "Foretold from what this model gave here before; the likely value is in brackets."
    return "Foretold from what was measured of this machine; the likely value is in brackets."


def taken_words(taken: Taken, *, from_disk: bool = False) -> str:
    """What the loaded model takes beside what was planned. `from_disk`: a part of its mapped file stays there, which
    both figures have in them."""
    host = "memory and mapped file" if from_disk else "memory"
    words = [f"{size_name(taken.host_bytes)} of {host} (planned {size_name(taken.planned_host_bytes)})"]
    if taken.gpu_bytes or taken.planned_gpu_bytes:
        words.append(
            f"{size_name(taken.gpu_bytes)} of the GPU (planned {size_name(taken.planned_gpu_bytes)})"
        )
    return f"It is loaded so, and has taken {' and '.join(words)}."


def state_words(told: Placement) -> str:
    """Whether this is how the model lies now."""
    if told.taken is not None:
        return taken_words(
            told.taken, from_disk=any(place.kind == "disk" and place.parts for place in told.places)
        )
    return "It is loaded so." if told.loaded else ""


def budget_words(budget_bytes: int | None, most_bytes: int) -> str:
    """What of a GPU may be used."""
    if budget_bytes is None:
        return f"all that is free, {size_name(most_bytes)}"
    return size_name(budget_bytes) if budget_bytes else "none: the processor alone"


def tokens_at(step: int, most: int) -> int:
    """The context at a step of the slider, which is logarithmic: from 256 at 0 to `most` at SCALE_STEPS."""
    if step >= SCALE_STEPS or most <= LEAST_CONTEXT_TOKENS:
        return max(LEAST_CONTEXT_TOKENS, most)
    exact = LEAST_CONTEXT_TOKENS * (most / LEAST_CONTEXT_TOKENS) ** (max(0, step) / SCALE_STEPS)
    return min(most, max(LEAST_CONTEXT_TOKENS, round(exact / _ROUND_TOKENS) * _ROUND_TOKENS))


def step_of(tokens: int, most: int) -> int:
    """The step of the slider that is nearest to a context."""
    if most <= LEAST_CONTEXT_TOKENS or tokens <= LEAST_CONTEXT_TOKENS:
        return 0 if tokens < most else SCALE_STEPS
    share = math.log(tokens / LEAST_CONTEXT_TOKENS) / math.log(most / LEAST_CONTEXT_TOKENS)
    about = min(SCALE_STEPS, max(0, round(SCALE_STEPS * share)))
    # Contexts are rounded: a step beside it may be nearer.
    steps = (about, max(0, about - 1), min(SCALE_STEPS, about + 1))
    return min(steps, key=lambda step: abs(tokens_at(step, most) - tokens))


def _numbers(span: Span) -> str:
    return f"{_figures(span.low)} to {_figures(span.high)} ({_figures(span.likely)})"


def _figures(value: float) -> str:
    """Two figures, which is more than is known."""
    if value < 1:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.2g}'):,.0f}"


def _times(span: Span) -> str:
    return f"{_time(span.low)} to {_time(span.high)} ({_time(span.likely)})"


def _time(seconds: float) -> str:
    return rough_duration(seconds) if seconds >= 60 else duration(seconds)
