"""Logits of a seeded checkpoint by `transformers`' DeepseekV4, in F32: what a converted file is compared with.

    .venv-reference/bin/python -I tests/convert/reference/logits.py TASKS.json

TASKS.json is a list of {"checkpoint": folder, "tokens": [ids], "logits": file.npy}; the logits of every position
are written there. Runs in `.venv-reference`, which has torch, and on its own: nothing of Seamount is imported.
FP4 and FP8 are decoded here a third time, from the checkpoint's own description of them, in plain numpy; so an
error in `kernels.formats`, in the converter or in the tests' own encoder does not hide itself.
"""

import json
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4ForCausalLM

WINDOW_ONLY = 0
NOT_OF_THE_NETWORK = (
    "architectures",
    "expert_dtype",
    "model_type",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
)
DTYPES = {
    "BF16": "<u2",
    "F32": "<f4",
    "I64": "<i8",
    "I8": "u1",
    "F8_E4M3": "u1",
    "F8_E8M0": "u1",
}

# One name of the checkpoint, one of the model; `layers.N.` and `model.layers.N.` in front of both.
BLOCK = {
    "attn_norm.weight": "input_layernorm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "hc_attn_fn": "attn_hc.fn",
    "hc_attn_base": "attn_hc.base",
    "hc_attn_scale": "attn_hc.scale",
    "hc_ffn_fn": "ffn_hc.fn",
    "hc_ffn_base": "ffn_hc.base",
    "hc_ffn_scale": "ffn_hc.scale",
    "attn.attn_sink": "self_attn.sinks",
    "attn.wq_a.weight": "self_attn.q_a_proj.weight",
    "attn.q_norm.weight": "self_attn.q_a_norm.weight",
    "attn.wq_b.weight": "self_attn.q_b_proj.weight",
    "attn.wkv.weight": "self_attn.kv_proj.weight",
    "attn.kv_norm.weight": "self_attn.kv_norm.weight",
    "attn.wo_a.weight": "self_attn.o_a_proj.weight",
    "attn.wo_b.weight": "self_attn.o_b_proj.weight",
    "attn.compressor.ape": "self_attn.compressor.position_bias",
    "attn.compressor.wkv.weight": "self_attn.compressor.kv_proj.weight",
    "attn.compressor.wgate.weight": "self_attn.compressor.gate_proj.weight",
    "attn.compressor.norm.weight": "self_attn.compressor.kv_norm.weight",
    "attn.indexer.wq_b.weight": "self_attn.compressor.indexer.q_b_proj.weight",
    "attn.indexer.weights_proj.weight": "self_attn.compressor.indexer.scorer.weights_proj.weight",
    "attn.indexer.compressor.ape": "self_attn.compressor.indexer.position_bias",
    "attn.indexer.compressor.wkv.weight": "self_attn.compressor.indexer.kv_proj.weight",
    "attn.indexer.compressor.wgate.weight": "self_attn.compressor.indexer.gate_proj.weight",
    "attn.indexer.compressor.norm.weight": "self_attn.compressor.indexer.kv_norm.weight",
    "ffn.gate.weight": "mlp.gate.weight",
    "ffn.gate.bias": "mlp.gate.e_score_correction_bias",
    "ffn.gate.tid2eid": "mlp.gate.tid2eid",
    "ffn.shared_experts.w1.weight": "mlp.shared_experts.gate_proj.weight",
    "ffn.shared_experts.w2.weight": "mlp.shared_experts.down_proj.weight",
    "ffn.shared_experts.w3.weight": "mlp.shared_experts.up_proj.weight",
}
ENDS = {
    "embed.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "hc_head_fn": "model.hc_head.hc_fn",
    "hc_head_base": "model.hc_head.hc_base",
    "hc_head_scale": "model.hc_head.hc_scale",
    "head.weight": "lm_head.weight",
}
EXPERT = re.compile(r"ffn\.experts\.(\d+)\.(w[123])\.weight")


