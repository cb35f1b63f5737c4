"""The native engine beside llama.cpp on this processor: prompts and single tokens.

    python -m tests.benchmarks.native_speed            # a minute or two

A synthetic model of Flash's true layer shapes (`synthetic_v4`), routed by token id so that both engines go to the
same experts. Both have it loaded, compute with as many threads, keep their contexts in F32 and read the same tokens in
turns; told are medians and ratios. The logits of both are compared, so that no ratio is told of something else. The
load of the machine is printed: other work disturbs what is slower.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from engine.backends.base import Backend
from engine.backends.llamacpp import LlamaCppBackend
from engine.backends.native import NativeBackend
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

PROMPT_TOKENS = 64
STEPS = 3
ROUNDS = 3
LAYERS = 4
"""The smallest number with each kind of layer twice: window and compressed by 4, by 128."""
VOCABULARY = 4096
LEAST_AGREEMENT = 0.99
"""Correlation of both engines' logits. llama.cpp rounds activations to 8 bits in its products."""


def _model(path: Path, experts: int) -> None:
    shape = synthetic_shape(
        "flash", layers=LAYERS, hashed=True, overrides={"n_routed_experts": experts, "vocab_size": VOCABULARY}
    )
    size_bytes = write_synthetic(path, shape, seed=1)
    print(
        f"native speed: {LAYERS} layers of Flash's shapes with {experts} experts each, {size_bytes / 1e9:.2f} GB"
    )


def _prompt_s(backend: Backend, tokens: Sequence[int]) -> float:
    began_s = time.perf_counter()
    backend.sync(tokens, lambda _a, _b, _c: None, lambda: False)
    return time.perf_counter() - began_s


def _step_s(backend: Backend, token: int) -> float:
    began_s = time.perf_counter()
    backend.step(token)
    return time.perf_counter() - began_s


def main(argv: Sequence[str] | None = None) -> bool:
    """Print the figures; True when both engines said the same."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experts", type=int, default=16)
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1)
    options = parser.parse_args(argv)
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", flush=True)
    random = np.random.default_rng(7)
    prompts = [random.integers(3, VOCABULARY, PROMPT_TOKENS).tolist() for _ in range(ROUNDS + 1)]
    with TemporaryDirectory() as scratch:
        path = Path(scratch, "synthetic.gguf")
        _model(path, options.experts)
        context = {"context_tokens": 2 * PROMPT_TOKENS, "threads": options.threads}
        backends: dict[str, Backend] = {
            "llamacpp": LlamaCppBackend.open(
                path, name="llamacpp", on_progress=lambda _: True, kv_type="f32", **context
            ),
            "native": NativeBackend.open(path, name="native", cache_type="f32", **context),
        }
        try:
            return _compared(backends, prompts, random)
        finally:
            for backend in backends.values():
                backend.close()


def _compared(backends: dict[str, Backend], prompts: list[list[int]], random: np.random.Generator) -> bool:
    prompt_s: dict[str, list[float]] = {name: [] for name in backends}
    step_s: dict[str, list[float]] = {name: [] for name in backends}
    logits: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    for round_, prompt in enumerate(prompts):
        for name, backend in backends.items():  # the first prompt only warms up, and is compared
            took_s = _prompt_s(backend, prompt)
            if round_ == 0:
                logits[name] = backend.logits().copy()
            else:
                prompt_s[name].append(took_s)
        for token in random.integers(3, VOCABULARY, STEPS).tolist():
            for name, backend in backends.items():
                took_s = _step_s(backend, token)
                if round_:
                    step_s[name].append(took_s)
    agreement = float(np.corrcoef(logits["llamacpp"], logits["native"])[0, 1])
    for what, took, tokens in (("prompt", prompt_s, PROMPT_TOKENS), ("single tokens", step_s, 1)):
        rates = {name: tokens / statistics.median(each) for name, each in took.items()}
        print(
            f"native speed, {what}: native {rates['native']:.2f} tokens/s, llama.cpp {rates['llamacpp']:.2f}: "
            f"{rates['native'] / rates['llamacpp']:.3f} of it"
        )
    held = agreement >= LEAST_AGREEMENT
    print(f"native speed: logits of both correlate by {agreement:.5f} (wanted ≥ {LEAST_AGREEMENT})")
    return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
