"""The network's configuration, read from the metadata of a GGUF of `deepseek4`.

Owns: the keys, what each may be, and what stands for one that is missing: as llama.cpp's loader has it where it has
something (load_arch_hparams in src/models/deepseek4.cpp, load_hparams in src/llama-model.cpp), and what all releases
of V4 have in common elsewhere. Does not know tensors, but by name: whether a drafter lies in the file is told by one.

Files differ: a list that has one value for every layer may be a single number; the list of ratios may go on for
blocks that were left out; `nextn_predict_layers` may be said of a file without such a block.
"""

from collections.abc import Mapping
from typing import cast

import numpy as np

from convert.gguf_header import GgufHeader, Scalar
from convert.wording import quoted, shown
from engine.model.config import NetworkConfig, Yarn
from engine.model.config_limits import check_config
from engine.model.model_error import GET_AGAIN, NEWER, ModelError

ARCHITECTURE = "deepseek4"
DRAFTER = "dflash"
"""The architecture of a file with DSpark's drafter."""
SQRT_SOFTPLUS = 4
USUAL_CLAMP = 10.0
"""`swiglu_limit` of every release of V4, for files that were made before there was a key for it."""
MAX_LAYERS = 512


def network_config(header: GgufHeader, *, name: str = "This file") -> NetworkConfig:
    """The configuration that the header of a model's (first) file tells. Raises ModelError that names the key."""
    return _Keys(header, f"{quoted(name)} cannot be used as a DeepSeek-V4").config()


