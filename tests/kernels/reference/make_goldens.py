"""Small goldens of each operator by `transformers`' own modules of DeepseekV4: what ours are compared with.

    .venv-reference/bin/python -I tests/kernels/reference/make_goldens.py FOLDER

Writes one FOLDER/NAME.npz for each module: its inputs, its weights and what it gave, F32 and integers. Runs in
`.venv-reference`, which has torch and transformers, and on its own: nothing of Seamount is imported. Seeded; the
same versions on the same machine write the same numbers, other machines may differ in last bits.
"""

import os
import sys
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as v4
from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config

TOKENS = 11
WINDOW = 4
HCA_TOKENS = 260


def config() -> DeepseekV4Config:
    """Every kind of layer, as small as each module allows; ratios, iterations, epsilons and thetas are the model's."""
    found = DeepseekV4Config(
        hidden_size=12,
        num_hidden_layers=3,
        num_attention_heads=4,
        head_dim=16,
        qk_rope_head_dim=8,
        q_lora_rank=10,
        o_groups=2,
        o_lora_rank=6,
        n_routed_experts=5,
        n_shared_experts=1,
        num_experts_per_tok=3,
        moe_intermediate_size=6,
        routed_scaling_factor=1.5,
        scoring_func="sqrtsoftplus",
        num_hash_layers=1,
        swiglu_limit=0.6,
        index_n_heads=3,
        index_head_dim=8,
        index_topk=2,
        sliding_window=WINDOW,
        compress_ratios=[0, 4, 128],
        rope_theta=10000.0,
        compress_rope_theta=160000.0,
        rope_scaling={
            "type": "yarn",
            "factor": 16,
            "original_max_position_embeddings": 65536,
            "beta_fast": 32,
            "beta_slow": 1,
        },
        max_position_embeddings=1048576,
        hc_mult=4,
        hc_sinkhorn_iters=20,
        hc_eps=1e-6,
        rms_norm_eps=1e-6,
        vocab_size=20,
    )
    found._attn_implementation = found._experts_implementation = "eager"
    assert found.rope_parameters["compress"]["rope_type"] == "yarn", found.rope_parameters
    assert found.layer_types == [
        "sliding_attention",
        "compressed_sparse_attention",
        "heavily_compressed_attention",
    ], found.layer_types
    return found


