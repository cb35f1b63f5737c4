"""GGUF files as weights: every number where it belongs, other people's files, and what is refused."""

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from convert.checkpoint import Checkpoint  # noqa: E402
from convert.conversion import convert  # noqa: E402
from engine.model.gguf_weights import open_gguf  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402
from kernels.formats import decode_q8_0, encode_q8_0  # noqa: E402
from tests.convert import seeded_checkpoint  # noqa: E402
from tests.convert.conversions import checkpoint, job  # noqa: E402
from tests.convert.header_fuzz import mutated  # noqa: E402
from tests.engine.model.decoded_weights import decoded, matrix_numbers  # noqa: E402
from tests.engine.model.gguf_files import GgufFile, Stored, empty  # noqa: E402

Edit = Callable[[GgufFile], None]
MUTANTS = 300


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    return checkpoint(folder, tokenizer="tiny")


@pytest.fixture(scope="module")
def kept(folder: Path, source: Path) -> Path:
    """A model with its MTP block in the same file, dense weights in BF16: every number as in the checkpoint."""
    return convert(job(source, folder / "kept.gguf", dense="bf16", draft="keep"))[0]


@pytest.fixture(scope="module")
def separate(folder: Path, source: Path) -> tuple[Path, ...]:
    """The model, and its drafter in a file beside it; dense weights in Q8_0."""
    return convert(job(source, folder / "separate.gguf"))


@pytest.fixture(scope="module")
def small(folder: Path) -> GgufFile:
    """A model as small as they get, for what is done hundreds of times."""
    made = checkpoint(
        folder / "small",
        layers=4,
        hidden_size=64,
        n_routed_experts=4,
        moe_intermediate_size=32,
        q_lora_rank=32,
    )
    return GgufFile.read(convert(job(made, folder / "small.gguf", dense="bf16", draft="keep"))[0])


def weights_of(source: Path) -> list[str]:
    """The names of a checkpoint's tensors without the scales, which are parts of others."""
    return [name for name in Checkpoint.open(source).tensors if not name.endswith(".scale")]


def edited(small: GgufFile, folder: Path, edit: Edit) -> Path:
    """A file like `small` but for what `edit` does to it."""
    other = GgufFile(deepcopy(small.metadata), dict(small.tensors))
    edit(other)
    # Never over a file that a model is looking at.
    return other.write(folder / f"edited-{len(list(folder.iterdir()))}.gguf")


# --- every number ---------------------------------------------------------------------------------------


def test_every_tensor_of_the_checkpoint_is_there_with_its_numbers(source: Path, kept: Path) -> None:
    model = open_gguf(kept)
    seen = dict(decoded(model.weights))
    assert sorted(seen) == sorted(weights_of(source))
    for name, numbers in seen.items():
        # llama.cpp has no place for a second head in a model's own file.
        wanted = seeded_checkpoint.decoded(source, name.replace("mtp.0.hc_head", "hc_head"))
        assert np.array_equal(numbers, wanted), name
    assert (model.config.draft_blocks, model.config.dspark_tensors) == (1, 0)
    assert (model.name, model.size_bytes) == ("DeepSeek-V4-Flash", kept.stat().st_size)


def test_a_drafter_in_a_file_of_its_own_has_its_own_head(source: Path, separate: tuple[Path, ...]) -> None:
    model = open_gguf(separate[0], draft=separate[1])
    assert model.weights.draft is not None
    for part in ("fn", "base", "scale"):
        name = f"hc_head_{part}"
        found = getattr(model.weights.draft.hc_head, part).numpy()
        assert np.array_equal(found, seeded_checkpoint.decoded(source, f"mtp.0.{name}")), name
    assert model.config.draft_blocks == 1
    assert len(model.config.expert_clamp) == model.config.num_hidden_layers + 1
    assert open_gguf(separate[0]).weights.draft is None


