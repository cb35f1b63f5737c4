"""The figures of an inspection, and that the result's weight is what the formats make of the shapes."""

import struct
import sys
from pathlib import Path

import pytest

from convert.checkpoint_error import CheckpointError
from convert.expected_tensors import Expected, expected_tensors
from convert.gguf_header import GgufError
from convert.inspection import inspect_checkpoint, inspect_gguf, result_format, result_sizes
from convert.model_shape import ModelShape
from tests.convert.released_configs import FLASH_0731
from tests.convert.seeded_checkpoint import stored, write_checkpoint, write_hollow_checkpoint
from tests.convert.test_gguf_header import ARCHITECTURE, TINY, TYPE_F32, gguf, tensor


@pytest.mark.parametrize("release", ["preview", "0731"])
@pytest.mark.parametrize("ratios", ["flash", "pro"])
def test_a_whole_checkpoint(tmp_path: Path, release: str, ratios: str) -> None:
    folder = write_checkpoint(tmp_path / "model", release=release, ratios=ratios, layers=3)  # type: ignore[arg-type]
    found = inspect_checkpoint(folder)
    assert found.shape is not None and found.shape_problem is None and found.checkpoint.problems == ()
    assert found.comparison is not None and found.comparison.agrees
    assert sum(each.tensors for each in found.formats) == len(found.checkpoint.tensors)
    assert sum(each.size_bytes for each in found.formats) == found.checkpoint.tensor_bytes
    assert [each.size_bytes for each in found.formats] == sorted(
        (e.size_bytes for e in found.formats), reverse=True
    )
    assert found.free_bytes > 0
    # Counted one by one over what is stored: two numbers a byte in FP4, none in scales and tables.
    numbers = 0
    for name, source in found.checkpoint.tensors.items():
        if not name.endswith((".scale", "tid2eid")):
            numbers += stored(folder, name).size * (2 if source.dtype == "I8" else 1)
    assert found.parameters is not None and found.parameters.total == numbers


@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse here without being asked to be")
def test_the_whole_of_flash_0731_from_its_headers(tmp_path: Path) -> None:
    """167 GB in 48 shards, all of it holes, so that only the headers can be read in any reasonable time."""
    found = inspect_checkpoint(write_hollow_checkpoint(tmp_path / "DeepSeek-V4-Flash-0731", FLASH_0731))
    assert (len(found.checkpoint.shards), len(found.checkpoint.tensors)) == (48, 72_317)
    assert found.checkpoint.tensor_bytes == 166_878_536_440
    assert found.checkpoint.problems == () and found.comparison is not None and found.comparison.agrees


def test_what_is_not_whole(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", layers=3)
    min(folder.glob("model-*.safetensors")).unlink()
    found = inspect_checkpoint(folder)
    assert [each.problem for each in found.checkpoint.problems] == ["incomplete"]
    assert found.comparison is not None and found.comparison.missing == ("embed.weight",)
    (folder / "config.json").write_text('{"model_type": "other"}')
    found = inspect_checkpoint(folder)
    assert found.shape_problem is not None and found.shape_problem.problem == "unsupported"
    assert (
        found.shape is None and found.parameters is None and found.comparison is None and found.results == ()
    )
    assert found.formats
    with pytest.raises(CheckpointError):
        inspect_checkpoint(tmp_path)


def test_the_format_of_each_kind_of_tensor() -> None:
    for name, each, q8_0, bf16 in (
        ("layers.0.ffn.experts.0.w1.weight", Expected("I8", (4, 32)), "MXFP4", "MXFP4"),
        ("layers.0.ffn.experts.0.w1.scale", Expected("F8_E8M0", (4, 2)), None, None),
        ("layers.0.attn.wkv.weight", Expected("F8_E4M3", (4, 64)), "Q8_0", "BF16"),
        ("layers.0.attn.wkv.weight", Expected("F8_E4M3", (4, 40)), "BF16", "BF16"),
        ("embed.weight", Expected("BF16", (4, 64)), "BF16", "BF16"),
        ("norm.weight", Expected("BF16", (64,)), "F32", "F32"),
        ("hc_head_fn", Expected("F32", (4, 64)), "F32", "F32"),
        ("layers.0.ffn.gate.tid2eid", Expected("I64", (4, 6)), "I32", "I32"),
    ):
        assert (result_format(name, each, "q8_0"), result_format(name, each, "bf16")) == (q8_0, bf16), name


def test_what_flash_would_weigh() -> None:
    expected = expected_tensors(ModelShape.from_config(FLASH_0731))
    q8_0, bf16 = result_sizes(expected)
    # Experts take in a GGUF what they take in the checkpoint: 17 bytes for 32 numbers.
    experts = sum(
        each.size_bytes
        for name, each in expected.items()
        if ".experts." in name and name.startswith("layers.")
    )
    assert experts == 43 * 256 * 3 * 4096 * 2048 * 17 // 32
    dense = sum(
        each.shape[0] * each.shape[1]
        for name, each in expected.items()
        if each.dtype == "F8_E4M3" and name.startswith("layers.")
    )
    assert bf16.model_bytes - q8_0.model_bytes == dense * 2 - dense * 34 // 32
    assert 0 < q8_0.model_bytes - experts - dense * 34 // 32 < 4e9
    assert bf16.draft_bytes > q8_0.draft_bytes > 3 * 256 * 3 * 4096 * 2048 * 17 // 32


def test_a_gguf_and_a_split_one(tmp_path: Path) -> None:
    one, two = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    one.write_bytes(TINY)
    two.write_bytes(gguf([ARCHITECTURE], [tensor("c", (5, 2), TYPE_F32, 0)], bytes(40)))
    found = inspect_gguf([one])
    assert (found.tensors, found.parameters, found.surplus_bytes) == (2, 67, 0)
    assert [(each.name, each.tensors, each.size_bytes) for each in found.formats] == [
        ("Q4_0", 1, 36),
        ("F32", 1, 12),
    ]
    both = inspect_gguf([one, two])
    assert (both.tensors, both.parameters) == (3, 77)
    assert both.size_bytes == one.stat().st_size + two.stat().st_size
    # Padding after the last tensor is part of the format, more is not.
    padding = -len(TINY) % 32
    one.write_bytes(TINY + bytes(padding))
    assert inspect_gguf([one]).surplus_bytes == 0
    one.write_bytes(TINY + bytes(padding + 7))
    assert inspect_gguf([one]).surplus_bytes == 7
    one.write_bytes(b"GGUF" + struct.pack("<I", 9) + bytes(50))
    with pytest.raises(GgufError):
        inspect_gguf([one])