def seeded(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module in F32 with normal weights: of matrices so that sizes stay about one, of the others about one."""
    generator = torch.Generator().manual_seed(seed)
    for _, tensor in sorted({**dict(module.named_parameters()), **dict(module.named_buffers())}.items()):
        if tensor.dtype == torch.float32 and "inv_freq" not in _name_of(module, tensor):
            scale = tensor.shape[-1] ** -0.5 if tensor.dim() > 1 else 1.0
            tensor.data = torch.randn(tensor.shape, generator=generator) * scale
    return module.float().eval()


def _name_of(module: torch.nn.Module, tensor: torch.Tensor) -> str:
    everything = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return next(name for name, value in everything.items() if value is tensor)


def arrays(values: dict[str, Any]) -> dict[str, Any]:
    """As numpy."""
    return {
        k: v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for k, v in values.items()
    }


def weights(module: torch.nn.Module, *leave_out: str) -> dict[str, torch.Tensor]:
    """All of a module's, under `weight:NAME`."""
    kept = {k: v for k, v in module.state_dict().items() if not k.startswith(leave_out)}
    return {f"weight:{k}": v for k, v in kept.items()}


def hyper_connections(c: DeepseekV4Config) -> dict[str, Any]:
    mixer, head = seeded(v4.DeepseekV4HyperConnection(c), 1), seeded(v4.DeepseekV4HyperHead(c), 2)
    streams, y = torch.randn(1, TOKENS, 4, 12), torch.randn(1, TOKENS, 12)
    post, comb, x = mixer(streams)
    # As DeepseekV4DecoderLayer.forward merges.
    merged = post.unsqueeze(-1) * y.unsqueeze(-2) + torch.matmul(comb.transpose(-1, -2), streams)
    return {
        "streams": streams[0],
        "y": y[0],
        "x": x[0],
        "post": post[0],
        "comb": comb[0],
        "merged": merged[0],
        "collapsed": head(streams)[0],
        **weights(mixer),
        **weights(head),
    }


def norms(c: DeepseekV4Config) -> dict[str, Any]:
    weighted = seeded(v4.DeepseekV4RMSNorm(12, eps=1e-6), 3)
    x, heads = torch.randn(TOKENS, 12) * 3, torch.randn(TOKENS, 4, 16)
    plain = v4.DeepseekV4UnweightedRMSNorm(eps=1e-6)
    return {"x": x, "y": weighted(x), "heads": heads, "y_heads": plain(heads), **weights(weighted)}


def rotary(c: DeepseekV4Config) -> dict[str, Any]:
    found = v4.DeepseekV4RotaryEmbedding(c)
    positions = torch.tensor([[0, 1, 5, 127, 4096, 65535, 65537, 1048575]])
    x = torch.randn(1, 8, 4, 16)
    values: dict[str, Any] = {"positions": positions[0], "x": x[0]}
    for kind in ("main", "compress"):
        cos, sin = found(x, position_ids=positions, layer_type=kind)
        turn = lambda s, c=cos: v4.apply_rotary_pos_emb(x.transpose(1, 2), c, s).transpose(1, 2)[0]  # noqa: E731
        values |= {
            f"frequencies_{kind}": getattr(found, f"{kind}_inv_freq"),
            f"turned_{kind}": turn(sin),
            f"back_{kind}": turn(-sin),
        }
    return values


def _noted(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a norm is given, once it has been called."""
    noted: dict[str, torch.Tensor] = {}

    def note(_module: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        noted.setdefault("pooled", given[0])

    module.register_forward_pre_hook(note)
    return noted


def compressors(c: DeepseekV4Config) -> dict[str, Any]:
    """Rows before their norm and after positions; CSA's also in two parts, the second after the first."""
    csa, hca = seeded(v4.DeepseekV4CSACompressor(c), 4), seeded(v4.DeepseekV4HCACompressor(c), 5)
    indexer = csa.indexer
    values: dict[str, Any] = {}
    for name, module, tokens in (("csa", csa, 23), ("hca", hca, HCA_TOKENS)):
        hidden, residual = torch.randn(1, tokens, 12), torch.randn(1, tokens, 10)
        noted = _noted(module.kv_norm)
        at = torch.arange(tokens)[None]
        rows, _ = module(hidden, residual, at, None, 0)
        values |= {
            f"{name}_hidden": hidden[0],
            f"{name}_pooled": noted["pooled"][0],
            f"{name}_rows": rows[0, 0],
        }
        if name == "csa":
            noted = _noted(indexer.kv_norm)
            choice = indexer(hidden, residual, at, None, 0)
            values |= {
                "csa_residual": residual[0],
                "index_pooled": noted["pooled"][0],
                "index_choice": choice[0],
            }
    return {
        **values,
        **{k.replace("weight:", "csa:"): v for k, v in weights(csa, "rotary_emb").items()},
        **{k.replace("weight:", "hca:"): v for k, v in weights(hca, "rotary_emb").items()},
    }


def indexer_scores(c: DeepseekV4Config) -> dict[str, Any]:
    scorer = seeded(v4.DeepseekV4IndexerScorer(c), 6)
    q, keys, hidden = torch.randn(1, TOKENS, 3, 8), torch.randn(1, 7, 8), torch.randn(1, TOKENS, 12)
    return {
        "q": q[0],
        "keys": keys[0],
        "hidden": hidden[0],
        "scores": scorer(q, keys, hidden)[0],
        **weights(scorer),
    }


def attention(c: DeepseekV4Config) -> dict[str, Any]:
    """Whole layers of each kind, over enough tokens that the window is left and rows are chosen among."""
    values: dict[str, Any] = {}
    for layer, (name, tokens) in enumerate((("window", TOKENS), ("csa", 23), ("hca", HCA_TOKENS))):
        module = seeded(v4.DeepseekV4Attention(c, layer), 7 + layer)
        hidden, positions = torch.randn(1, tokens, 12), torch.arange(tokens)[None]
        rotary = v4.DeepseekV4RotaryEmbedding(c)
        both = {
            kind: rotary(hidden, position_ids=positions, layer_type=kind) for kind in ("main", "compress")
        }
        at = torch.arange(tokens)
        unseen = (at[None] > at[:, None]) | (at[None] <= at[:, None] - WINDOW)
        mask = torch.zeros(tokens, tokens).masked_fill(unseen, torch.finfo(torch.float32).min)[None, None]
        with torch.inference_mode():
            y, _ = module(hidden, both, positions, mask, None)
        values |= {f"{name}_hidden": hidden[0], f"{name}_y": y[0]}
        values |= {
            k.replace("weight:", f"{name}:"): v for k, v in weights(module).items() if "rotary" not in k
        }
    return values


def experts(c: DeepseekV4Config) -> dict[str, Any]:
    """Routers of both kinds, the routed experts, the shared one."""
    values: dict[str, Any] = {"x": torch.randn(TOKENS, 12), "tokens": torch.randint(0, 20, (TOKENS,))}
    top, table = seeded(v4.DeepseekV4TopKRouter(c), 10), seeded(v4.DeepseekV4HashRouter(c), 11)
    table.tid2eid.copy_(torch.stack([torch.randperm(5)[:3] for _ in range(20)]))
    routed, shared = seeded(v4.DeepseekV4Experts(c), 12), seeded(v4.DeepseekV4MLP(c), 13)
    for name, router, given in (("top", top, ()), ("hash", table, (values["tokens"],))):
        _, w, chosen = router(values["x"], *given)
        values |= {
            f"{name}_chosen": chosen,
            f"{name}_weights": w,
            f"{name}_y": routed(values["x"], chosen, w),
        }
        values |= {k.replace("weight:", f"{name}:"): v for k, v in weights(router).items()}
    values["shared_y"] = shared(values["x"])
    for name, module in (("routed", routed), ("shared", shared)):
        values |= {k.replace("weight:", f"{name}:"): v for k, v in weights(module).items()}
    return values


MADE = (hyper_connections, norms, rotary, compressors, indexer_scores, attention, experts)


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed, made in enumerate(MADE):
        torch.manual_seed(seed)
        with torch.no_grad():
            np.savez_compressed(folder / f"{made.__name__}.npz", **arrays(made(config())))


if __name__ == "__main__":
    main()
