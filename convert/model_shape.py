"""The shape of a DeepSeek-V4 model, read from its checkpoint's config.json.

Owns: which keys there are, what they may be (V4.md 1.2 and 1.7), and what this program does not know and says
so about: other architectures, other number formats. Does not know tensors (`expected_tensors`).

Values that only one is known of are not kept but checked: a model with another activation or another way to
score its experts would convert without a complaint and answer nonsense.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, cast

from convert.checkpoint_error import CheckpointError
from convert.wording import shown

FP8_BLOCK = 128
FP4_BLOCK = 32
RATIOS = (0, 4, 128)
"""0: the window alone; 4: compressed with an indexer; 128: compressed."""
MAX_EXPERT_TENSORS = 262_144
"""Pro with DSpark has 147,456. So what is computed from a shape stays below 100 MB, whatever the config says."""

_KNOWN_ONLY: dict[str, Any] = {
    "num_key_value_heads": 1,
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
    "scoring_func": "sqrtsoftplus",
    "topk_method": "noaux_tc",
    "norm_topk_prob": True,
}
_KNOWN_QUANTIZATION: dict[str, Any] = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "scale_fmt": "ue8m0",
    "weight_block_size": [FP8_BLOCK, FP8_BLOCK],
}


@dataclass(frozen=True)
class YarnShape:
    """`rope_scaling`: how far the compressed layers' positions are stretched."""

    factor: float
    original_max_position_embeddings: int
    beta_fast: float
    beta_slow: float


@dataclass(frozen=True)
class DSparkShape:
    """The DSpark drafter: `stages` blocks in `mtp.0`, `mtp.1`, … (V4.md 1.7)."""

    stages: int
    block_size: int
    noise_token_id: int
    target_layer_ids: tuple[int, ...]
    markov_rank: int


@dataclass(frozen=True)
class ModelShape:
    """Every number of the config that tensors or metadata depend on, under the config's own names."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    head_dim: int
    qk_rope_head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    n_routed_experts: int
    n_shared_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    routed_scaling_factor: float
    num_hash_layers: int
    swiglu_limit: float
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    sliding_window: int
    compress_ratios: tuple[int, ...]
    """As in the config: one for each layer, then one (0) for each block of the drafter."""
    rope_theta: float
    compress_rope_theta: float
    rope_scaling: YarnShape
    max_position_embeddings: int
    hc_mult: int
    hc_sinkhorn_iters: int
    hc_eps: float
    rms_norm_eps: float
    num_nextn_predict_layers: int
    expert_dtype: str
    """"fp4" or, in the Base checkpoints, "fp8"."""
    vocab_size: int
    bos_token_id: int
    eos_token_id: int
    dspark: DSparkShape | None
    """None: the drafter, if `num_nextn_predict_layers` is 1, is an MTP block."""

    @property
    def layer_ratios(self) -> tuple[int, ...]:
        """The compress ratio of each of the model's own layers."""
        return self.compress_ratios[: self.num_hidden_layers]

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str = "This checkpoint") -> "ModelShape":
        """Read and check the shape. Raises CheckpointError ("unsupported", "damaged") that names the key."""
        reader = _Reader(config, f"{shown(name)} cannot be used as a DeepSeek-V4")
        reader.check_kind()
        shape = _shape(reader)
        _check(reader, shape)
        return shape


