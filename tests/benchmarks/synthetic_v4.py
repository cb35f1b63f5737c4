"""Synthetic GGUFs of DeepSeek-V4: the true tensors of Flash, Pro or any shape in between, random numbers in them.

    python -m tests.benchmarks.synthetic_v4 OUT.gguf --layers 8 --experts 64 --routing skewed

Header, names and types are the converter's own (`tensor_map`, `metadata`, `gguf_writer`), so llama.cpp and
Seamount take such a file for a converted one. Numbers are blocks of random ones, repeated with a period that
shares no factor with a row's blocks, so that rows and experts differ and a gigabyte takes the time of writing it.
Their size is that of a fresh network's, so that every logit is finite; what the model says has no meaning.

With a routing (any but "scored") every layer is routed by token id (`hash_layer_count` = layers): row t of a
layer's table are the experts of token id t. So a prompt is a routing trace, and the same one in any engine; of a
recorded trace (`--routing trace:FILE`) the tokens 0, 1, 2 and so on are the model's token ids.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from convert.checkpoint_error import CheckpointError
from convert.expected_tensors import expected_tensors
from convert.ggml_types import GGML_TYPES
from convert.gguf_writer import header
from convert.metadata import Origin, Vocabulary, metadata_of
from convert.model_shape import ModelShape
from convert.tensor_map import Options, Target, map_tensors
from engine.errors import TraceError
from engine.placement.routing_trace import RoutingTrace, read_trace
from tests.benchmarks.routing_patterns import PATTERNS, Routes, replayed, uniform
from tests.convert.released_configs import FLASH, PRO
from tests.convert.seeded_checkpoint import write_tokenizer

BASES = {"flash": FLASH, "pro": PRO}
RELEASES = {"flash": "DeepSeek-V4-Flash-0731", "pro": "DeepSeek-V4-Pro-0813"}
OFFICIAL_VOCABULARY = 129_280
PERIOD_BLOCKS = 65_521
"""A prime: a row of any number of blocks below it starts at another place than the row before."""
_PIECE_BYTES = 8 << 20
_BLOCKS = {kind.name: kind for kind in GGML_TYPES.values()}
_MEAN_FP4 = 2.926  # root of the mean square of E2M1's values, each as likely as any other
_MEAN_INT8 = 73.0  # the same of -127…127

RoutesOf = Callable[[int], Routes]
"""A layer's number → int32 [vocabulary, used]."""


