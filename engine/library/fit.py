"""What this machine could do with a model, by what is known without running it.

Owns: that judgement and its sentence, of true numbers only: no speed is foretold. A pure function; whoever plans
where a model's parts go may put a better one in its place.
"""

from engine.model_table import size_text
from engine.protocol_library import Fit

KEPT_FREE_BYTES = 4_000_000_000
"""What the system and other programs need beside a model and its context."""


def fit_of(
    result_bytes: int | None, *, memory_bytes: int, gpu_bytes: int = 0, free_bytes: int | None = None
) -> Fit:
    """`result_bytes`: of the model as it is run, None where nobody knows; `free_bytes`: on the disk for it, None
    for a model that lies there already."""
    if result_bytes is None:
        return Fit(verdict="unknown", text="How large it is will be known once the hub was asked.")
    needs = f"It needs {size_text(result_bytes)}"
    if free_bytes is not None and result_bytes > free_bytes:
        return Fit(
            verdict="too_large",
            text=f"{needs} on the disk for models, where {size_text(free_bytes)} are free.",
        )
    has = f"this machine has {size_text(memory_bytes)} of memory"
    if gpu_bytes:
        has += f" and {size_text(gpu_bytes)} on its GPUs"
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
