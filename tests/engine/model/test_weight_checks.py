"""Numbers that are not finite, found in every format and named when they are met; not looked for twice."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from convert.conversion import convert  # noqa: E402
from engine.model import weight_checks  # noqa: E402
from engine.model.checkpoint_weights import open_checkpoint  # noqa: E402
from engine.model.gguf_weights import open_gguf  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402
from engine.model.weight_checks import first_bad_row  # noqa: E402
from engine.model.weights import WeightChecks  # noqa: E402
from kernels.matrices import Kind, Matrix, stored_columns  # noqa: E402
from tests.convert.conversions import checkpoint, job  # noqa: E402
from tests.engine.model.gguf_files import GgufFile  # noqa: E402

ROWS, COLUMNS, BAD = 300, 256, 171


def matrix(kind: Kind) -> Matrix:
    """Numbers of every size that the format has, all of them finite."""
    drawn = torch.Generator().manual_seed(1)

    def codes(rows: int, columns: int, most: int) -> Any:
        return torch.randint(0, most, (rows, columns), dtype=torch.uint8, generator=drawn)

    if kind in ("f32", "bf16", "f16"):
        numbers = torch.randn(ROWS, COLUMNS, generator=drawn)
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}[kind]
        numbers[5, 5], numbers[6, 6] = 65504.0, -65504.0
        return Matrix(kind, ROWS, COLUMNS, numbers.to(dtype))
    data = codes(ROWS, stored_columns(kind, COLUMNS), 256)
    if kind == "q8_0":
        data.view(ROWS, -1, 34)[:, :, 1] &= 0xFB
        return Matrix(kind, ROWS, COLUMNS, data)
    if kind == "mxfp4":
        data.view(ROWS, -1, 17)[:, :, 0] = codes(ROWS, COLUMNS // 32, 253)
        return Matrix(kind, ROWS, COLUMNS, data)
    if kind == "fp4":
        return Matrix(kind, ROWS, COLUMNS, data, codes(ROWS, COLUMNS // 32, 253))
    data[(data & 0x7F) == 0x7F] = 0x7E
    return Matrix(kind, ROWS, COLUMNS, data, codes(3, 2, 247))


def planted(kind: Kind, value: int, place: str) -> Matrix:
    """The same with one byte, or one number, replaced in row BAD."""
    one = matrix(kind)
    if place == "scale":
        assert one.scale is not None
        one.scale[BAD // 128 if kind == "fp8" else BAD, 1] = value
    elif place == "block":
        one.data.view(ROWS, -1, {"q8_0": 34, "mxfp4": 17}[kind])[BAD, 3, 1 if kind == "q8_0" else 0] = value
    else:
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[one.data.dtype.itemsize]
        one.data.view(bits)[BAD, 77] = value
    return one


@pytest.fixture(params=[8 << 20, 4096], ids=["at once", "in bands"])
def bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_checks, "_BAND_BYTES", request.param)


KINDS: tuple[Kind, ...] = ("f32", "bf16", "f16", "q8_0", "mxfp4", "fp4", "fp8")
NOT_FINITE: list[tuple[Kind, int, str]] = [
    ("f32", 0x7F800000, "number"),  # infinity
    ("f32", -0x00800000, "number"),  # and below zero
    ("f32", 0x7F800001, "number"),  # a signalling NaN
    ("f32", -1, "number"),  # a NaN with all bits
    ("bf16", 0x7F80, "number"),
    ("bf16", -0x0080, "number"),
    ("bf16", 0x7FC0, "number"),
    ("bf16", -1, "number"),
    ("f16", 0x7C00, "number"),
    ("f16", -0x0400, "number"),
    ("f16", 0x7E00, "number"),
    ("q8_0", 0x7C, "block"),
    ("q8_0", 0xFF, "block"),
    ("mxfp4", 255, "block"),
    ("fp4", 255, "scale"),
    ("fp8", 0x7F, "number"),
    ("fp8", 0xFF, "number"),
]


@pytest.mark.usefixtures("bands")
@pytest.mark.parametrize("kind", KINDS)
def test_finite_numbers_of_every_size_pass(kind: Kind) -> None:
    assert first_bad_row(matrix(kind)) is None


@pytest.mark.usefixtures("bands")
@pytest.mark.parametrize(("kind", "value", "place"), NOT_FINITE)
def test_the_row_of_a_number_that_is_not_finite_is_found(kind: Kind, value: int, place: str) -> None:
    assert first_bad_row(planted(kind, value, place)) == BAD


def test_a_scale_that_is_nan_makes_all_rows_of_its_tile_so() -> None:
    assert first_bad_row(planted("fp8", 255, "scale")) == 128


@pytest.mark.parametrize(("largest", "found"), [(0x00, None), (0x33, None), (0x77, BAD)])
def test_a_large_scale_is_bad_where_a_number_is_beyond_f32(largest: int, found: int | None) -> None:
    """253 times at most 1.5 fits, times 6 does not; so with MXFP4 as with the checkpoint's FP4."""
    for kind in ("mxfp4", "fp4"):
        one = planted(kind, 253, "block" if kind == "mxfp4" else "scale")
        if kind == "mxfp4":
            one.data.view(ROWS, -1, 17)[BAD, 3, 1:] = largest
        else:
            one.data[BAD] = largest
        assert first_bad_row(one) == found