def synthetic_shape(
    base: str = "flash",
    *,
    layers: int | None = None,
    hashed: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> ModelShape:
    """The shape of a released model ("flash", "pro") without its drafter, cut to `layers`.

    hashed: every layer routed by token id. overrides: keys of config.json. Raises CheckpointError for a shape
    that no V4 can have, ValueError for fewer than two layers: llama.cpp 0.3.36 divides by zero, and with it
    ends the process, where no layer compresses by 4 or none by 128.
    """
    config = dict(BASES[base])
    count = int(config["num_hidden_layers"]) if layers is None else layers
    if count < 2:
        raise ValueError(f"{count} layers; llama.cpp needs two, one for each compression")
    ratios = list(config["compress_ratios"][:-1])
    while len(ratios) < count:  # more layers than the release has go on as it does
        ratios.append(ratios[-2])
    if count < 4:  # the first ones compress in one way or not at all
        ratios = ratios[4 - count :]
    config |= {
        "num_hidden_layers": count,
        "compress_ratios": ratios[:count],
        "num_nextn_predict_layers": 0,
        "num_hash_layers": count if hashed else min(count, config["num_hash_layers"]),
    }
    return ModelShape.from_config(config | dict(overrides or {}))


def write_synthetic(
    path: Path,
    shape: ModelShape,
    *,
    seed: int = 0,
    routes: RoutesOf | None = None,
    hollow: bool = False,
    release: str = RELEASES["flash"],
) -> int:
    """Write the model to `path`; returns its size in bytes. The same arguments give the same bytes.

    routes: the tables of the layers that are routed by token id; default: uniform. hollow: the routed experts
    are holes (zeros that take no room on the disk): for what reads headers or plans, not for speed from disk.
    """
    mapped = map_tensors(expected_tensors(shape), Options(draft="skip"))
    targets = mapped.of("model")
    metadata = metadata_of(
        "model", shape, _vocabulary(shape.vocab_size), mapped, Options(draft="skip"), Origin(release)
    )
    placed = header(metadata, targets)
    routes = routes or (
        lambda layer: uniform(
            layer, shape.vocab_size, shape.n_routed_experts, shape.num_experts_per_tok, seed
        )
    )
    numbers = _Numbers(seed)
    with path.open("wb") as file:
        file.write(placed.content)
        for target, offset in zip(targets, placed.offsets, strict=True):
            file.seek(offset)
            if target.type_name == "I32":
                _write_routes(file, target, shape, routes(int(target.name.split(".")[1])))
            elif not (hollow and target.how == "experts"):
                numbers.write(file, target)
        file.truncate(placed.file_bytes)
    return placed.file_bytes


class _Numbers:
    """Random blocks of each format and size, drawn once."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._periods: dict[tuple[str, float, float], bytes] = {}

    def write(self, file: BinaryIO, target: Target) -> None:
        """The target's numbers, from a random place in its period on."""
        kind = _BLOCKS[target.type_name]
        mean, deviation = _spread(target)
        piece = self._piece(target.type_name, mean, deviation)
        at = int(self._random.integers(PERIOD_BLOCKS)) * kind.block_bytes
        left = target.size_bytes
        whole = memoryview(piece)
        while left:
            part = whole[at : at + left]
            file.write(part)
            left, at = left - len(part), 0

    def _piece(self, type_name: str, mean: float, deviation: float) -> bytes:
        """Whole periods, a few megabytes of them."""
        key = (type_name, mean, deviation)
        if key not in self._periods:
            period = _blocks(type_name, mean, deviation, self._random)
            self._periods[key] = period * max(1, _PIECE_BYTES // len(period))
        return self._periods[key]


def _blocks(type_name: str, mean: float, deviation: float, random: np.random.Generator) -> bytes:
    """`PERIOD_BLOCKS` blocks of one format."""
    kind = _BLOCKS[type_name]
    if type_name == "MXFP4":
        blocks = random.integers(0, 256, (PERIOD_BLOCKS, kind.block_bytes), dtype=np.uint8)
        # The first byte is the exponent of the block's scale, E8M0: 2^(byte - 127).
        blocks[:, 0] = round(np.log2(deviation / _MEAN_FP4)) + 127
        return blocks.tobytes()
    if type_name == "Q8_0":
        blocks = np.empty(PERIOD_BLOCKS, np.dtype([("scale", "<f2"), ("codes", "i1", 32)]))
        blocks["scale"] = deviation / _MEAN_INT8
        blocks["codes"] = random.integers(-127, 128, (PERIOD_BLOCKS, 32))
        return blocks.tobytes()
    numbers = (mean + deviation * random.standard_normal(PERIOD_BLOCKS)).astype("<f4")
    if type_name == "F32":
        return numbers.tobytes()
    assert type_name == "BF16", type_name
    return (numbers.view("<u4") >> 16).astype("<u2").tobytes()


def _spread(target: Target) -> tuple[float, float]:
    """Mean and deviation of a tensor's numbers: those of a fresh network."""
    source = target.sources[0]
    if source.endswith(("norm.weight", "_scale")):
        return 1.0, 0.1
    if source.endswith(("_base", "attn_sink", ".ape")):
        return 0.0, 0.5
    if source.endswith("gate.bias"):
        return 0.0, 0.01
    if source == "embed.weight":
        return 0.0, 1.0
    return 0.0, float(target.shape[0]) ** -0.5


def _write_routes(file: BinaryIO, target: Target, shape: ModelShape, routes: Routes) -> None:
    used, vocabulary = target.shape
    if routes.shape != (vocabulary, used) or routes.min() < 0 or routes.max() >= shape.n_routed_experts:
        raise ValueError(f"{target.name}: routes {routes.shape} for {vocabulary} tokens of {used} experts")
    file.write(routes.astype("<i4").tobytes())


def _vocabulary(size: int) -> Vocabulary:
    """The official one; for any other size, as many of its first tokens as that has room for."""
    with tempfile.TemporaryDirectory() as folder:
        write_tokenizer(Path(folder), "official" if size == OFFICIAL_VOCABULARY else "tiny", size)
        return Vocabulary(
            *(Path(folder, name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json"))
        )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.synthetic_v4", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("out", type=Path, metavar="OUT", help="the .gguf file to write; it must not exist")
    parser.add_argument("--base", choices=tuple(BASES), default="flash", help="the release it is like")
    parser.add_argument("--layers", type=int, help="default: all of the release's")
    for name, key in _EXTENTS.items():
        parser.add_argument(f"--{name}", type=int, dest=key, help=f"{key}; default: the release's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="more", help="any key of config.json"
    )
    parser.add_argument(
        "--routing",
        default="scored",
        metavar="|".join(("scored", *PATTERNS, "trace:FILE")),
        help="scored: as the release does; else every layer by token id, by a pattern or as a recorded trace's tokens",
    )
    parser.add_argument("--hollow", action="store_true", help="experts take no room on the disk")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if options.out.exists():
        parser.error(f"{options.out} is there already")
    overrides = {key: getattr(options, key) for key in _EXTENTS.values() if getattr(options, key) is not None}
    for each in options.more:
        key, equals, value = each.partition("=")
        if not equals:
            parser.error(f"--set {each}: KEY=VALUE is wanted")
        try:
            overrides[key] = json.loads(value)
        except ValueError:
            parser.error(f"--set {each}: the value is not JSON")
    trace: RoutingTrace | None = None
    try:
        if options.routing.startswith("trace:"):
            trace = read_trace(Path(options.routing.removeprefix("trace:")))
        elif options.routing not in ("scored", *PATTERNS):
            parser.error(
                f"--routing {options.routing}: one of scored, {', '.join(PATTERNS)}, trace:FILE is wanted"
            )
        shape = synthetic_shape(
            options.base, layers=options.layers, hashed=options.routing != "scored", overrides=overrides
        )
        experts, used = shape.n_routed_experts, shape.num_experts_per_tok
        if trace is not None:
            replayed(trace, shape.num_hidden_layers - 1, 1, experts, used)
    except (CheckpointError, TraceError, ValueError) as error:
        parser.error(str(error))
    pattern = PATTERNS.get(options.routing, uniform)

    def routes(layer: int) -> Routes:
        if trace is not None:
            return replayed(trace, layer, shape.vocab_size, experts, used)
        return pattern(layer, shape.vocab_size, experts, used, options.seed)

    size_bytes = write_synthetic(
        options.out,
        shape,
        seed=options.seed,
        routes=routes,
        hollow=options.hollow,
        release=RELEASES[options.base],
    )
    print(f"{options.out}: {size_bytes / 1e9:.2f} GB, {shape.num_hidden_layers} layers of {experts} experts")
    return 0


_EXTENTS = {
    "experts": "n_routed_experts",
    "used": "num_experts_per_tok",
    "hidden": "hidden_size",
    "ff": "moe_intermediate_size",
    "vocabulary": "vocab_size",
}

if __name__ == "__main__":
    sys.exit(main())
