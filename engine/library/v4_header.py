"""Whether llama.cpp can compute the DeepSeek-V4 that a GGUF's header describes.

Owns: the numbers of V4's metadata that llama.cpp 0.5.0 takes for granted. It stops the whole process (GGML_ASSERT, or
a division by zero) where they are otherwise, instead of refusing the file; so they are looked at before it does. Does
not know files. Sources: src/llama-model.cpp (load_hparams), src/models/deepseek4.cpp and
src/llama-kv-cache-dsv4.cpp of llama.cpp; `tests.integration.v4_header_fuzz` looks for more of the kind.
"""

import math
from collections.abc import Iterator

from convert.gguf_header import GgufHeader

ARCHITECTURE = "deepseek4"
REMEDY = "look for another GGUF of this model, or convert its checkpoint with `seamount convert`"
MOST_LAYERS = 512
MOST_EXPERTS = 512
"""LLAMA_MAX_LAYERS and LLAMA_MAX_EXPERTS of src/llama-hparams.h."""
STREAMS = 4
MOST_ITERATIONS = 64
"""Each makes some operations in every layer's graph, whose size is limited. V4 has 20."""
MOST_LENGTH = 1 << 20
"""Of anything that has a width. Pro's widest has 65,536."""
_POSITIVE = (
    "context_length",
    "embedding_length",
    "attention.head_count",
    "attention.q_lora_rank",
    "attention.output_lora_rank",
    "attention.output_group_count",
    "attention.sliding_window",
    "attention.indexer.head_count",
    "attention.indexer.key_length",
    "attention.indexer.top_k",
    "expert_count",
    "expert_used_count",
    "expert_shared_count",
)
_REAL = ("attention.layer_norm_rms_epsilon", "hyper_connection.epsilon")
_SCALINGS = ("none", "linear", "yarn", "longrope")


def why_not(header: GgufHeader) -> str | None:
    """Why llama.cpp would not survive this header, as a clause; None for one that it loads, refuses in its own words,
    or that is no V4."""
    if header.architecture != ARCHITECTURE:
        return None
    return next(_troubles(header), None)


def _troubles(header: GgufHeader) -> Iterator[str]:
    layers, drafting = _whole(header, "block_count"), _whole(header, "nextn_predict_layers", 0)
    if layers is None or drafting is None or not 0 < layers <= MOST_LAYERS or not 0 <= drafting < layers:
        yield _told(header, "block_count", f"from 1 to {MOST_LAYERS}, and more than those that draft")
        return
    yield from _ratio_troubles(header, layers, layers - drafting)
    for key in _POSITIVE:
        value = _whole(header, key)
        if value is None or not 0 < value <= MOST_LENGTH:
            # A context is the only one that may be longer: V4's own has 2^20 tokens.
            if key == "context_length" and value is not None and 0 < value < 1 << 31:
                continue
            yield _told(header, key, f"from 1 to {MOST_LENGTH:,}")
            return
    yield from _attention_troubles(header)
    experts, used = _whole(header, "expert_count") or 0, _whole(header, "expert_used_count") or 0
    if experts > MOST_EXPERTS:
        yield _told(header, "expert_count", f"at most {MOST_EXPERTS}")
    if used > experts:
        yield _told(header, "expert_used_count", f"at most the {experts} that there are")
    if _whole(header, "expert_group_count", 0) not in (0, 1):
        yield _told(header, "expert_group_count", "0: V4 has no groups of experts")
    if _whole(header, "hyper_connection.count") != STREAMS:
        yield _told(header, "hyper_connection.count", f"{STREAMS}")
    iterations = _whole(header, "hyper_connection.sinkhorn_iterations")
    if iterations is None or not 0 < iterations <= MOST_ITERATIONS:
        yield _told(header, "hyper_connection.sinkhorn_iterations", f"from 1 to {MOST_ITERATIONS}")
    for key in _REAL:
        value = header.number(f"{ARCHITECTURE}.{key}")
        if value is None or not (math.isfinite(value) and value >= 0):
            yield _told(header, key, "a number that is not negative")
    scaling = header.text(f"{ARCHITECTURE}.rope.scaling.type")
    if f"{ARCHITECTURE}.rope.scaling.type" in header.metadata and scaling not in _SCALINGS:
        yield _told(header, "rope.scaling.type", " or ".join(_SCALINGS))


def _ratio_troubles(header: GgufHeader, layers: int, own_layers: int) -> Iterator[str]:
    """`own_layers`: those that are not a drafter's."""
    ratios = header.metadata.get(f"{ARCHITECTURE}.attention.compress_ratios")
    if not isinstance(ratios, list) or not layers <= len(ratios) <= MOST_LAYERS:
        yield "its layers' compression (compress_ratios) is missing, or it has another number of layers"
        return
    if any(each not in (0, 4, 128) for each in ratios[:layers]):
        yield "a layer compresses otherwise than by 4 or by 128 (compress_ratios)"
    # An empty cache of either kind is divided by its own number of layers or cells.
    for kind in (4, 128):
        if kind not in ratios[:own_layers]:
            yield (
                f"none of its layers compresses by {kind} (compress_ratios), as in every V4, and llama.cpp cannot do "
                "without"
            )


def _attention_troubles(header: GgufHeader) -> Iterator[str]:
    heads, groups = (
        _whole(header, "attention.head_count") or 0,
        _whole(header, "attention.output_group_count") or 1,
    )
    if heads % groups:
        yield _told(header, "attention.output_group_count", f"a divisor of its {heads} heads")
    if _whole(header, "attention.head_count_kv") != 1:
        yield _told(header, "attention.head_count_kv", "1: all heads share their keys")
    length, turned = _whole(header, "attention.key_length"), _whole(header, "rope.dimension_count")
    indexer = _whole(header, "attention.indexer.key_length") or 0
    if length is None or not 0 < length <= MOST_LENGTH:
        yield _told(header, "attention.key_length", f"from 1 to {MOST_LENGTH:,}")
        return
    if _whole(header, "attention.value_length") != length:
        yield _told(header, "attention.value_length", f"as long as its keys ({length})")
    if turned is None or turned % 2 or not 0 < turned <= min(length, indexer):
        yield _told(header, "rope.dimension_count", f"even, from 2 to {min(length, indexer)}")
    # A window's layers may have figures of their own in other models; V4's are all alike.
    for key, value in (("key_length", length), ("value_length", length)):
        if _whole(header, f"attention.{key}_swa", value) != value:
            yield _told(header, f"attention.{key}_swa", f"{value}")
    if _whole(header, "rope.dimension_count_swa", turned) != turned:
        yield _told(header, "rope.dimension_count_swa", f"{turned}")
    if header.metadata.get(f"{ARCHITECTURE}.attention.causal", True) is not True:
        yield _told(header, "attention.causal", "true")


def _whole(header: GgufHeader, key: str, absent: int | None = None) -> int | None:
    """A whole number of V4's metadata; `absent` where there is no such key, None for anything but such a number."""
    name = f"{ARCHITECTURE}.{key}"
    if name not in header.metadata and name not in header.arrays:
        return absent
    value = header.number(name)
    return value if isinstance(value, int) else None


def _told(header: GgufHeader, key: str, wanted: str) -> str:
    name = f"{ARCHITECTURE}.{key}"
    value = header.metadata.get(name)
    if name in header.arrays:
        is_now = "a list"
    elif value is None:
        is_now = "missing"
    else:
        is_now = f"{value!r:.40}"
    return f"its {key} is {is_now}, and llama.cpp needs it to be {wanted}"
