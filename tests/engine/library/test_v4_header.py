"""What of a V4 header would end the process that loads it."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.gguf_header import ArrayShape, GgufHeader, read_gguf_header
from engine.library.model_files import ModelFiles
from engine.library.v4_header import why_not
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic

V4 = "deepseek4."


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, its header as the converter writes it."""
    path = tmp_path_factory.mktemp("v4") / "small.gguf"
    overrides: dict[str, Any] = {
        "hidden_size": 256,
        "num_attention_heads": 4,
        "head_dim": 128,
        "q_lora_rank": 64,
        "o_lora_rank": 64,
        "o_groups": 2,
        "n_routed_experts": 8,
        "moe_intermediate_size": 128,
        "index_n_heads": 4,
        "index_head_dim": 128,
        "vocab_size": 512,
    }
    write_synthetic(path, synthetic_shape("flash", layers=4, overrides=overrides))
    return path


@pytest.fixture(scope="module")
def header(small: Path) -> GgufHeader:
    """That model's header."""
    return read_gguf_header(small)


def with_(header: GgufHeader, **values: Any) -> GgufHeader:
    """The header with other values; None takes a key away, a list makes it an array. `__` stands for a dot."""
    metadata, arrays = dict(header.metadata), dict(header.arrays)
    for name, value in values.items():
        key = V4 + name.replace("__", ".")
        metadata.pop(key, None)
        arrays.pop(key, None)
        if isinstance(value, list):
            arrays[key] = ArrayShape("uint32", len(value))  # type: ignore[reportUnknownArgumentType]
        if value is not None:
            metadata[key] = value
    return replace(header, metadata=metadata, arrays=arrays)


def test_a_model_as_it_is_made_is_in_order(header: GgufHeader) -> None:
    assert header.architecture == "deepseek4"
    assert why_not(header) is None


def test_other_architectures_are_none_of_its_business(header: GgufHeader) -> None:
    other = with_(header, attention__compress_ratios=None)
    assert why_not(other) is not None
    assert why_not(replace(other, metadata=other.metadata | {"general.architecture": "llama"})) is None


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([0, 0, 4, 4], "none of its layers compresses by 128"),
        ([0, 0, 128, 128], "none of its layers compresses by 4 "),
        ([0, 0, 4, 128, 0], None),
        ([0, 4, 128], "another number of layers"),
        ([0, 4, 128, 2], "otherwise than by 4 or by 128"),
        (None, "missing"),
    ],
)
def test_every_kind_of_compression_is_there(
    header: GgufHeader, ratios: list[int] | None, said: str | None
) -> None:
    why = why_not(with_(header, attention__compress_ratios=ratios))
    assert why is None if said is None else said in str(why)


def test_a_drafters_layers_do_not_count(header: GgufHeader) -> None:
    drafting = {"block_count": 5, "nextn_predict_layers": 1}
    assert why_not(with_(header, attention__compress_ratios=[0, 0, 4, 128, 0], **drafting)) is None
    assert why_not(with_(header, attention__compress_ratios=[0, 0, 4, 0, 128], **drafting)) is not None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("block_count", 0),
        ("block_count", 513),
        ("nextn_predict_layers", 4),
        ("attention__head_count", 0),
        ("attention__head_count", [4, 4, 4, 4]),
        ("attention__head_count_kv", 2),
        ("attention__key_length", 0),
        ("attention__value_length", 64),
        ("attention__key_length_swa", 64),
        ("attention__output_group_count", 0),
        ("attention__output_group_count", 3),
        ("attention__sliding_window", 0),
        ("attention__indexer__key_length", 32),
        ("attention__layer_norm_rms_epsilon", -1.0),
        ("attention__layer_norm_rms_epsilon", float("nan")),
        ("attention__causal", False),
        ("rope__dimension_count", 63),
        ("rope__dimension_count", 130),
        ("rope__scaling__type", "spiral"),
        ("rope__scaling__type", 3),
        ("expert_count", 513),
        ("expert_used_count", 9),
        ("expert_used_count", 0),
        ("expert_group_count", 8),
        ("hyper_connection__count", 3),
        ("hyper_connection__sinkhorn_iterations", 0),
        ("hyper_connection__sinkhorn_iterations", 1 << 20),
        ("hyper_connection__epsilon", None),
        ("context_length", 0),
        ("context_length", "long"),
    ],
)
def test_a_number_that_cannot_be_is_named(header: GgufHeader, key: str, value: Any) -> None:
    why = why_not(with_(header, **{key: value}))
    assert why is not None
    # What does not go together is told of one of both.
    other = {
        "nextn_predict_layers": "block_count",
        "attention__indexer__key_length": "rope__dimension_count",
    }
    assert f"its {other.get(key, key).replace('__', '.')} is " in why
    assert "llama.cpp needs it to be" in why


@pytest.mark.parametrize("layers", [43, 61])
def test_the_released_shapes_are_in_order(header: GgufHeader, layers: int) -> None:
    ratios = ([0, 0] + [4, 128] * layers)[:layers]
    released = {
        "attention__head_count": 128,
        "attention__output_group_count": 16,
        "attention__key_length": 512,
    }
    changed = with_(
        header, block_count=layers, attention__compress_ratios=ratios, attention__value_length=512, **released
    )
    assert why_not(changed) is None


def test_what_is_refused_is_a_sentence_in_the_library(small: Path, tmp_path: Path) -> None:
    body = small.read_bytes()
    key = b"deepseek4.hyper_connection.count"
    at = body.index(key) + len(key) + 4  # its type is in between
    assert struct.unpack_from("<I", body, at) == (4,)
    path = tmp_path / "changed.gguf"
    path.write_bytes(body[:at] + struct.pack("<I", 5) + body[at + 4 :])
    assert ModelFiles().facts(small).problem is None
    problem = ModelFiles().facts(path).problem
    assert problem is not None
    assert "its hyper_connection.count is 5, and llama.cpp needs it to be 4" in problem.text
    assert "seamount convert" in problem.text
