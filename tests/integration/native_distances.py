"""How far the native network is from llama.cpp, and its smaller number formats from F32, as KL divergence.

Owns: the comparisons that a bound on each logit cannot make. llama.cpp rounds what goes into its kernels, so it is as
far from the native network as it is from `transformers`: that distance is its floor, and being nearer or farther than
it would both be wrong. BF16 activations and the caches in BF16 and in FP8 and FP4 are what they are; it is measured
how much that changes what the model says.

The small models are those of `reference_comparison`, sharpened so that rounding moves few choices. Flash's true
shapes: two layers, one of each compression, 16 experts, both routed by token id.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convert.conversion import convert
from tests.convert.conversions import checkpoint, job
from tests.convert.large_checkpoint import write_large_checkpoint
from tests.convert.released_configs import FLASH
from tests.integration.native_exactness import follow, network, own_logits, q8_0_numbers, run_reference
from tests.integration.native_trace import Reference, Trace
from tests.integration.reference_comparison import (
    CONFIG,
    SCALING,
    divergence,
    llama_logits,
    sharpened,
    tokens_of,
    widened,
)  # fmt: skip
from tests.integration.reference_comparison import Case as Sharp

FLOOR_SHARE = 0.02
"""By how much of llama.cpp's floor the native network may be nearer to it or farther from it than `transformers` is:
the two are 1e-5 of a standard deviation apart, which moves a divergence of 1e-4 by less than a hundredth."""
HALF_BOUND = 1e-3
"""Mean KL divergence of BF16 activations or a smaller cache from F32."""
TRUE_TOKENS = 200
TRUE_SHAPES: dict[str, Any] = FLASH | {
    "num_hidden_layers": 2,
    "compress_ratios": [4, 128],
    "num_hash_layers": 2,
    "num_nextn_predict_layers": 0,
    "n_routed_experts": 16,
    "vocab_size": 512,
}
"""Everything but the number of layers, experts and tokens is Flash's."""
HALVES: dict[str, dict[str, Any]] = {
    "cache bf16": {"cache_format": "bf16"},
    "cache mixed": {"cache_format": "mixed"},
    "activations bf16": {"activations": torch.bfloat16},
    "both, cache bf16": {"activations": torch.bfloat16, "cache_format": "bf16"},
    "both, cache mixed": {"activations": torch.bfloat16, "cache_format": "mixed"},
}


@dataclass(frozen=True)
class FromLlama:
    """Mean KL divergences of llama.cpp from two others, and of these from each other."""

    what: str
    floor: float
    """From `transformers`."""
    native: float
    between: float
    """Of the native network from `transformers`."""

    @property
    def misses(self) -> list[str]:
        """What is not as it must be."""
        if abs(self.native / self.floor - 1) <= FLOOR_SHARE:
            return []
        return [f"{self.what}: {self.native:.3e} from llama.cpp, whose floor is {self.floor:.3e}"]

    def __str__(self) -> str:
        return (
            f"{self.what}: llama.cpp from transformers {self.floor:.3e}, from native {self.native:.3e} "
            f"({self.native / self.floor:.4f} x); native from transformers {self.between:.1e}"
        )


@dataclass(frozen=True)
class Halves:
    """Mean and largest KL divergence from F32 of each of `HALVES`."""

    what: str
    found: dict[str, tuple[float, float]]

    @property
    def misses(self) -> list[str]:
        """What is beyond the bound."""
        return [
            f"{self.what}: {name} is {mean:.2e} from F32, {HALF_BOUND} is allowed"
            for name, (mean, _) in self.found.items()
            if not mean <= HALF_BOUND
        ]

    def __str__(self) -> str:
        each = (f"{name} {mean:.1e} (worst {worst:.1e})" for name, (mean, worst) in self.found.items())
        return f"{self.what}, mean KL from F32: {', '.join(each)}"