class Weights:
    """The tensors of a checkpoint, as numbers; those of which `replaced` holds a NAME.npy are that in their place."""

    def __init__(self, folder: Path, replaced: Path | None = None) -> None:
        self._replaced = {} if replaced is None else {path.stem: path for path in replaced.glob("*.npy")}
        self._places: dict[str, tuple[Path, int, dict[str, Any]]] = {}
        for shard in sorted(folder.glob("*.safetensors")):
            with shard.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            self._places |= {name: (shard, 8 + length, entry) for name, entry in header.items()}

    def names(self) -> list[str]:
        """Of everything but scales and drafters."""
        return [n for n in self._places if not n.endswith(".scale") and not n.startswith("mtp.")]

    def numbers(self, name: str) -> torch.Tensor:
        """A tensor with its scales applied, in F32; integers as they are."""
        if name in self._replaced:
            return torch.from_numpy(np.load(self._replaced[name]))
        dtype, raw = self._stored(name)
        if dtype == "I64":
            return torch.from_numpy(raw.copy())
        if dtype == "F32":
            return torch.from_numpy(raw.copy())
        if dtype == "BF16":
            return torch.from_numpy((raw.astype("<u4") << 16).view("<f4"))
        _, codes = self._stored(name.removesuffix("weight") + "scale")
        scales = np.ldexp(np.float64(1), codes.astype(np.int64) - 127)
        if dtype == "I8":
            values = _fp4_values()[np.stack([raw & 15, raw >> 4], axis=-1)].reshape(raw.shape[0], -1)
            spread = np.repeat(scales, 32, axis=1)
        else:
            values = _fp8_values()[raw]
            spread = np.repeat(np.repeat(scales, 128, axis=0), 128, axis=1)
        exact = values * spread[: values.shape[0], : values.shape[1]]
        rounded = exact.astype(np.float32)
        assert np.array_equal(rounded, exact), f"{name} is not exact in F32"
        return torch.from_numpy(rounded)

    def _stored(self, name: str) -> tuple[str, Any]:
        shard, start, entry = self._places[name]
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        with shard.open("rb") as file:
            file.seek(start + begin)
            return dtype, np.frombuffer(file.read(end - begin), DTYPES[dtype]).reshape(shape)


def _fp4_values() -> Any:
    """E2M1: a sign, two bits of exponent (bias 1), one of mantissa."""
    sizes = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
    return np.array(sizes + [-size for size in sizes])


def _fp8_values() -> Any:
    """E4M3 without infinities: a sign, four bits of exponent (bias 7), three of mantissa."""
    found = []
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        size = mantissa * 2.0**-9 if exponent == 0 else (8 + mantissa) * 2.0 ** (exponent - 10)
        size = float("nan") if code & 127 == 127 else size
        found.append(-size if code & 128 else size)
    return np.array(found)


def model_of(folder: Path, replaced: Path | None = None) -> DeepseekV4ForCausalLM:
    """The network with the checkpoint's weights; every one of both is used, or it is an error."""
    given = json.loads((folder / "config.json").read_bytes())
    kept = {k: v for k, v in given.items() if k not in NOT_OF_THE_NETWORK and not k.startswith("dspark")}
    config = DeepseekV4Config(**kept)
    config._attn_implementation = config._experts_implementation = "eager"
    rope = config.rope_parameters
    assert rope["main"]["rope_type"] == "default"
    # Where it is lost, layers that compress have plain RoPE, and nothing is said.
    assert rope["compress"]["rope_type"] == "yarn", rope
    assert rope["compress"]["attention_factor"] == 1.0, rope
    assert rope["compress"]["factor"] == given["rope_scaling"]["factor"], rope
    with torch.device("meta"):
        hollow = DeepseekV4ForCausalLM(config).state_dict()
    model = DeepseekV4ForCausalLM(config).to(torch.float32).eval()
    state = _state(Weights(folder, replaced))
    wrong = {n for n in hollow if n in state and hollow[n].shape != state[n].shape}
    assert not wrong, wrong
    model.load_state_dict(state, strict=True)
    return model


def _state(weights: Weights) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = {}
    experts: dict[str, dict[tuple[int, str], torch.Tensor]] = {}
    for name in weights.names():
        if name in ENDS:
            state[ENDS[name]] = weights.numbers(name)
            continue
        _, layer, rest = name.split(".", 2)
        prefix = f"model.layers.{layer}."
        if match := EXPERT.fullmatch(rest):
            experts.setdefault(prefix, {})[int(match[1]), match[2]] = weights.numbers(name)
        else:
            state[prefix + BLOCK[rest]] = weights.numbers(name)
    while experts:  # one layer's at a time are there twice
        prefix, found = experts.popitem()
        count = max(expert for expert, _ in found) + 1
        gate_up = [torch.cat([found[k, "w1"], found[k, "w3"]]) for k in range(count)]
        state[f"{prefix}mlp.experts.gate_up_proj"] = torch.stack(gate_up)
        state[f"{prefix}mlp.experts.down_proj"] = torch.stack([found[k, "w2"] for k in range(count)])
    return state


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    for task in json.loads(Path(sys.argv[1]).read_bytes()):
        model = model_of(Path(task["checkpoint"]))
        with torch.inference_mode():
            found = model(input_ids=torch.tensor([task["tokens"]]), use_cache=False).logits[0]
        np.save(task["logits"], found.float().numpy())


if __name__ == "__main__":
    main()
