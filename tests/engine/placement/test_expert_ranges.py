import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from convert.conversion import convert
from convert.gguf_header import GgufHeader, TensorInfo, read_gguf_header
from convert.gguf_writer import Metadata
from convert.gguf_writer import header as written
from engine.placement.expert_ranges import ByteRange, ExpertRanges, expert_ranges
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.conversions import checkpoint, job
from tests.convert.seeded_checkpoint import SMALL

SMALLER = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}


def ranges_of(path: Path) -> ExpertRanges:
    ranges = expert_ranges(read_gguf_header(path))
    assert ranges is not None
    return ranges


def test_every_byte_of_the_experts_lies_in_one_range(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    shape = synthetic_shape(layers=3, overrides=SMALLER)
    write_synthetic(path, shape)
    header, ranges = read_gguf_header(path), ranges_of(path)
    assert list(ranges.layers) == [0, 1, 2]
    assert ranges.used == 2
    matrix = 256 * 128 * 17 // 32
    assert ranges.size_bytes == 3 * 8 * 3 * matrix
    assert ranges.token_bytes == 3 * 2 * 3 * matrix
    for number, layer in ranges.layers.items():
        pieces = layer.ranges(range(layer.experts))
        assert {piece.size_bytes for piece in pieces} == {matrix}
        names = [f"blk.{number}.ffn_{part}_exps.weight" for part in ("up", "gate", "down")]
        tensors = [header_tensor(header, name) for name in names]
        assert [piece.offset for piece in pieces[::8]] == [header.data_offset + t.offset for t in tensors]
        for tensor, start in zip(tensors, (0, 8, 16), strict=True):
            whole = pieces[start : start + 8]
            assert sum(piece.size_bytes for piece in whole) == tensor.size_bytes
            assert all(b.offset == a.offset + matrix for a, b in itertools.pairwise(whole))


def header_tensor(header: GgufHeader, name: str) -> TensorInfo:
    return next(tensor for tensor in header.tensors if tensor.name == name)


def test_chosen_experts_come_in_the_order_in_which_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_synthetic(path, synthetic_shape(layers=2, overrides=SMALLER))
    layer = ranges_of(path).layers[0]
    up, gate, down = layer.tensors
    expected = [tensor.range_of(expert) for tensor in (up, gate, down) for expert in (5, 2)]
    assert layer.ranges([5, 2]) == expected
    assert up.range_of(2) == ByteRange(up.offset + 2 * up.expert_bytes, up.expert_bytes)


@pytest.mark.parametrize("wrong", [-1, 8])
def test_a_number_that_is_no_experts_is_refused(tmp_path: Path, wrong: int) -> None:
    path = tmp_path / "m.gguf"
    write_synthetic(path, synthetic_shape(layers=2, overrides=SMALLER))
    with pytest.raises(ValueError, match=f"expert {wrong} of 8"):
        ranges_of(path).layers[0].ranges([0, wrong])


def test_a_drafter_in_the_same_file_is_left_out(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "preview", layers=2)
    (path,) = convert(job(source, tmp_path / "m.gguf", draft="keep"))
    assert any(tensor.name == "blk.2.ffn_up_exps.weight" for tensor in read_gguf_header(path).tensors)
    assert list(ranges_of(path).layers) == [0, 1]


def made(path: Path, experts: dict[str, tuple[int, ...]], *, used: int = 2, split: int = 0) -> GgufHeader:
    metadata = Metadata()
    metadata.text("general.architecture", "qwen3moe")
    metadata.count("qwen3moe.expert_used_count", used)
    if split:
        metadata.count("split.count", split)
    tensors = [TensorInfo(name, shape, "F32", 0, 4 * shape[0] * shape[1] * (shape[2] if len(shape) > 2 else 1))
               for name, shape in experts.items()]  # fmt: skip
    header = written(metadata, tensors)
    path.write_bytes(header.content + bytes(header.file_bytes - len(header.content)))
    return read_gguf_header(path)


UP, DOWN = "blk.1.ffn_up_exps.weight", "blk.1.ffn_down_exps.weight"


def test_other_models_with_experts_are_known_too(tmp_path: Path) -> None:
    fused = {"blk.1.ffn_gate_up_exps.weight": (8, 16, 4), DOWN: (8, 8, 4), "blk.0.ffn_up.weight": (8, 8)}
    ranges = expert_ranges(made(tmp_path / "m.gguf", fused))
    assert ranges is not None
    assert list(ranges.layers) == [1]
    assert [tensor.expert_bytes for tensor in ranges.layers[1].tensors] == [512, 256]


@pytest.mark.parametrize(
    ("experts", "used", "split"),
    [
        ({"blk.0.ffn_up.weight": (8, 8)}, 2, 0),  # no experts
        ({UP: (8, 8, 4), DOWN: (8, 8, 3)}, 2, 0),  # they do not agree
        ({UP: (8, 8)}, 2, 0),
        ({UP: (8, 8, 4)}, 5, 0),  # more are used than there are
        ({UP: (8, 8, 4)}, 0, 0),
        ({UP: (8, 8, 4)}, 2, 3),  # the rest lies in other files
    ],
)
def test_what_cannot_be_cut_into_experts_counts_as_without_them(
    tmp_path: Path, experts: dict[str, tuple[int, ...]], used: int, split: int
) -> None:
    assert expert_ranges(made(tmp_path / "m.gguf", experts, used=used, split=split)) is None


@pytest.mark.parametrize("key", ["split.count", "qwen3moe.block_count", "qwen3moe.nextn_predict_layers"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1])
def test_a_count_that_cannot_be_is_as_none(tmp_path: Path, key: str, value: float) -> None:
    header = made(tmp_path / "m.gguf", {UP: (8, 8, 4), DOWN: (8, 8, 4)})
    assert expert_ranges(replace(header, metadata=header.metadata | {key: value})) == expert_ranges(header)
