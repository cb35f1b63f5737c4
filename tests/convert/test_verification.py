"""Checks of converted files: they find what is wrong, and say where."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.conversion import convert
from convert.conversion_error import ConversionError
from convert.conversion_plan import make_plan
from convert.gguf_header import read_gguf_header
from convert.receipt import receipt_path
from convert.verification import Verdict, verify_receipt, verify_source
from tests.convert.conversions import checkpoint, job


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and the model that was made of it."""
    folder = tmp_path_factory.mktemp("made")
    source = checkpoint(folder, "0731", seed=5)
    convert(job(source, folder / "m.gguf"))
    return source, folder / "m.gguf"


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the model and its receipt, to damage."""
    shutil.copy(receipt_path(made[1]), receipt_path(tmp_path / "m.gguf"))
    return shutil.copy(made[1], tmp_path / "m.gguf")


def place(gguf: Path, tensor: str) -> tuple[int, int]:
    header = read_gguf_header(gguf)
    found = next(each for each in header.tensors if each.name == tensor)
    return header.data_offset + found.offset, found.size_bytes


def change(gguf: Path, at: int, data: bytes) -> None:
    with gguf.open("r+b") as file:
        file.seek(at)
        file.write(data)


def named(verdict: Verdict) -> list[str]:
    return [difference.tensor for difference in verdict.differences]


@pytest.mark.parametrize("release", ["preview", "0731"])
@pytest.mark.parametrize("dense", ["q8_0", "bf16"])
@pytest.mark.parametrize("draft", ["keep", "skip", "separate"])
def test_what_was_converted_is_good(tmp_path: Path, release: Any, dense: Any, draft: Any) -> None:
    if (release, draft) == ("0731", "keep"):
        pytest.skip("DSpark has no place in the model's own file")
    source = checkpoint(tmp_path, release, ratios="pro")
    for path in convert(job(source, tmp_path / "m.gguf", dense=dense, draft=draft)):
        told: list[tuple[int, int]] = []

        def report(done: int, total: int, _tensor: str, told: list[tuple[int, int]] = told) -> None:
            told.append((done, total))

        verdict = verify_source(source, path, report)
        assert (verdict.good, verdict.lossless) == (True, dense == "bf16"), verdict.differences
        assert told[-1][0] == told[-1][1]
        by_receipt = verify_receipt(path)
        assert by_receipt.good
        assert (by_receipt.exact, by_receipt.approximate) == (verdict.exact, verdict.approximate)
        assert by_receipt.worst == pytest.approx(verdict.worst)


def test_a_permuted_expert_is_found(made: tuple[Path, Path], copy: Path) -> None:
    """Two experts in each other's place: the same bytes, the same sizes, another model."""
    at, size = place(copy, "blk.3.ffn_up_exps.weight")
    raw = copy.read_bytes()[at : at + size]
    experts = np.frombuffer(raw, np.uint8).reshape(8, -1)
    change(copy, at, experts[[0, 1, 2, 5, 4, 3, 6, 7]].tobytes())
    verdict = verify_source(made[0], copy)
    assert named(verdict) == ["blk.3.ffn_up_exps.weight"]
    assert "expert 3" in verdict.differences[0].why
    assert named(verify_receipt(copy)) == ["blk.3.ffn_up_exps.weight"]


@pytest.mark.parametrize(
    "tensor",
    ["blk.0.ffn_gate_exps.weight", "blk.2.attn_kv.weight", "blk.1.attn_norm.weight", "token_embd.weight",
     "blk.0.ffn_gate_tid2eid.weight", "blk.3.attn_compressor_ape.weight", "output.weight"],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 0.37, 1.0])
def test_one_wrong_byte_is_found(made: tuple[Path, Path], copy: Path, tensor: str, share: float) -> None:
    at, size = place(copy, tensor)
    spot = at + round(share * (size - 1))
    if "attn_kv" in tensor:
        spot += 1 - (spot - at) % 34 if (spot - at) % 34 < 2 else 0  # not the low byte of a step
    before = copy.read_bytes()[spot]
    change(copy, spot, bytes([before ^ 0x48]))
    assert named(verify_receipt(copy)) == [tensor]
    assert named(verify_source(made[0], copy)) == [tensor]


def test_a_quantum_more_than_rounding_explains_is_found(made: tuple[Path, Path], copy: Path) -> None:
    at, _ = place(copy, "blk.4.attn_output_b.weight")
    quant = np.frombuffer(copy.read_bytes()[at + 2 : at + 3], np.int8)[0]
    change(copy, at + 2, np.int8(quant + (2 if quant < 100 else -2)).tobytes())
    assert named(verify_source(made[0], copy)) == ["blk.4.attn_output_b.weight"]


def test_other_metadata_are_found(made: tuple[Path, Path], copy: Path) -> None:
    raw = copy.read_bytes()
    key = b"deepseek4.rope.freq_base"
    at = raw.index(key) + len(key) + 4
    assert np.frombuffer(raw[at : at + 4], "<f4")[0] == 10000
    change(copy, at, np.float32(20000).tobytes())
    assert named(verify_source(made[0], copy)) == ["header"]
    assert named(verify_receipt(copy)) == ["header"]


def test_a_file_cut_short_is_found(copy: Path) -> None:
    with copy.open("r+b") as file:
        file.truncate(copy.stat().st_size - 1000)
    assert {"header", "output.weight"} <= set(named(verify_receipt(copy)))


def test_another_checkpoint_is_not_its_source(made: tuple[Path, Path], tmp_path: Path) -> None:
    other = checkpoint(tmp_path, "0731", seed=6)
    plan = make_plan(job(other, tmp_path / "x.gguf"))
    # Of the same shape, but all of it is drawn from another seed.
    assert named(verify_source(other, made[1])) == [target.name for target in plan.files["model"].targets]


def test_a_file_without_a_receipt_is_told(made: tuple[Path, Path], tmp_path: Path) -> None:
    lonely = shutil.copy(made[1], tmp_path / "lonely.gguf")
    with pytest.raises(ConversionError, match=r"no lonely\.gguf\.receipt\.json beside it"):
        verify_receipt(lonely)


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b'{"format": "seamount-receipt", "version": 2}', b"[" * 100_000]
)
def test_a_damaged_receipt_is_told(copy: Path, damage: bytes) -> None:
    receipt_path(copy).write_bytes(damage)
    with pytest.raises(ConversionError, match="receipt"):
        verify_receipt(copy)


def test_a_check_can_be_stopped(made: tuple[Path, Path]) -> None:
    for check in (lambda: verify_receipt(made[1], cancelled=lambda: True),
                  lambda: verify_source(*made, cancelled=lambda: True)):  # fmt: skip
        with pytest.raises(ConversionError) as caught:
            check()
        assert caught.value.trouble == "stopped"
