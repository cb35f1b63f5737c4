"""Checkpoint folders as weights: every number where it belongs, other formats, and what is refused."""

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from convert.checkpoint import Checkpoint  # noqa: E402
from engine.model.checkpoint_weights import open_checkpoint  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402
from tests.convert import seeded_checkpoint  # noqa: E402
from tests.convert.conversions import checkpoint  # noqa: E402
from tests.convert.header_fuzz import mutated  # noqa: E402
from tests.convert.seeded_checkpoint import write_index, write_shard  # noqa: E402
from tests.engine.model.decoded_weights import decoded, matrix_numbers  # noqa: E402

Shard = dict[str, tuple[str, Any]]
Edit = Callable[[Shard], None]
MUTANTS = 150


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As small as they get, for what is done hundreds of times."""
    return checkpoint(
        tmp_path_factory.mktemp("small"), layers=4, hidden_size=64, n_routed_experts=4,
        moe_intermediate_size=32, q_lora_rank=32,
    )  # fmt: skip


def names_of(folder: Path) -> list[str]:
    """The names of a checkpoint's tensors without the scales, which are parts of others."""
    return [name for name in Checkpoint.open(folder).tensors if not name.endswith(".scale")]


def edited(small: Path, folder: Path, layer: str, edit: Edit) -> Path:
    """A copy of `small` with something else in the shard that holds `layer` ("layers.1.", "mtp.0.", "head.weight")."""
    copy = folder / "copy"
    shutil.copytree(small, copy)
    found = Checkpoint.open(small)
    name = next(source.shard.name for name, source in found.tensors.items() if name.startswith(layer))
    shard = {
        tensor: (source.dtype, seeded_checkpoint.stored(small, tensor))
        for tensor, source in found.tensors.items()
        if source.shard.name == name
    }
    places = {tensor: source.shard.name for tensor, source in found.tensors.items() if tensor not in shard}
    edit(shard)
    write_shard(copy / name, shard)
    # The sum is checked too, so it must be right.
    others = sum(source.size_bytes for tensor, source in found.tensors.items() if tensor in places)
    total = others + sum(np.asarray(array).nbytes for _, array in shard.values())
    write_index(copy, places | dict.fromkeys(shard, name), total)
    return copy


# --- every number ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ratios", ["flash", "pro"])
def test_every_tensor_is_there_with_its_numbers(tmp_path: Path, ratios: Any) -> None:
    made = checkpoint(tmp_path, ratios=ratios, num_hash_layers=3, n_shared_experts=2)
    model = open_checkpoint(made)
    seen = dict(decoded(model.weights))
    assert sorted(seen) == sorted(names_of(made))
    for name, numbers in seen.items():
        assert np.array_equal(numbers, seeded_checkpoint.decoded(made, name)), name
    table = model.weights.blocks[0].moe.table
    assert table is not None and table.dtype == torch.int32
    assert (model.name, model.config.draft_blocks) == ("DeepSeek-V4-Flash", 1)
    assert model.size_bytes == sum(path.stat().st_size for path in made.glob("*.safetensors"))
    assert model.weights.blocks[1].moe.experts.matrices(2).up.kind == "fp4"


def test_experts_in_fp8_are_read_as_the_base_checkpoints_have_them(tmp_path: Path) -> None:
    made = checkpoint(tmp_path, layers=3, hidden_size=256, moe_intermediate_size=160, expert_dtype="fp8")
    model = open_checkpoint(made)
    expert = model.weights.blocks[2].moe.experts.matrices(5)
    assert expert.down.kind == "fp8" and expert.down.scale is not None
    assert tuple(expert.down.scale.shape) == (2, 2)  # of 256 x 160: the last tile is cut
    assert expert.size_bytes == 3 * 256 * 160 + 3 * 4
    for part, matrix in (("w1", expert.gate), ("w2", expert.down), ("w3", expert.up)):
        name = f"layers.2.ffn.experts.5.{part}"
        codes = seeded_checkpoint.stored(made, f"{name}.weight")
        exponents = seeded_checkpoint.stored(made, f"{name}.scale").astype(np.int32) - 127
        spread = np.repeat(np.repeat(np.ldexp(np.float32(1), exponents), 128, 0), 128, 1)
        wanted = seeded_checkpoint.fp8_values()[codes] * spread[: codes.shape[0], : codes.shape[1]]
        assert np.array_equal(matrix_numbers(matrix), wanted), name


def test_dspark_is_counted_and_left_alone(tmp_path: Path) -> None:
    made = checkpoint(
        tmp_path, "0731", layers=3, hidden_size=64, n_routed_experts=2, moe_intermediate_size=32
    )
    model = open_checkpoint(made)
    drafter = [name for name in Checkpoint.open(made).tensors if name.startswith("mtp.")]
    assert model.config.dspark_tensors == len(drafter) > 50
    assert (model.config.draft_blocks, model.weights.draft) == (0, None)


