"""What this machine could do with a model, by what is known without running it.

Owns: that judgement and its sentence, of true numbers only: a speed is in it only where one is foretold from what
was measured of this machine (`foretelling`). A pure function.
"""

from dataclasses import dataclass

from engine.errors import DoesNotFit
from engine.model_table import size_text
from engine.placement.forecast import LONG_PROMPT_TOKENS, TYPICAL_PROMPT_TOKENS, Forecast, Range
from engine.placement.load_plan import LoadPlan
from engine.protocol_library import Fit

KEPT_FREE_BYTES = 4_000_000_000
"""What the system and other programs need beside a model and its context."""


@dataclass(frozen=True)
class Foretold:
    """Where a model's parts would lie on this machine, and how fast it would be. `forecast` None: nothing can be
    said of its speed. `long_prompt_s`: for LONG_PROMPT_TOKENS, in a context that holds them; None: none does here."""

    plan: LoadPlan
    forecast: Forecast | None
    long_prompt_s: Range | None = None


def fit_of(
    result_bytes: int | None,
    *,
    memory_bytes: int,
    gpu_bytes: int = 0,
    free_bytes: int | None = None,
    foretold: Foretold | DoesNotFit | None = None,
) -> Fit:
    """`result_bytes`: of the model as it is run, None where nobody knows; `free_bytes`: on the disk for it, None
    for a model that lies there already; `foretold`: how it would run here, or why it would not."""
    if result_bytes is None:
        return Fit(verdict="unknown", text="How large it is will be known once the hub was asked.")
    needs = f"It needs {size_text(result_bytes)}"
    if free_bytes is not None and result_bytes > free_bytes:
        return Fit(
            verdict="too_large",
            text=f"{needs} on the disk for models, where {size_text(free_bytes)} are free.",
        )
    if isinstance(foretold, DoesNotFit):
        why = foretold.why
        return Fit(verdict="too_large", text=f"It cannot be run on this machine: {why}.")
    has = f"this machine has {size_text(memory_bytes)} of memory"
    if gpu_bytes:
        has += f" and {size_text(gpu_bytes)} on its GPUs"
    if foretold is not None:
        return _foretold(needs, has, foretold)
    room = max(0, memory_bytes - KEPT_FREE_BYTES) + gpu_bytes
    if result_bytes <= room:
        return Fit(verdict="memory", text=f"{needs}; {has}, so it can be held in memory as a whole.")
    if 2 * room >= result_bytes:
        text = f"{needs}; {has}, so a part of what it computes with is read from disk again and again."
        return Fit(verdict="memory_and_disk", text=text)
    return Fit(
        verdict="disk",
        text=f"{needs}; {has}, so most of what it computes with is read from disk again and again.",
    )


def _foretold(needs: str, has: str, foretold: Foretold) -> Fit:
    plan, forecast = foretold.plan, foretold.forecast
    missing = 1 - plan.experts_in_memory_share
    gpu, ram, disk = (size_text(plan.held_bytes(place)) for place in ("gpu", "ram", "disk"))
    prompts = ""
    if forecast is not None:
        part = "most of its experts are" if missing > 0.5 else "a part of its experts is"
        where = f"since {part} read from disk" if missing else "all of it in memory"
        on_gpu = f", {gpu} of it on a GPU" if plan.gpu is not None else ""
        told = f"about {rate_text(forecast.decode_tokens_per_s)}, {where}{on_gpu}"
        prompt = max(1, min(TYPICAL_PROMPT_TOKENS, plan.context_tokens - 1))
        prompts = f" A prompt of {prompt:,} tokens is answered after {duration_text(forecast.first_token_s)}"
        if foretold.long_prompt_s is not None:
            prompts += f", one of {LONG_PROMPT_TOKENS:,} after {duration_text(foretold.long_prompt_s)}"
        prompts += "."
    else:
        room = f"{ram} have room in memory"
        if plan.gpu is not None:
            room = f"{gpu} have room on a GPU and {ram} in memory"
        told = f"with its context {room}"
        if plan.held_bytes("disk"):
            told += f", and {disk} are read from disk again and again"
    verdict = "memory" if not missing else "disk" if missing > 0.5 else "memory_and_disk"
    return Fit(verdict=verdict, text=f"{needs}; {has}: {told}.{prompts}")


def duration_text(seconds: Range) -> str:
    """A range of seconds as people say it: "2.0 to 4.0 seconds", "5.0 to 12 minutes"."""
    unit, name = next(
        (each for each in ((3600.0, "hours"), (60.0, "minutes")) if seconds.likely >= 2 * each[0]),
        (1.0, "seconds"),
    )
    return f"{_number(seconds.low / unit)} to {_number(seconds.high / unit)} {name}"


def rate_text(rate: Range) -> str:
    """A range of tokens per second as people say it: "2 to 4 tokens a second"; slow ones by their seconds."""
    if rate.likely < 0.3:
        return f"{_number(1 / rate.high)} to {_number(1 / rate.low)} seconds for a token"
    return f"{_number(rate.low)} to {_number(rate.high)} tokens a second"


def _number(value: float) -> str:
    """Two figures, which is more than is known."""
    return f"{value:.1f}" if value < 10 else f"{float(f'{value:.2g}'):.0f}"