def test_q8_0_is_read_as_it_lies(source: Path, separate: tuple[Path, ...]) -> None:
    model = open_gguf(separate[0], draft=separate[1])
    assert model.weights.draft is not None
    e_proj = model.weights.draft.e_proj
    assert (e_proj.kind, e_proj.data.is_contiguous()) == ("q8_0", False)  # one half of each row
    rounded = 0
    for name, numbers in decoded(model.weights):
        wanted = seeded_checkpoint.decoded(source, name)
        rounded += not np.array_equal(numbers, wanted)
        # Half a step of 1/127 of the largest of a block, and a scale in F16.
        assert np.abs(numbers - wanted).max() <= 0.0045 * np.abs(wanted).max(), name
    assert rounded > 20


def test_dspark_is_counted_and_left_alone(folder: Path) -> None:
    made = checkpoint(folder / "dspark", "0731")
    model, draft = convert(job(made, folder / "dspark.gguf"))
    with_it = open_gguf(model, draft=draft)
    assert with_it.config.dspark_tensors > 50 and with_it.config.draft_blocks == 0
    assert with_it.weights.draft is None
    with pytest.raises(ModelError, match=r"it is a drafter \(DSpark\), not a model"):
        open_gguf(draft)


# --- other people's files -------------------------------------------------------------------------------


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16", "Q8_0"])
def test_every_number_may_be_of_any_type_that_is_read(
    small: GgufFile, tmp_path: Path, type_name: str
) -> None:
    """In every place, experts and vectors too; only the tables of experts by token stay what they are."""
    drawn = np.random.default_rng(0)
    pieces: list[bytes] = []

    def edit(file: GgufFile) -> None:
        for name, each in file.tensors.items():
            if each.type_name == "I32" or (type_name == "Q8_0" and each.shape[0] % 32):
                continue
            numbers = drawn.standard_normal(tuple(reversed(each.shape))).astype(np.float32)
            if type_name == "Q8_0":
                blocks = encode_q8_0(numbers)
                file.tensors[name] = Stored(name, "Q8_0", each.shape, blocks.tobytes())
                meant = decode_q8_0(blocks)
            else:
                file.tensors[name] = each.as_type(type_name, numbers)
                meant = file.tensors[name].plain_numbers()
            parts = [meant]
            if "_exps" in name:
                parts = list(meant)
            elif "eh_proj" in name:
                parts = np.split(meant, 2, axis=1)
            pieces.extend(part.tobytes() for part in parts)

    model = open_gguf(edited(small, tmp_path, edit))
    found = {numbers.tobytes() for _, numbers in decoded(model.weights)}
    assert len(set(pieces)) == len(pieces) > 150
    assert found.issuperset(pieces)
    assert model.weights.blocks[0].moe.experts.matrices(0).down.kind == type_name.lower()


def test_experts_are_views_of_their_layer(kept: Path) -> None:
    bank = open_gguf(kept).weights.blocks[1].moe.experts
    one, other = bank.matrices(0), bank.matrices(7)
    assert len(bank) == 8
    assert other.up.data.data_ptr() - one.up.data.data_ptr() == 7 * one.up.data.nbytes


def ratios_go_on(file: GgufFile) -> None:
    """llama.cpp's own converter writes the checkpoint's list, the drafter's entry with it, and no size."""
    file.metadata["deepseek4.attention.compress_ratios"] += [0, 0]
    del file.metadata["deepseek4.vocab_size"]


def one_number_for_all(file: GgufFile) -> None:
    for key in ("swiglu_clamp_exp", "swiglu_clamp_shexp"):
        file.metadata[f"deepseek4.{key}"] = 10.0
    for key in ("expert_used_count", "expert_feed_forward_length", "attention.head_count"):
        file.metadata[f"deepseek4.{key}"] = [file.metadata[f"deepseek4.{key}"]] * 5


def usual_ones_left_out(file: GgufFile) -> None:
    for key in ("swiglu_clamp_exp", "swiglu_clamp_shexp", "expert_gating_func", "expert_weights_norm",
                "rope.freq_base", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
                "attention.value_length", "attention.head_count_kv", "embedding_length_out"):  # fmt: skip
        del file.metadata[f"deepseek4.{key}"]