def test_nothing_is_copied_but_vectors_and_tables(small: Path) -> None:
    model = open_checkpoint(small)
    sources = Checkpoint.open(small).tensors
    wkv = model.weights.blocks[2].attention.wkv
    other = model.weights.blocks[2].attention.wq_a
    apart = sources["layers.2.attn.wq_a.weight"].offset - sources["layers.2.attn.wkv.weight"].offset
    assert other.data.data_ptr() - wkv.data.data_ptr() == apart
    fn = model.weights.blocks[2].hc_attn.fn  # F32 in the file
    base = sources["layers.2.attn.wkv.weight"].offset - sources["layers.2.hc_attn_fn"].offset
    assert wkv.data.data_ptr() - fn.data_ptr() == base


def test_shards_whose_numbers_lie_on_odd_places_are_read(small: Path, tmp_path: Path) -> None:
    """The format asks for no alignment: a header of any length moves everything behind it."""
    copy = tmp_path / "odd"
    shutil.copytree(small, copy)
    for shard in copy.glob("*.safetensors"):
        content = shard.read_bytes()
        length = struct.unpack_from("<Q", content)[0]
        shard.write_bytes(
            struct.pack("<Q", length + 1) + content[8 : 8 + length] + b" " + content[8 + length :]
        )
    seen = dict(decoded(open_checkpoint(copy).weights))
    assert sorted(seen) == sorted(names_of(small))
    for name, numbers in seen.items():
        assert np.array_equal(numbers, seeded_checkpoint.decoded(small, name)), name


def test_plain_formats_are_read_in_the_place_of_quantised_ones(small: Path, tmp_path: Path) -> None:
    """As fine-tuning leaves them: dense weights and experts in BF16, F16 or F32, without scales; tables of 32 bits."""
    drawn = np.random.default_rng(3)
    wanted: dict[str, Any] = {}

    def edit(shard: Shard) -> None:
        formats = {
            "attn.wq_a": "F16",
            "attn.wo_b": "F32",
            "ffn.experts.1.w2": "BF16",
            "ffn.shared_experts.w3": "F32",
        }
        for part, dtype in formats.items():
            rows, columns = shard[f"layers.0.{part}.weight"][1].shape
            columns *= 2 if "experts.1" in part else 1
            numbers = drawn.standard_normal((rows, columns)).astype(np.float16).astype(np.float32)
            numbers = (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32)
            del shard[f"layers.0.{part}.scale"]
            stored = {"F16": numbers.astype("<f2"), "F32": numbers}.get(dtype)
            if stored is None:
                stored = (numbers.view("<u4") >> 16).astype("<u2")
            shard[f"layers.0.{part}.weight"] = (dtype, stored)
            wanted[f"layers.0.{part}.weight"] = (
                numbers.astype("<f2").astype("<f4") if dtype == "F16" else numbers
            )
        table = shard["layers.0.ffn.gate.tid2eid"][1]
        shard["layers.0.ffn.gate.tid2eid"] = ("I32", table.astype("<i4"))
        wanted["layers.0.ffn.gate.tid2eid"] = table

    seen = dict(decoded(open_checkpoint(edited(small, tmp_path, "layers.0.", edit)).weights))
    for name, numbers in wanted.items():
        assert np.array_equal(seen[name], numbers), name


# --- what is refused ------------------------------------------------------------------------------------


def without(name: str) -> Edit:
    def edit(shard: Shard) -> None:
        del shard[name]

    return edit


def stored_as(name: str, dtype: str, array: Any) -> Edit:
    def edit(shard: Shard) -> None:
        shard[name] = (dtype, array)

    return edit


def sends_to(expert: int) -> Edit:
    def edit(shard: Shard) -> None:
        table = shard["layers.0.ffn.gate.tid2eid"][1].copy()
        table[511, 1] = expert
        shard["layers.0.ffn.gate.tid2eid"] = ("I64", table)

    return edit