def test_a_large_scale_of_fp8_is_bad_where_a_number_is_beyond_f32() -> None:
    one = planted("fp8", 247, "scale")
    one.data[128:256] = 0x38  # 1.0
    assert first_bad_row(one) is None
    one.data[BAD, 200] = 0x7E  # 448
    assert first_bad_row(one) == BAD


def test_matrices_without_rows_and_vectors() -> None:
    assert first_bad_row(Matrix("f32", 0, 32, torch.zeros(0, 32))) is None
    assert first_bad_row(torch.ones(7)) is None
    assert first_bad_row(torch.tensor([1.0, float("nan")])) == 0


# --- named when they are met ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    folder = tmp_path_factory.mktemp("checks")
    made = checkpoint(
        folder, layers=4, hidden_size=64, n_routed_experts=4, moe_intermediate_size=32, q_lora_rank=32
    )
    return GgufFile.read(convert(job(made, folder / "model.gguf", draft="keep"))[0])


def spoilt(whole: GgufFile, folder: Path, name: str, at: int, value: bytes) -> Path:
    """The model with other bytes at one place of a tensor; negative: from its end."""
    tensors = dict(whole.tensors)
    data = bytearray(tensors[name].data)
    at = at if at >= 0 else len(data) + at
    data[at : at + len(value)] = value
    tensors[name] = replace(tensors[name], data=bytes(data))
    return GgufFile(deepcopy(whole.metadata), tensors).write(folder / f"{len(list(folder.iterdir()))}.gguf")


NAN = b"\0\0\xc0\x7f"
SMALL = ["output_norm.weight", "output_hc_base.weight", "blk.0.hc_attn_scale.weight", "blk.1.exp_probs_b.bias",
         "blk.2.attn_sinks.weight", "blk.2.indexer_compressor_norm.weight", "blk.3.attn_compressor_ape.weight",
         "blk.4.nextn.enorm.weight", "blk.4.ffn_norm.weight"]  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_small_tensors_are_looked_at_when_the_model_is_loaded(
    whole: GgufFile, tmp_path: Path, name: str
) -> None:
    with pytest.raises(
        ModelError, match=f"“{name}” holds a number in row .* that is not finite; get the file again"
    ):
        open_gguf(spoilt(whole, tmp_path, name, -4, NAN))


Use = Callable[[WeightChecks], None]
LATER: list[tuple[str, bytes, int, Use, Use]] = [
    # (tensor, bytes, where; what does not touch it; what does)
    ("blk.1.attn_kv.weight", b"\xff\x7f", 34, lambda c: c.block(2), lambda c: c.block(1)),
    ("blk.1.hc_ffn_fn.weight", NAN, -4, lambda c: c.block(0), lambda c: c.block(1)),
    ("blk.2.indexer.proj.weight", b"\x80\x7f", -2, lambda c: c.block(3), lambda c: c.block(2)),
    ("blk.2.attn_compressor_kv.weight", b"\x80\xff", -2, lambda c: c.block(3), lambda c: c.block(2)),
    ("blk.0.ffn_down_shexp.weight", b"\0\x7c", -34, lambda c: c.block(1), lambda c: c.block(0)),
    ("blk.4.nextn.eh_proj.weight", b"\0\xfc", -34, lambda c: c.block(3), lambda c: c.block(4)),
    ("blk.4.ffn_gate_inp.weight", b"\x80\x7f", 0, lambda c: c.block(3), lambda c: c.block(4)),
    ("output.weight", b"\x80\x7f", -2, lambda c: c.embedding(torch.arange(512)), lambda c: c.output()),
    ("output_hc_fn.weight", NAN, 0, lambda c: c.block(0), lambda c: c.output()),
    (
        "token_embd.weight", b"\x80\x7f", 77 * 64 * 2, lambda c: c.embedding(torch.tensor([[76, 78], [76, 0]])),
        lambda c: c.embedding(torch.tensor([3, 77, 5])),
    ),
    ("blk.3.ffn_up_exps.weight", b"\xff", -17, lambda c: c.experts(3, [0, 1, 2]), lambda c: c.experts(3, [1, 3])),
    ("blk.4.ffn_gate_exps.weight", b"\xff", 0, lambda c: c.experts(4, [1, 2, 3]), lambda c: c.experts(4, [0])),
]  # fmt: skip