class _Reader:
    """Typed reading of a config's values, with the key in every complaint."""

    def __init__(self, config: Mapping[str, Any], what: str, path: str = "") -> None:
        self._config, self._what, self._path = config, what, path

    def damaged(self, why: str) -> CheckpointError:
        return CheckpointError("damaged", self._what, f"in its config.json {why}")

    def unsupported(self, why: str) -> CheckpointError:
        return CheckpointError("unsupported", self._what, why)

    def has(self, key: str) -> bool:
        return self._config.get(key) is not None

    def check_kind(self) -> None:
        """Raise for another architecture, and for values of which only one is known."""
        kind, architectures = self._config.get("model_type"), self._config.get("architectures")
        if kind != "deepseek_v4" or architectures not in (None, ["DeepseekV4ForCausalLM"]):
            found = kind if kind != "deepseek_v4" else architectures
            named = shown(str(found).strip("[]'")) if found else "no model_type"
            raise self.unsupported(f"it is a model of another kind ({named}), not a DeepSeek-V4")
        if self._config.get("vision_n_layers"):
            raise self.unsupported("it has a vision part (vision_n_layers), which is not known here yet")
        self.known_only(_KNOWN_ONLY, required=False)
        if not self.has("quantization_config"):
            raise self.unsupported("its numbers are not in the released format (no quantization_config)")
        self.part("quantization_config").known_only(_KNOWN_QUANTIZATION, required=True)

    def known_only(self, known: Mapping[str, Any], *, required: bool) -> None:
        for key, value in known.items():
            found = self._config.get(key)
            if (found is not None or required) and (found != value or type(found) is not type(value)):
                raise self.unsupported(
                    f"its {self._path}{key} is {shown(repr(found))}, and only {value!r} is known here"
                )

    def part(self, key: str) -> "_Reader":
        value = self._config.get(key)
        if not isinstance(value, dict):
            raise self.damaged(f"{self._path}{key} is not an object")
        return _Reader(cast(dict[str, Any], value), self._what, f"{key}.")

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        value = self._config.get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.damaged(self._not(key, value, f"a whole number from {least:,} to {most:,}"))
        return value

    def real(self, key: str, least: float, most: float) -> float:
        value = self._config.get(key)
        # A number beyond a double's range (1e999) is read as infinity, which is beyond `most`.
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.damaged(self._not(key, value, f"a number from {least:g} to {most:g}"))
        return float(value)

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        value = self._config.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise self.unsupported(
                f"its {self._path}{key} is {shown(repr(value))}; {' and '.join(choices)} are known here"
            )
        return value

    def wholes(self, key: str, least: int, most: int, longest: int) -> tuple[int, ...]:
        value = self._config.get(key)
        if isinstance(value, list):
            numbers = cast(list[Any], value)
            if 1 <= len(numbers) <= longest and all(
                type(number) is int and least <= number <= most for number in numbers
            ):
                return tuple(numbers)
        wanted = f"a list of 1 to {longest} numbers from {least} to {most:,}"
        raise self.damaged(self._not(key, cast(object, value), wanted))

    def _not(self, key: str, value: object, wanted: str) -> str:
        if value is None:
            return f"{self._path}{key} is missing"
        return f"{self._path}{key} is {shown(repr(value))}, not {wanted}"


def _shape(read: _Reader) -> ModelShape:
    yarn = read.part("rope_scaling")
    yarn.known_only({"type": "yarn"} if yarn.has("type") else {"rope_type": "yarn"}, required=True)
    layers = read.whole("num_hidden_layers", 1, 1024)
    vocabulary = read.whole("vocab_size", 1, 1 << 22)
    ratios = read.wholes("compress_ratios", 0, 128, 1100)
    return ModelShape(
        hidden_size=read.whole("hidden_size", 32, 1 << 17),
        num_hidden_layers=layers,
        num_attention_heads=read.whole("num_attention_heads", 1, 4096),
        head_dim=read.whole("head_dim", 2, 8192),
        qk_rope_head_dim=read.whole("qk_rope_head_dim", 2, 8192),
        q_lora_rank=read.whole("q_lora_rank", 1, 1 << 16),
        o_groups=read.whole("o_groups", 1, 1024),
        o_lora_rank=read.whole("o_lora_rank", 1, 1 << 16),
        n_routed_experts=read.whole("n_routed_experts", 1, 4096),
        n_shared_experts=read.whole("n_shared_experts", 1, 16),
        num_experts_per_tok=read.whole("num_experts_per_tok", 1, 256),
        moe_intermediate_size=read.whole("moe_intermediate_size", 32, 1 << 17),
        routed_scaling_factor=read.real("routed_scaling_factor", 1e-6, 1e6),
        num_hash_layers=read.whole("num_hash_layers", 0, layers),
        swiglu_limit=read.real("swiglu_limit", 0.0, 1e6),
        index_n_heads=read.whole("index_n_heads", 1, 4096),
        index_head_dim=read.whole("index_head_dim", 2, 8192),
        index_topk=read.whole("index_topk", 1, 1 << 20),
        sliding_window=read.whole("sliding_window", 1, 1 << 20),
        compress_ratios=ratios,
        rope_theta=read.real("rope_theta", 1.0, 1e12),
        compress_rope_theta=read.real("compress_rope_theta", 1.0, 1e12),
        rope_scaling=YarnShape(
            factor=yarn.real("factor", 1.0, 1e6),
            original_max_position_embeddings=yarn.whole("original_max_position_embeddings", 1, 1 << 30),
            beta_fast=yarn.real("beta_fast", 0.0, 1e6),
            beta_slow=yarn.real("beta_slow", 0.0, 1e6),
        ),
        max_position_embeddings=read.whole("max_position_embeddings", 1, 1 << 30),
        hc_mult=read.whole("hc_mult", 1, 16),
        hc_sinkhorn_iters=read.whole("hc_sinkhorn_iters", 1, 1000),
        hc_eps=read.real("hc_eps", 0.0, 1.0),
        rms_norm_eps=read.real("rms_norm_eps", 0.0, 1.0),
        num_nextn_predict_layers=read.whole("num_nextn_predict_layers", 0, 1, default=0),
        # The first upload of the preview did not have the key yet.
        expert_dtype=read.choice("expert_dtype", ("fp4", "fp8"), "fp4"),
        vocab_size=vocabulary,
        bos_token_id=read.whole("bos_token_id", 0, vocabulary - 1),
        eos_token_id=read.whole("eos_token_id", 0, vocabulary - 1),
        dspark=_dspark(read, stages=len(ratios) - layers, layers=layers, vocabulary=vocabulary),
    )