W2 = "layers.1.ffn.experts.3.w2"
REFUSED: dict[str, tuple[str, Edit, str]] = {
    "a missing tensor": ("layers.1.", without("layers.1.attn_norm.weight"), "“layers.1.attn_norm.weight” is missing"),
    "a missing scale": ("layers.1.", without("layers.1.attn.wkv.scale"), "“layers.1.attn.wkv.scale” is missing"),
    "a missing expert": ("layers.1.", without(f"{W2}.weight"), f"“{W2}.weight” is missing"),
    "an expert's missing scale": ("layers.1.", without(f"{W2}.scale"), f"“{W2}.scale” is missing"),
    "a missing part of the drafter": ("mtp.0.", without("mtp.0.h_proj.weight"), "“mtp.0.h_proj.weight” is missing"),
    "a matrix of another shape": (
        "layers.1.", stored_as("layers.1.attn.wkv.weight", "F8_E4M3", np.zeros((128, 32), np.uint8)),
        "“layers.1.attn.wkv.weight” is 128 x 32, and its configuration calls for 128 x 64",
    ),
    "a scale of another shape": (
        "layers.1.", stored_as("layers.1.attn.wkv.scale", "F8_E8M0", np.zeros((2, 1), np.uint8)),
        "“layers.1.attn.wkv.scale” is 2 x 1, and its configuration calls for 1 x 1",
    ),
    "an expert of another shape": (
        "layers.1.", stored_as(f"{W2}.weight", "I8", np.zeros((64, 32), np.uint8)),
        f"“{W2}.weight” is 64 x 32, and its configuration calls for 64 x 16",
    ),
    "a vector of another length": (
        "layers.1.", stored_as("layers.1.attn.attn_sink", "F32", np.zeros(5, "<f4")),
        "“layers.1.attn.attn_sink” is 5, and its configuration calls for 4",
    ),
    "a scale that is none": (
        "layers.1.", stored_as("layers.1.attn.wkv.scale", "F32", np.ones((1, 1), "<f4")),
        "“layers.1.attn.wkv.scale” is F32, and only F8_E8M0 can be read there",
    ),
    "whole numbers for weights": (
        "layers.1.", stored_as("layers.1.ffn.gate.weight", "I64", np.zeros((4, 64), "<i8")),
        "“layers.1.ffn.gate.weight” is I64, and only F32, BF16, F16, F8_E4M3 or packed FP4 (I8) can be read there",
    ),
    "a vector in FP8": (
        "layers.1.", stored_as("layers.1.attn_norm.weight", "F8_E4M3", np.zeros(64, np.uint8)),
        "is F8_E4M3, and only F32, BF16, F16 can be read there",
    ),
    "a table of numbers": (
        "layers.0.", stored_as("layers.0.ffn.gate.tid2eid", "F32", np.zeros((512, 2), "<f4")),
        "is F32, and only I64 or I32 can be read there",
    ),
    "an expert that does not exist": ("layers.0.", sends_to(4), "sends token 511 to expert 4, and there are 4"),
    "an expert below zero": ("layers.0.", sends_to(-7), "sends token 511 to expert -7, and there are 4"),
    "an expert that 32 bits would make another": ("layers.0.", sends_to(2**32), "by a number beyond 32 bits"),
    "an expert at the edge of 64 bits": ("layers.0.", sends_to(-(2**63)), "by a number beyond 32 bits"),
    "a tensor that is not understood": (
        "head.weight", stored_as("engram.table.weight", "F32", np.zeros(4, "<f4")),
        "“engram.table.weight” has no place in the network known here",
    ),
    "a number that is not finite": (
        "layers.1.", stored_as("layers.1.ffn.gate.bias", "F32", np.array([0, 1, np.inf, 0], "<f4")),
        "“layers.1.ffn.gate.bias” holds a number in row 0 that is not finite",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(small: Path, tmp_path: Path, case: str) -> None:
    layer, edit, sentence = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        open_checkpoint(edited(small, tmp_path, layer, edit))
    assert sentence in str(caught.value)


def test_folders_that_are_no_checkpoint_are_refused(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        open_checkpoint(tmp_path / "nothing")
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    shard = sorted(copy.glob("*.safetensors"))[2]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"truncated.*download it again"):
        open_checkpoint(copy)
    shard.unlink()
    with pytest.raises(ModelError, match=r"1 of its 7 shards are missing.*download the missing files"):
        open_checkpoint(copy)


def test_mutants_are_models_or_are_refused_with_one_sentence(small: Path, tmp_path: Path) -> None:
    """Configurations that are well-formed and wrong, and broken bytes of headers, index and configuration."""
    chance = random.Random(5)
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    config = json.loads((copy / "config.json").read_bytes())
    targets = [path for path in copy.iterdir() if path.suffix == ".safetensors" or "index" in path.name]
    wrong_values: tuple[Any, ...] = (
        None, 0, 1, 2, 3, 5, 64, 128, 2**31, -1, 1e30, "", "fp8", [], [0] * 5, [4] * 5, [128] * 5, {},
    )  # fmt: skip
    refused = 0
    for number in range(MUTANTS):
        path = copy / "config.json" if number % 2 else chance.choice(targets)
        original = path.read_bytes()
        if number % 2:
            wrong = dict(config)
            for _ in range(chance.randint(1, 2)):
                wrong[chance.choice(list(config))] = chance.choice(wrong_values)
            path.write_text(json.dumps(wrong), encoding="utf-8")
        else:
            path.unlink()
            path.write_bytes(mutated(original, chance))
        try:
            open_checkpoint(copy).close()
        except ModelError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 1000
        path.unlink()
        path.write_bytes(original)
    assert refused > MUTANTS // 2