def small_from_llama(folder: Path, cases: Sequence[Sharp]) -> Iterator[FromLlama]:
    """Small sharpened models: with F32 dense weights, and in Q8_0 against the numbers that it means."""
    for number, case in enumerate(cases):
        own = folder / f"llama-{number}"
        source = sharp_checkpoint(own, case)
        ids = tokens_of(case)
        (bf16,) = convert(job(source, own / "bf16.gguf", dense="bf16", draft="skip"))
        (q8_0,) = convert(job(source, own / "q8_0.gguf", dense="q8_0", draft="skip"))
        files = {"F32": widened(source, bf16, own / "f32.gguf"), "Q8_0": q8_0}
        numbers = q8_0_numbers(source, q8_0, own / "numbers")
        task = {"checkpoint": str(source), "tokens": ids}
        run_reference(
            own,
            [
                task | {"trace": str(own / "F32")},
                task | {"trace": str(own / "Q8_0"), "replaced": str(numbers)},
            ],
        )
        for kind, path in files.items():
            yield _from_llama(f"{case} {kind}", path, ids, Reference(own / kind))


def sharp_checkpoint(folder: Path, case: Sharp) -> Path:
    """As `reference_comparison` draws them."""
    folder.mkdir()
    scaling = SCALING[case.ratios]
    return checkpoint(
        folder, case.release, ratios=case.ratios, seed=case.seed, edit=sharpened,
        routed_scaling_factor=scaling, **CONFIG,
    )  # fmt: skip


def _from_llama(what: str, path: Path, ids: Sequence[int], reference: Reference) -> FromLlama:
    """Ties are taken as `transformers` took them, so that both have the same floor; llama.cpp takes its own."""
    theirs, other = np.asarray(reference.logits), llama_logits(path, ids)
    trace = Trace(reference)
    with network(path) as model:
        ours = follow(model, ids, [len(ids)], trace)
    assert trace.misses == [], trace.misses
    return FromLlama(what, divergence(theirs, other), divergence(ours, other), divergence(theirs, ours))


def true_shapes(folder: Path) -> Iterator[Trace | FromLlama | Halves | str]:
    """Two layers of Flash's shapes: every part against `transformers`, the logits against llama.cpp, and `HALVES`."""
    source = write_large_checkpoint(folder / "DeepSeek-V4-Flash-0731", TRUE_SHAPES, seed=1)
    ids = [int(each) for each in np.random.default_rng(1).integers(0, 512, TRUE_TOKENS)]
    run_reference(folder, [{"checkpoint": str(source), "tokens": ids, "trace": str(folder / "reference")}])
    reference = Reference(folder / "reference")
    for way, sizes in (("one pass", [TRUE_TOKENS]), ("chunks and single tokens", [125, 1, 1, 1, 1, 71])):
        trace, started = Trace(reference), time.monotonic()
        with network(source) as model:
            follow(model, ids, sizes, trace)
        elapsed_s = time.monotonic() - started
        yield f"true shapes from the folder, {way}: {trace.summary}, {elapsed_s:.0f} s"
        yield trace
    yield halves("true shapes", source, ids)
    (bf16,) = convert(job(source, folder / "bf16.gguf", dense="bf16", draft="skip"))
    yield _from_llama("true shapes F32", widened(source, bf16, folder / "f32.gguf"), ids, reference)


def halves(what: str, source: Path, ids: Sequence[int]) -> Halves:
    """The divergence of each of `HALVES` from F32, over all the tokens."""
    with network(source) as model:
        exact = own_logits(model, ids).astype(np.float64)
    found: dict[str, tuple[float, float]] = {}
    for name, options in HALVES.items():
        with network(source, **options) as model:
            rows = own_logits(model, ids).astype(np.float64)
        each = np.array([divergence(exact[t : t + 1], rows[t : t + 1]) for t in range(len(ids))])
        found[name] = float(each.mean()), float(each.max())
    return Halves(what, found)
