"""Converted files in llama.cpp against `transformers`' DeepseekV4 with the same weights.

    python -m tests.integration.reference_comparison --seeds 3

For each release, kind of layers and seed: the mean KL divergence, over 700 tokens, of what llama.cpp computes from
what the reference does, for a file with F32 in BF16's place (llama.cpp's own floor: it rounds what goes into its
kernels for experts), for `--dense bf16`, for `--dense q8_0`, and for one in which two experts of one layer have each
other's down matrix. The reference runs in `.venv-reference`, as a process of its own.

Plain random weights make a blunt test: a token whose last chosen expert and the first one not chosen score about
alike gets another expert for the smallest rounding, and such tokens are most of the distance (floor 0.003, with or
without Q8_0). What is done against it, with every kind of layer still in the network:

- three layers are hashed, as in the release, so that the token chooses;
- the other two take six of eight experts, by weights eight times as large, so that the last one chosen counts for
  little whichever it is;
- the experts' output is doubled, so that it is for most of the result what it is in the release, too.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import llama_cpp.llama_cpp as llama
import numpy as np
from llama_cpp.llama_cpp import llama_get_memory, llama_memory_clear
from numpy.typing import NDArray

from convert.conversion import convert
from convert.conversion_plan import make_plan
from convert.gguf_writer import header
from convert.metadata import Vocabulary, metadata_of
from convert.model_shape import ModelShape
from tests.convert.conversions import Release, checkpoint, job

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "convert" / "reference" / "logits.py"
PYTHON = ROOT / ".venv-reference" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
READY = ROOT / ".venv-reference" / ".seamount-reference"
MISSING = "torch and transformers are not there (.venv-reference; `make test` says why)"

TOKENS = 700
CHUNK = 256
BF16_BOUND = 1.3
Q8_0_BOUND = 2.2
"""How many times the floor a format may be away from the reference."""
HIGHEST_FLOOR = 1e-3
"""Above it the weights are not sharp any more, or both files and the floor are wrong alike."""
PERMUTED_BOUND = 100
"""How many times the floor one wrong expert is away, at least."""

Ratios = Literal["flash", "pro"]
Logits = NDArray[np.float32]
RELEASES: tuple[Release, ...] = ("preview", "0731")
RATIOS: tuple[Ratios, ...] = ("flash", "pro")


@dataclass(frozen=True)
class Case:
    """One seeded checkpoint."""

    release: Release
    ratios: Ratios
    seed: int

    def __str__(self) -> str:
        return f"{self.release} {self.ratios} seed {self.seed}"


@dataclass(frozen=True)
class Distances:
    """Mean KL divergences from the reference."""

    floor: float
    bf16: float
    q8_0: float
    permuted: float

    def misses(self) -> list[str]:
        """What is not as it must be."""
        bounds = {
            f"the floor, {self.floor:.1e}, is above {HIGHEST_FLOOR}": self.floor <= HIGHEST_FLOOR,
            f"bf16 is more than {BF16_BOUND} x the floor away": self.bf16 <= BF16_BOUND * self.floor,
            f"q8_0 is more than {Q8_0_BOUND} x the floor away": self.q8_0 <= Q8_0_BOUND * self.floor,
            "a permuted expert is not seen": self.permuted > PERMUTED_BOUND * self.floor,
        }
        return [miss for miss, holds in bounds.items() if not holds]

    def __str__(self) -> str:
        ratio = self.bf16 / self.floor, self.q8_0 / self.floor, self.permuted / self.floor
        return (
            f"floor {self.floor:.2e}, bf16 {self.bf16:.2e} ({ratio[0]:.2f} x), "
            f"q8_0 {self.q8_0:.2e} ({ratio[1]:.2f} x), permuted {self.permuted:.2e} ({ratio[2]:.0f} x)"
        )


CONFIG = {"num_experts_per_tok": 6, "num_hash_layers": 3}
SCALING = {"flash": 1.5, "pro": 2.5}
"""`routed_scaling_factor`, as in the releases."""


def sharpened(name: str, stored: NDArray[Any]) -> NDArray[Any]:
    """A tensor of the checkpoint, as the docstring above says."""
    if name.endswith("ffn.gate.weight"):
        return stored + np.uint16(3 << 7)  # 3 more in BF16's exponent: eight times as large
    if ".ffn.experts." in name and name.endswith(".w2.scale"):
        return stored + np.uint8(1)
    return stored


def compare(folder: Path, cases: Sequence[Case]) -> list[Distances]:
    """The distances of each case. `folder` is for what is written on the way."""
    sources = [
        checkpoint(
            folder / f"source-{k}",
            case.release,
            ratios=case.ratios,
            seed=case.seed,
            edit=sharpened,
            routed_scaling_factor=SCALING[case.ratios],
            **CONFIG,
        )
        for k, case in enumerate(cases)
    ]
    tokens = [tokens_of(case) for case in cases]
    reference = reference_logits(folder, sources, tokens)
    return [
        _distances(folder / f"files-{k}", source, tokens[k], reference[k]) for k, source in enumerate(sources)
    ]


def tokens_of(case: Case) -> list[int]:
    """Drawn from all of the small vocabulary."""
    return [int(each) for each in np.random.default_rng(case.seed).integers(0, 512, TOKENS)]


def reference_logits(folder: Path, sources: Sequence[Path], tokens: Sequence[list[int]]) -> list[Logits]:
    """What `transformers` computes, by a process whose path does not hold this checkout (`-I`)."""
    results = [folder / f"reference-{k}.npy" for k in range(len(sources))]
    tasks = [
        {"checkpoint": str(source), "tokens": ids, "logits": str(result)}
        for source, ids, result in zip(sources, tokens, results, strict=True)
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks), encoding="utf-8")
    command = [str(PYTHON), "-I", str(SCRIPT), str(folder / "tasks.json")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [np.load(result) for result in results]


def _distances(folder: Path, source: Path, tokens: list[int], reference: Logits) -> Distances:
    folder.mkdir()
    (bf16,) = convert(job(source, folder / "bf16.gguf", dense="bf16", draft="skip"))
    (q8_0,) = convert(job(source, folder / "q8_0.gguf", dense="q8_0", draft="skip"))
    floor = widened(source, bf16, folder / "f32.gguf")
    permuted = with_experts_exchanged(source, bf16, folder / "permuted.gguf", layer=1)
    return Distances(*(divergence(reference, llama_logits(p, tokens)) for p in (floor, bf16, q8_0, permuted)))


def widened(source: Path, converted: Path, target: Path) -> Path:
    """`converted` (BF16, no drafter) with F32 where BF16 stands: the same numbers, and nothing but them."""
    plan = make_plan(job(source, converted, dense="bf16", draft="skip"))
    planned = plan.files["model"]
    config = json.loads((source / "config.json").read_bytes())
    vocabulary = Vocabulary(
        *((source / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json"))
    )
    options, shape = plan.job.options, ModelShape.from_config(config)
    metadata = metadata_of("model", shape, vocabulary, plan.mapped, options, plan.origin)
    wide = tuple(replace(t, type_name="F32") if t.type_name == "BF16" else t for t in planned.targets)
    head = header(metadata, wide)
    content = converted.read_bytes()
    with target.open("wb") as file:
        file.write(head.content)
        for narrow, other, offset in zip(planned.targets, wide, head.offsets, strict=True):
            start = planned.offset(narrow)
            data = content[start : start + narrow.size_bytes]
            if other.type_name != narrow.type_name:
                data = (np.frombuffer(data, "<u2").astype("<u4") << 16).tobytes()
            file.seek(offset)
            file.write(data)
        file.truncate(head.file_bytes)
    return target


def with_experts_exchanged(source: Path, converted: Path, target: Path, *, layer: int) -> Path:
    """`converted` with the first two experts' down matrices of one layer in each other's place."""
    planned = make_plan(job(source, converted, dense="bf16", draft="skip")).files["model"]
    name = f"blk.{layer}.ffn_down_exps.weight"
    (experts,) = (each for each in planned.targets if each.name == name)
    start, size = planned.offset(experts), experts.size_bytes // experts.shape[2]
    content = bytearray(converted.read_bytes())
    first, second = content[start : start + size], content[start + size : start + 2 * size]
    content[start : start + 2 * size] = second + first
    target.write_bytes(content)
    return target


@llama.llama_log_callback
def _quiet(_level: int, _text: bytes, _data: object) -> None:
    """What llama.cpp says while it loads is of no use here."""


def llama_logits(path: Path, tokens: Sequence[int]) -> Logits:
    """Logits of every position by llama.cpp: F32 memory, no flash attention, `CHUNK` tokens at once."""
    llama.llama_backend_init()
    llama.llama_log_set(_quiet, ctypes.c_void_p(0))
    model: Any = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
    assert model, path
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = 1024
    parameters.n_batch = parameters.n_ubatch = CHUNK
    parameters.n_threads = parameters.n_threads_batch = 1
    parameters.type_k = parameters.type_v = 0  # F32
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context: Any = llama.llama_init_from_model(model, parameters)
    assert context
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    llama_memory_clear(llama_get_memory(context), True)
    batch = llama.llama_batch_init(CHUNK, 0, 1)
    found: list[Logits] = []
    for start in range(0, len(tokens), CHUNK):
        chunk = tokens[start : start + CHUNK]
        batch.n_tokens = len(chunk)
        for place, token in enumerate(chunk):
            batch.token[place], batch.pos[place] = token, start + place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
        assert llama.llama_decode(context, batch) == 0
        found.append(np.ctypeslib.as_array(llama.llama_get_logits(context), shape=(len(chunk), size)).copy())
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return np.concatenate(found)


def divergence(reference: Logits, other: Logits) -> float:
    """Mean KL divergence of the distributions of `other` from those of `reference`."""
    logs = [
        each.astype(np.float64) - np.logaddexp.reduce(each.astype(np.float64), axis=1, keepdims=True)
        for each in (reference, other)
    ]
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean())


def cases(seeds: Sequence[int]) -> list[Case]:
    """Both releases with both kinds of layers, for each seed once. Two releases drawn alike would be the same model."""
    return [
        Case(release, ratios, 4 * seed + 2 * RELEASES.index(release) + RATIOS.index(ratios))
        for seed in seeds
        for release in RELEASES
        for ratios in RATIOS
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first of them")
    options = parser.parse_args()
    if not READY.exists():
        print(f"not compared with transformers: {MISSING}")
        return 0
    failed = False
    for case in cases(range(options.seed, options.seed + options.seeds)):
        with tempfile.TemporaryDirectory() as folder:
            (found,) = compare(Path(folder), [case])
        misses = found.misses()
        failed |= bool(misses)
        print(f"{case}: {found}", *misses, sep="; ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