_DSPARK_KEYS = (
    "dspark_block_size",
    "dspark_noise_token_id",
    "dspark_target_layer_ids",
    "dspark_markov_rank",
)


def _dspark(read: _Reader, *, stages: int, layers: int, vocabulary: int) -> DSparkShape | None:
    if not any(read.has(key) for key in _DSPARK_KEYS):
        return None
    if not 1 <= stages <= 16:
        raise read.damaged(
            f"compress_ratios has {layers + stages} entries for {layers} layers and the stages of DSpark"
        )
    targets = read.wholes("dspark_target_layer_ids", 0, layers - 1, 16)
    if len(set(targets)) < len(targets):
        raise read.damaged("dspark_target_layer_ids names a layer twice")
    return DSparkShape(
        stages=stages,
        block_size=read.whole("dspark_block_size", 1, 256),
        noise_token_id=read.whole("dspark_noise_token_id", 0, vocabulary - 1),
        target_layer_ids=targets,
        markov_rank=read.whole("dspark_markov_rank", 1, 1 << 16),
    )


def _check(read: _Reader, shape: ModelShape) -> None:
    """Raise where two values cannot both be true."""
    layers, ratios = shape.num_hidden_layers, shape.compress_ratios
    drafts = shape.dspark.stages if shape.dspark else shape.num_nextn_predict_layers
    if len(ratios) != layers + drafts:
        raise read.damaged(f"compress_ratios has {len(ratios)} entries, not {layers} + {drafts}")
    if strange := sorted(set(ratios) - set(RATIOS)):
        raise read.unsupported(f"its compress_ratios hold {strange[0]}; 0, 4 and 128 are known here")
    if any(ratios[layers:]):
        raise read.unsupported("its drafter compresses (compress_ratios), which is not known here")
    if 6 * shape.n_routed_experts * (layers + drafts) > MAX_EXPERT_TENSORS:
        raise read.damaged(f"{layers} layers of {shape.n_routed_experts} experts are more than any V4 has")
    for key, value, divisor in (
        ("hidden_size", shape.hidden_size, FP4_BLOCK),
        ("moe_intermediate_size", shape.moe_intermediate_size, FP4_BLOCK),
        ("num_attention_heads * head_dim", shape.num_attention_heads * shape.head_dim, shape.o_groups),
    ):
        if value % divisor:
            raise read.damaged(f"{key} is {value}, which {divisor} does not divide")
    for key, part, whole in (
        ("num_experts_per_tok", shape.num_experts_per_tok, shape.n_routed_experts),
        ("qk_rope_head_dim", shape.qk_rope_head_dim, min(shape.head_dim, shape.index_head_dim)),
    ):
        if part > whole:
            raise read.damaged(f"{key} is {part}, more than {whole}")