def other_names_of_the_bias(file: GgufFile) -> None:
    for layer, name in ((1, "exp_probs_b"), (2, "exp_probs_b.weight")):
        bias = file.tensors.pop(f"blk.{layer}.exp_probs_b.bias")
        file.tensors[f"blk.{layer}.{name}"] = replace(bias, name=f"blk.{layer}.{name}")


def projections_by_group(file: GgufFile) -> None:
    name = "blk.1.attn_output_a.weight"
    columns, rows = file.tensors[name].shape
    file.tensors[name] = replace(file.tensors[name], shape=(columns, rows // 2, 2))


def vectors_of_two_axes(file: GgufFile) -> None:
    name = "blk.1.attn_norm.weight"
    file.tensors[name] = replace(file.tensors[name], shape=(*file.tensors[name].shape, 1))


def what_an_image_needs(file: GgufFile) -> None:
    file.tensors["blk.1.exp_probs_b_vl.bias"] = empty("blk.1.exp_probs_b_vl.bias", "F32", (4,))
    file.tensors["blk.0.exp_probs_b.bias"] = empty("blk.0.exp_probs_b.bias", "F32", (4,))


def a_head_of_the_drafters_own(file: GgufFile) -> None:
    name = "blk.4.nextn.shared_head_head.weight"
    file.tensors[name] = replace(file.tensors["output.weight"], name=name)


@pytest.mark.parametrize(
    "edit",
    [ratios_go_on, one_number_for_all, usual_ones_left_out, other_names_of_the_bias, projections_by_group,
     vectors_of_two_axes, what_an_image_needs, a_head_of_the_drafters_own],
)  # fmt: skip
def test_the_same_model_told_otherwise(small: GgufFile, tmp_path: Path, edit: Edit) -> None:
    plain = open_gguf(edited(small, tmp_path, lambda _: None))
    wanted = dict(decoded(plain.weights))
    other = open_gguf(edited(small, tmp_path, edit))
    assert other.config == plain.config
    for name, numbers in decoded(other.weights):
        assert np.array_equal(numbers, wanted.pop(name)), name
    assert not wanted


def test_a_drafter_that_is_only_announced_is_none(small: GgufFile, tmp_path: Path) -> None:
    def edit(file: GgufFile) -> None:
        for name in [name for name in file.tensors if name.startswith("blk.4.")]:
            del file.tensors[name]
        file.metadata["deepseek4.block_count"] = 4
        for key in ("swiglu_clamp_exp", "swiglu_clamp_shexp", "attention.compress_ratios"):
            file.metadata[f"deepseek4.{key}"] = file.metadata[f"deepseek4.{key}"][:4]

    model = open_gguf(edited(small, tmp_path, edit))
    assert (model.config.num_hidden_layers, model.config.draft_blocks, model.weights.draft) == (4, 0, None)


def test_a_model_in_parts_is_one_model(small: GgufFile, tmp_path: Path) -> None:
    wanted = dict(decoded(open_gguf(edited(small, tmp_path, lambda _: None)).weights))
    names = list(small.tensors)
    thirds = [names[:20], names[20:21], names[21:]]
    for number, part in enumerate(thirds):
        metadata = dict(small.metadata) if number == 0 else {"tokenizer.ggml.tokens": [""]}
        metadata |= {"split.no": number, "split.count": 3}
        file = GgufFile(metadata, {name: small.tensors[name] for name in part})
        file.write(tmp_path / f"V4-0000{number + 1}-of-00003.gguf")
    first = tmp_path / "V4-00001-of-00003.gguf"
    model = open_gguf(first)
    for name, numbers in decoded(model.weights):
        assert np.array_equal(numbers, wanted.pop(name)), name
    assert not wanted
    first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(ModelError, match="it is one of 3 parts, and its name stands for 1; choose the first"):
        open_gguf(tmp_path / "renamed.gguf")
    (tmp_path / "renamed.gguf").rename(first)
    (tmp_path / "V4-00002-of-00003.gguf").unlink()
    with pytest.raises(ModelError, match="V4-00002-of-00003"):
        open_gguf(first)


# --- what is refused ------------------------------------------------------------------------------------


def without(name: str) -> Edit:
    def edit(file: GgufFile) -> None:
        del file.tensors[name]

    return edit


def shaped(name: str, shape: tuple[int, ...]) -> Edit:
    def edit(file: GgufFile) -> None:
        file.tensors[name] = empty(name, file.tensors[name].type_name, shape)

    return edit


def typed(name: str, type_name: str, shape: tuple[int, ...] | None = None) -> Edit:
    def edit(file: GgufFile) -> None:
        file.tensors[name] = empty(name, type_name, shape or file.tensors[name].shape)

    return edit


def added(name: str) -> Edit:
    def edit(file: GgufFile) -> None:
        file.tensors[name] = empty(name, "F32", (4,))

    return edit


def sends_to(expert: int) -> Edit:
    def edit(file: GgufFile) -> None:
        each = file.tensors["blk.0.ffn_gate_tid2eid.weight"]
        table = np.frombuffer(each.data, "<i4").copy()
        table[401] = expert
        file.tensors[each.name] = replace(each, data=table.tobytes())

    return edit


EXPERTS = "blk.1.ffn_down_exps.weight"
REFUSED = {
    "a missing tensor": (without("blk.2.attn_kv.weight"), "“blk.2.attn_kv.weight” is missing"),
    "a missing bias": (without("blk.1.exp_probs_b.bias"), "“blk.1.exp_probs_b.bias” is missing"),
    "a missing table": (without("blk.0.ffn_gate_tid2eid.weight"), "“blk.0.ffn_gate_tid2eid.weight” is missing"),
    "an indexer that is missing": (without("blk.2.indexer.proj.weight"), "“blk.2.indexer.proj.weight” is missing"),
    "a missing part of the drafter": (without("blk.4.nextn.enorm.weight"), "“blk.4.nextn.enorm.weight” is missing"),
    "a matrix of another shape": (
        shaped("blk.1.attn_kv.weight", (64, 96)),
        "“blk.1.attn_kv.weight” is 96 x 64, and its metadata calls for 128 x 64",
    ),
    "a vector of another length": (
        shaped("blk.1.attn_norm.weight", (65,)), "“blk.1.attn_norm.weight” is 65, and its metadata calls for 64",
    ),
    "fewer experts than are said": (
        shaped(EXPERTS, (32, 64, 3)), f"“{EXPERTS}” is 3 x 64 x 32, and its metadata calls for 4 x 64 x 32",
    ),
    "a drafter of another shape": (
        shaped("blk.4.nextn.eh_proj.weight", (64, 64)), "is 64 x 64, and its metadata calls for 64 x 128",
    ),
    "a type that is not read": (
        typed("blk.1.attn_kv.weight", "Q4_0"),
        "“blk.1.attn_kv.weight” is Q4_0, and only F32, F16, BF16, Q8_0, MXFP4 are read by this backend",
    ),
    "experts of a type that is not read": (typed(EXPERTS, "Q4_0"), f"“{EXPERTS}” is Q4_0, and only F32"),
    "a vector of whole numbers": (typed("blk.1.attn_norm.weight", "I32"), "is I32, and only F32"),
    "a table of another type": (
        typed("blk.0.ffn_gate_tid2eid.weight", "F32"), "“blk.0.ffn_gate_tid2eid.weight” is F32, and I32 is read there",
    ),
    "a table of another shape": (
        shaped("blk.0.ffn_gate_tid2eid.weight", (3, 512)), "is 512 x 3, and its metadata calls for 512 x 2",
    ),
    "an expert that does not exist": (sends_to(4), "sends token 200 to expert 4, and there are 4"),
    "an expert below zero": (sends_to(-1), "sends token 200 to expert -1, and there are 4"),
    "a tensor that is not understood": (
        added("blk.1.ffn_gate_exps.scale"), "“blk.1.ffn_gate_exps.scale” has no place in the network known here",
    ),
    "only a drafter": (without("blk.0.attn_norm.weight"), "it holds only a drafter"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(small: GgufFile, tmp_path: Path, case: str) -> None:
    edit, sentence = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        open_gguf(edited(small, tmp_path, edit))
    assert sentence in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_drafter_of_another_model_is_refused(
    folder: Path, separate: tuple[Path, ...], small: GgufFile
) -> None:
    other = GgufFile(dict(small.metadata), dict(small.tensors)).write(folder / "other.gguf")
    with pytest.raises(ModelError, match="made for another model: hidden_size is 64 there and 256 here"):
        open_gguf(separate[0], draft=other)
    with pytest.raises(ModelError, match="it holds no MTP block"):
        open_gguf(separate[0], draft=separate[0])
    with pytest.raises(ModelError, match="it holds only a drafter"):
        open_gguf(separate[1])


@pytest.mark.parametrize("keep", [0, 3, 4, 1000, -1, -5000])
def test_a_truncated_file_is_refused(kept: Path, tmp_path: Path, keep: int) -> None:
    content = kept.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(content[: keep if keep >= 0 else len(content) - 4096 + keep])
    with pytest.raises(ModelError, match=r"truncated|empty"):
        open_gguf(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no-such.gguf.*cannot be read"):
        open_gguf(tmp_path / "no-such.gguf")
    with pytest.raises(ModelError, match="not an ordinary file"):
        open_gguf(tmp_path)


def test_mutants_are_models_or_are_refused_with_one_sentence(small: GgufFile, tmp_path: Path) -> None:
    """Bytes of the header, and values, shapes, types and names that are well-formed and wrong."""
    chance = random.Random(8)
    original = GgufFile(dict(small.metadata), dict(small.tensors)).write(tmp_path / "whole.gguf").read_bytes()
    refused = 0
    for number in range(MUTANTS):
        if number % 3 == 0:
            path = tmp_path / "mutant.gguf"
            path.write_bytes(mutated(original, chance))
        else:
            path = edited(small, tmp_path, lambda file: misinform(file, chance))
        try:
            open_gguf(path).close()
        except ModelError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 600
        path.unlink()
    assert refused > MUTANTS // 2


def misinform(file: GgufFile, chance: random.Random) -> None:
    """Change one or two things that are well-formed."""
    for _ in range(chance.randint(1, 2)):
        if chance.random() < 0.6:
            key = chance.choice([key for key in file.metadata if key.startswith("deepseek4.")])
            file.metadata[key] = chance.choice(
                (0, 1, 2, 3, 5, 63, 64, 65, 127, 1 << 16, 2**31, 2**32 - 1, -1, 0.0, -1.0, 1e30, float("nan"),
                 float("inf"), True, False, "", "yarn", "linear", [0], [4] * 5, [128] * 64, [1.0] * 5, [0] * 65, ["x"])
            )  # fmt: skip
            continue
        name = chance.choice(list(file.tensors))
        each = file.tensors.pop(name)
        kind = chance.choice(("drop", "rename", "shape", "type"))
        if kind == "rename":
            name = chance.choice((name + "x", "blk.99.x", "ä", each.name.replace("blk.1", "blk.3")))
            if name not in file.tensors:
                file.tensors[name] = replace(each, name=name)
        elif kind == "shape":
            shape = tuple(chance.choice((0, 1, 32, 64, extent, 2 * extent)) for extent in each.shape)
            if shape[0] % 32 == 0 or each.type_name in ("F32", "BF16", "I32"):
                file.tensors[name] = empty(name, each.type_name, shape)
        elif kind == "type":
            type_name = chance.choice(("F32", "F16", "I8", "I64", "F64", "Q4_0", "Q8_0", "MXFP4"))
            if each.shape[0] % 32 == 0:
                file.tensors[name] = empty(name, type_name, each.shape)


def test_expert_numbers_come_one_matrix_at_a_time(kept: Path, source: Path) -> None:
    down = open_gguf(kept).weights.blocks[2].moe.experts.matrices(3).down
    wanted = seeded_checkpoint.decoded(source, "layers.2.ffn.experts.3.w2.weight")
    assert np.array_equal(matrix_numbers(down), wanted)