@pytest.mark.parametrize("case", LATER, ids=[case[0] for case in LATER])
def test_large_ones_are_looked_at_when_they_are_first_used(
    whole: GgufFile, tmp_path: Path, case: tuple[str, bytes, int, Use, Use]
) -> None:
    name, value, at, harmless, use = case
    checks = open_gguf(spoilt(whole, tmp_path, name, at, value)).weights.checks
    assert checks is not None
    harmless(checks)
    for _ in range(2):  # what was found bad is not taken for seen
        with pytest.raises(ModelError, match=f"“{name}.* holds a number in row .* that is not finite"):
            use(checks)


def test_the_row_of_the_embedding_and_the_expert_are_named(whole: GgufFile, tmp_path: Path) -> None:
    checks = open_gguf(spoilt(whole, tmp_path, "token_embd.weight", 77 * 64 * 2, b"\x80\x7f")).weights.checks
    assert checks is not None
    with pytest.raises(ModelError, match="in row 77 that"):
        checks.embedding(torch.tensor([9, 77]))
    checks = open_gguf(spoilt(whole, tmp_path, "blk.3.ffn_up_exps.weight", -17, b"\xff")).weights.checks
    assert checks is not None
    with pytest.raises(ModelError, match=r"ffn_up_exps\.weight \(expert 3\)” holds a number in row 31 that"):
        checks.experts(3, [3])


def test_what_was_seen_is_not_looked_at_again(
    whole: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = GgufFile(deepcopy(whole.metadata), dict(whole.tensors)).write(tmp_path / "whole.gguf")
    checks = open_gguf(path).weights.checks
    assert checks is not None

    def use() -> None:
        for layer in range(5):
            checks.block(layer)
            checks.experts(layer, range(4))
        checks.output()
        checks.embedding(torch.arange(512))

    use()

    def never(_: object) -> int | None:
        raise AssertionError("looked at again")

    monkeypatch.setattr(weight_checks, "first_bad_row", never)
    use()
    checks.begin_pass()


def test_a_pass_over_a_file_that_changed_does_not_begin(whole: GgufFile, tmp_path: Path) -> None:
    path = GgufFile(deepcopy(whole.metadata), dict(whole.tensors)).write(tmp_path / "whole.gguf")
    checks = open_gguf(path).weights.checks
    assert checks is not None
    checks.begin_pass()
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ModelError, match="it was changed while it was loaded"):
        checks.begin_pass()


def test_a_model_without_a_drafter_has_none_to_look_at(tmp_path: Path) -> None:
    made = checkpoint(
        tmp_path, "0731", layers=3, hidden_size=64, n_routed_experts=2, moe_intermediate_size=32
    )
    checks = open_checkpoint(made).weights.checks
    assert checks is not None
    with pytest.raises(ValueError, match="no drafter"):
        checks.block(3)


def test_a_checkpoints_tensors_are_named_as_it_names_them(tmp_path: Path) -> None:
    def edit(name: str, numbers: NDArray[Any]) -> NDArray[Any]:
        if name == "layers.1.attn.wq_b.weight":
            numbers[5, 7] = 0x7F
        if name == "layers.2.ffn.experts.1.w2.scale":
            numbers[9, 0] = 255
        return numbers

    made = checkpoint(
        tmp_path, layers=3, hidden_size=64, n_routed_experts=2, moe_intermediate_size=32, edit=edit
    )
    checks = open_checkpoint(made).weights.checks
    assert checks is not None
    with pytest.raises(ModelError, match=r"“layers\.1\.attn\.wq_b\.weight” holds a number in row 5 that"):
        checks.block(1)
    checks.experts(2, [0])
    with pytest.raises(
        ModelError, match=r"“layers\.2\.ffn\.experts\.1\.w2\.weight” holds a number in row 9 that"
    ):
        checks.experts(2, [0, 1])