class _Keys:
    """Typed reading of the metadata, with the key in every complaint."""

    def __init__(self, header: GgufHeader, what: str) -> None:
        self._header, self._what = header, what

    def config(self) -> NetworkConfig:
        self._check_kind()
        blocks = self._whole("block_count", 1, MAX_LAYERS)
        drafts = self._drafts(blocks)
        layers = blocks - drafts
        if layers < 1:
            raise self._damaged(f"all of its {blocks} blocks are drafters")
        hidden = self._whole("embedding_length", 32, 1 << 17)
        heads = self._whole("attention.head_count", 1, 4096)
        head_dim = self._whole("attention.key_length", 2, 8192, hidden // heads)
        context = self._whole("context_length", 1, 1 << 30)
        expert_clamp = self._reals("swiglu_clamp_exp", blocks, 0.0, 1e6, USUAL_CLAMP)
        config = NetworkConfig(
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            head_dim=head_dim,
            qk_rope_head_dim=self._whole("rope.dimension_count", 2, 8192, head_dim),
            q_lora_rank=self._whole("attention.q_lora_rank", 1, 1 << 16),
            o_groups=self._whole("attention.output_group_count", 1, 1024),
            o_lora_rank=self._whole("attention.output_lora_rank", 1, 1 << 16),
            n_routed_experts=self._whole("expert_count", 1, 4096),
            num_experts_per_tok=self._whole("expert_used_count", 1, 256),
            moe_intermediate_size=self._whole("expert_feed_forward_length", 32, 1 << 17),
            n_shared_experts=self._whole("expert_shared_count", 1, 16),
            routed_scaling_factor=self._real("expert_weights_scale", 1e-6, 1e6),
            num_hash_layers=self._whole("hash_layer_count", 0, layers),
            expert_clamp=expert_clamp,
            shared_clamp=self._reals("swiglu_clamp_shexp", blocks, 0.0, 1e6) or expert_clamp,
            index_n_heads=self._whole("attention.indexer.head_count", 1, 4096),
            index_head_dim=self._whole("attention.indexer.key_length", 2, 8192),
            index_topk=self._whole("attention.indexer.top_k", 1, 1 << 20),
            sliding_window=self._whole("attention.sliding_window", 1, 1 << 20),
            compress_ratios=self._ratios(blocks)[:layers],
            rope_theta=self._real("rope.freq_base", 1.0, 1e12, 10000.0),
            compress_rope_theta=self._real("attention.compress_rope_freq_base", 1.0, 1e12),
            yarn=self._yarn(context),
            max_position_embeddings=context,
            hc_mult=self._whole("hyper_connection.count", 1, 16),
            hc_sinkhorn_iters=self._whole("hyper_connection.sinkhorn_iterations", 1, 1000),
            hc_eps=self._real("hyper_connection.epsilon", 0.0, 1.0),
            rms_norm_eps=self._real("attention.layer_norm_rms_epsilon", 0.0, 1.0),
            vocab_size=self._vocabulary(),
            draft_blocks=drafts,
        )
        check_config(config, self._what)
        return config

    def _damaged(self, why: str) -> ModelError:
        return ModelError(self._what, f"in its metadata {why}", GET_AGAIN)

    def _unsupported(self, why: str) -> ModelError:
        return ModelError(self._what, why, NEWER)

    # --- what kind of file it is --------------------------------------------------------------------

    def _check_kind(self) -> None:
        kind = self._header.architecture
        if kind == DRAFTER:
            raise ModelError(
                self._what, "it is a drafter (DSpark), not a model", "choose the model's own file"
            )
        if kind != ARCHITECTURE:
            named = quoted(kind) if kind else "none is named"
            raise self._unsupported(f"it is a model of another kind ({named})")
        gating = self._header.number(f"{ARCHITECTURE}.expert_gating_func")
        if gating not in (None, SQRT_SOFTPLUS):
            raise self._unsupported(
                f"its expert_gating_func is {gating}, and only {SQRT_SOFTPLUS} (sqrt-softplus) is known here"
            )
        if self._header.metadata.get(f"{ARCHITECTURE}.expert_weights_norm") is False:
            raise self._unsupported("its expert_weights_norm is false, and only true is known here")
        if (groups := self._header.number(f"{ARCHITECTURE}.expert_group_count")) not in (None, 0, 1):
            raise self._unsupported(f"its experts are in {groups} groups, which is not known here")
        if self._header.number(f"{ARCHITECTURE}.attention.head_count_kv") not in (None, 1):
            raise self._unsupported("its attention.head_count_kv is not 1, and only 1 is known here")

    def _drafts(self, blocks: int) -> int:
        """How many of the blocks are drafters: as llama.cpp has it, none where the first one's tensor is missing."""
        said = self._whole("nextn_predict_layers", 0, blocks, 0)
        probe = f"blk.{blocks - said}.nextn.eh_proj.weight"
        if not said or all(tensor.name != probe for tensor in self._header.tensors):
            return 0
        if said > 1:
            raise self._unsupported(f"it has {said} MTP blocks, and one is known here")
        return said

    def _vocabulary(self) -> int:
        tokens = self._header.arrays.get("tokenizer.ggml.tokens")
        embedding = next((t.shape for t in self._header.tensors if t.name == "token_embd.weight"), ())
        default = tokens.length if tokens else embedding[1] if len(embedding) > 1 else None
        return self._whole("vocab_size", 1, 1 << 22, default)

    # --- values -------------------------------------------------------------------------------------

    def _get(self, key: str) -> Scalar | list[Scalar] | None:
        return self._header.metadata.get(f"{ARCHITECTURE}.{key}")

    def _single(self, key: str) -> Scalar | None:
        """A value; of a list with an entry for each layer, all alike, that entry."""
        value = self._get(key)
        if not isinstance(value, list):
            return value
        if len(set(value)) != 1:
            raise self._unsupported(f"its {key} differs from layer to layer, which is not known here")
        return value[0]

    def _whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        value = self._single(key)
        if value is None:
            value = default
        if type(value) is not int or not least <= value <= most:
            raise self._damaged(self._not(key, value, f"a whole number from {least:,} to {most:,}"))
        return value

    def _real(self, key: str, least: float, most: float, default: float | None = None) -> float:
        value = self._single(key)
        return self._checked(key, default if value is None else value, least, most)

    def _checked(self, key: str, value: Scalar | None, least: float, most: float) -> float:
        # NaN is in no range.
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._damaged(self._not(key, value, f"a number from {least:g} to {most:g}"))
        # Written with 32 bits, 1e-06 is read as 9.999999974752427e-07: the shortest that was meant is taken.
        single = np.float32(value)
        return float(str(single)) if float(single) == value else float(value)

    def _reals(
        self, key: str, count: int, least: float, most: float, default: float | None = None
    ) -> tuple[float, ...]:
        """One for each block; a single number is that of all. Without the key as many defaults, or nothing."""
        values = self._list(key, count)
        if values is None:
            return () if default is None else (default,) * count
        return tuple(self._checked(key, value, least, most) for value in values[:count])

    def _list(self, key: str, count: int) -> list[Scalar] | None:
        """At least `count` entries; None where the key is missing."""
        value, array = self._get(key), self._header.arrays.get(f"{ARCHITECTURE}.{key}")
        if value is None and array is not None:
            raise self._unsupported(
                f"its {key} has {array.length:,} entries, and lists of up to 64 are read here"
            )
        if value is None:
            return None
        if not isinstance(value, list):
            return [value] * count
        if len(value) < count:
            raise self._damaged(f"{key} has {len(value)} entries for {count} blocks")
        return value

    def _ratios(self, blocks: int) -> tuple[int, ...]:
        values = self._list("attention.compress_ratios", blocks)
        if values is None:
            raise self._damaged("attention.compress_ratios is missing")
        for value in values[:blocks]:
            if type(value) is not int or value not in (0, 4, 128):
                raise self._unsupported(
                    f"its attention.compress_ratios hold {shown(str(value))}; 0, 4 and 128 are known here"
                )
        return tuple(cast(list[int], values[:blocks]))

    def _yarn(self, context: int) -> Yarn | None:
        kind = self._header.text(f"{ARCHITECTURE}.rope.scaling.type") or "none"
        factor = self._real("rope.scaling.factor", 0.0, 1e6, 1.0)
        if kind == "yarn":
            if self._real("rope.scaling.yarn_ext_factor", -1e6, 1e6, 1.0) != 1.0:
                raise self._unsupported("its rope.scaling.yarn_ext_factor is not 1, and only 1 is known here")
            return Yarn(
                factor=factor or 1.0,
                original_max_position_embeddings=self._whole(
                    "rope.scaling.original_context_length", 1, 1 << 30, context
                ),
                beta_fast=self._real("rope.scaling.yarn_beta_fast", 0.0, 1e6, 32.0),
                beta_slow=self._real("rope.scaling.yarn_beta_slow", 0.0, 1e6, 1.0),
            )
        if factor not in (0.0, 1.0) and kind != "none":
            raise self._unsupported(
                f"its positions are stretched by {quoted(kind)}, and only yarn is known here"
            )
        return None

    def _not(self, key: str, value: object, wanted: str) -> str:
        return f"{key} is missing" if value is None else f"{key} is {shown(repr(value))}, not {wanted}"


def drafter_tensors(header: GgufHeader) -> int:
    """How many tensors a file of DSpark's drafter holds; 0 for any other file."""
    return len(header.tensors) if header.architecture == DRAFTER else 0


def release_of(metadata: Mapping[str, Scalar | list[Scalar]]) -> str:
    """What the file calls the model; "" where it does not."""
    for key in ("seamount.release", "general.name", "general.basename"):
        if isinstance(value := metadata.get(key), str) and value.strip():
            return value.strip()
    return ""
