"""V4 headers with changed numbers: whatever the library takes for a model, llama.cpp loads or refuses, and lives.

    python -m tests.integration.v4_header_fuzz --cases 2000 --seed 1

converts a small checkpoint, changes one or two numbers of its V4 metadata in each case, and asks the library whether it
is a model. If it says so, a process of its own loads it, reads a prompt that fills a window and a block of every
compression, and writes a token. One that is killed by a signal, or does not come to an end, is a failure: its changes
are printed, and the program ends with 1. `--all` loads those that the library refuses as well, and counts which of
them would have killed the process.

Needs fork, which makes a case cost a tenth of a second.
"""

import argparse
import contextlib
import ctypes
import math
import os
import random
import resource
import signal
import struct
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from convert.conversion import convert
from convert.gguf_header import read_gguf_header
from engine.library.model_files import ModelFiles
from tests.convert.conversions import checkpoint, job

Outcome = Literal["ran", "refused", "killed", "endless"]
PROMPT_TOKENS = 300
CONTEXT_TOKENS = 512
LIMIT_S = 20
LARGEST_ADDRESS_SPACE_BYTES = 16 << 30
"""A process that asks for more is told that there is no memory; the models are a few megabytes."""

_FORMATS = {4: "<I", 5: "<i", 6: "<f", 10: "<Q"}  # GGUF's numbers of uint32, int32, float32, uint64
_ARRAY = 9
_WHOLE = (
    0,
    1,
    2,
    3,
    5,
    7,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    1000,
    4096,
    65_537,
    2**20,
    2**31 - 1,
    2**31,
    2**32 - 1,
)
_RATIOS = (0, 0, 4, 128, 1, 2, 8, 64, 129, 2**32 - 1)
_REAL = (0.0, -1.0, 1e-30, 1e30, math.inf, -math.inf, math.nan)


class Number(NamedTuple):
    """A number of the metadata: where in the file it lies, and how it is written."""

    key: str
    offset: int
    format: str
    value: float


@dataclass
class Figures:
    """What a run has seen: how many cases had which outcome, and the changes of those that failed."""

    cases: int = 0
    refused_here: int = 0
    would_have_killed: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=dict[Outcome, int])
    failures: list[str] = field(default_factory=list[str])


def numbers_of(path: Path) -> list[Number]:
    """Every number of a V4 GGUF's `deepseek4.` metadata, each element of an array by itself."""
    header = read_gguf_header(path)
    start = path.read_bytes()[: header.data_offset]
    found: list[Number] = []
    for key in header.metadata:
        if not key.startswith("deepseek4."):
            continue
        name = struct.pack("<Q", len(key)) + key.encode()
        at = start.index(name) + len(name)
        kind, count = struct.unpack_from("<I", start, at)[0], 1
        at += 4
        if kind == _ARRAY:
            kind, count = struct.unpack_from("<IQ", start, at)
            at += 12
        if (layout := _FORMATS.get(kind)) is None:
            continue
        size = struct.calcsize(layout)
        for number in range(count):
            offset = at + number * size
            found.append(Number(key, offset, layout, struct.unpack_from(layout, start, offset)[0]))
    return found


def changed(number: Number, draw: random.Random) -> float:
    """Another value for it: one that is often wrong, or one close by."""
    if number.format == "<f":
        return draw.choice((*_REAL, number.value * 2, -number.value))
    if number.key.endswith("compress_ratios"):
        return draw.choice(_RATIOS)
    near = (number.value - 1, number.value + 1, number.value * 2, number.value // 2)
    return max(0, int(draw.choice((*_WHOLE, *near)))) % (1 << 31 if number.format == "<i" else 1 << 32)


def run(folder: Path, *, seed: int, cases: int, all_of_them: bool = False) -> Figures:
    """Try `cases` changes of small models that are made in `folder`."""
    draw, figures = random.Random(seed), Figures()
    source = checkpoint(folder, "preview", ratios="flash", seed=7)
    models = [convert(job(source, folder / f"{draft}.gguf", draft=draft))[0] for draft in ("keep", "skip")]
    numbers = {model: numbers_of(model) for model in models}
    load = _loader()
    for model in models:
        if (outcome := load(model)) != "ran":
            figures.failures.append(f"{model.name} as it is: {outcome}")
    for _ in range(cases):
        model = draw.choice(models)
        what = draw.sample(numbers[model], draw.choice((1, 1, 1, 2)))
        # Keys are as likely as each other, though an array has many numbers.
        changes = [(each, changed(each, draw)) for each in what]
        target = folder / "changed.gguf"
        body = bytearray(model.read_bytes())
        for number, value in changes:
            struct.pack_into(number.format, body, number.offset, value)
        target.write_bytes(body)
        figures.cases += 1
        refused = ModelFiles().facts(target).problem is not None
        figures.refused_here += refused
        if refused and not all_of_them:
            continue
        outcome = load(target)
        figures.outcomes[outcome] = figures.outcomes.get(outcome, 0) + 1
        if outcome in ("killed", "endless"):
            if refused:
                figures.would_have_killed += 1
                continue
            told = ", ".join(
                f"{number.key} at {number.offset}: {number.value} → {value}" for number, value in changes
            )
            figures.failures.append(f"{model.name}: {told}: {outcome}")
    return figures


def _loader() -> Any:
    """A function that loads a file in a process of its own, forked from this one, which has llama.cpp loaded."""
    import llama_cpp.llama_cpp as llama

    @llama.llama_log_callback
    def quiet(_level: int, _text: bytes, _data: object) -> None:
        """What llama.cpp says is of no use here."""

    def use(path: Path) -> int:
        llama.llama_log_set(quiet, ctypes.c_void_p(0))
        model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not model:
            return 1
        wanted = llama.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_threads, wanted.n_threads_batch = CONTEXT_TOKENS, 512, 1, 1
        context = llama.llama_init_from_model(model, wanted)
        if not context:
            return 1
        tokens = (llama.llama_token * PROMPT_TOKENS)(*(2 + at % 200 for at in range(PROMPT_TOKENS)))
        one = (llama.llama_token * 1)(5)
        for batch, count in ((tokens, PROMPT_TOKENS), (one, 1)):
            if llama.llama_decode(context, llama.llama_batch_get_one(batch, count)):
                return 1
        return 0

    def load(path: Path) -> Outcome:
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):
                signal.alarm(LIMIT_S)
                resource.setrlimit(
                    resource.RLIMIT_AS, (LARGEST_ADDRESS_SPACE_BYTES, LARGEST_ADDRESS_SPACE_BYTES)
                )
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                silence = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silence, 1)
                os.dup2(silence, 2)
                status = use(path)
            os._exit(status)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            return "endless" if os.WTERMSIG(status) == signal.SIGALRM else "killed"
        return "ran" if os.WEXITSTATUS(status) == 0 else "refused"

    llama.llama_backend_init()
    return load


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 1 when a file that the library took for a model killed the process that loaded it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--all", action="store_true", help="load what the library refuses as well")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = run(Path(folder), seed=options.seed, cases=options.cases, all_of_them=options.all)
    for failure in figures.failures:
        print(failure)
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(figures.outcomes.items()))
    print(
        f"{figures.cases} cases of seed {options.seed}: the library refused {figures.refused_here}; loaded: "
        f"{outcomes or 'none'}; {len(figures.failures)} failures"
        + (f"; {figures.would_have_killed} of the refused would have killed" if options.all else "")
    )
    return 1 if figures.failures else 0


if __name__ == "__main__":
    sys.exit(main())
