"""What `transformers`' DeepseekV4 computes on the way, in F32: what the native engine is compared with, part by part.

    .venv-reference/bin/python -I tests/convert/reference/intermediates.py TASKS.json

TASKS.json is a list of {"checkpoint": folder, "tokens": [ids], "trace": folder, "chunks": [sizes] or null,
"names": […] or null, "replaced": folder or null}. Into each trace folder go `logits.npy` [tokens, vocabulary] and,
for each layer and part of it that `PARTS` names, `LAYER.NAME.npy`; `names` are those that are wanted, null for all.
With `chunks` the tokens are read in parts of those sizes through the model's own cache; `replaced` holds numbers
(NAME.npy, F32) that take the place of the checkpoint's. Values are read by hooks of torch: the model is not changed.

Runs in `.venv-reference`, on its own: nothing of Seamount is imported. The weights are decoded by `logits.py`
beside it.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from logits import model_of
from transformers import DynamicCache

PARTS = (
    "attention_input",
    "compressed",
    "index_keys",
    "index_scores",
    "index_choice",
    "attention",
    "attention_streams",
    "moe_input",
    "router_scores",
    "router_ranking",
    "router_choice",
    "router_weights",
    "moe",
    "streams",
)
"""In the order in which a layer computes them; T tokens, S compressed rows.

attention_input, moe_input [T, D]: after mixing of the streams and the norm. compressed [S, d], index_keys [S, d]:
all rows, after norm and RoPE. index_scores [T, S]: before the mask, so of rows that a token does not see, too;
with `chunks` a row ends where the rows known to its chunk do, and NaN stands there. index_choice [T, k]: -1 where
there is none, in no order. attention, moe [T, D]: what the sub-layer gives. attention_streams, streams [T, n, D]:
after the sub-layer's output is merged. router_scores [T, E]; router_ranking [T, E]: with the bias, what is chosen
by; router_choice, router_weights [T, K].
"""
WHOLE = ("compressed", "index_keys")
"""Seen whole at each call: the last call's is all of it."""


class Recorder:
    """What the hooks saw, call by call."""

    def __init__(self, model: Any, names: list[str] | None) -> None:
        self._found: dict[tuple[int, str], list[torch.Tensor]] = {}
        self._wanted = set(PARTS if names is None else names)
        for number, layer in enumerate(model.model.layers):
            self._attach(number, layer)

    def _attach(self, number: int, layer: Any) -> None:
        def keep(name: str, value: torch.Tensor) -> None:
            if name in self._wanted:
                self._found.setdefault((number, name), []).append(value[0].clone())

        def after(module: Any, take: Callable[[Any, Any], None]) -> None:
            module.register_forward_hook(lambda _module, given, made: take(given, made))

        layer.input_layernorm.register_forward_hook(lambda _m, _given, made: keep("attention_input", made))
        layer.post_attention_layernorm.register_forward_hook(lambda _m, _given, made: keep("moe_input", made))
        after(layer.self_attn, lambda _given, made: keep("attention", made[0]))
        layer.ffn_hc.register_forward_pre_hook(lambda _m, given: keep("attention_streams", given[0]))
        after(layer.mlp, lambda _given, made: keep("moe", made))
        after(layer, lambda _given, made: keep("streams", made))
        gate = layer.mlp.gate

        def routed(_given: Any, made: Any) -> None:
            logits, weights, choice = made
            scores = gate.score_fn(logits)
            keep("router_scores", scores[None])
            bias = getattr(gate, "e_score_correction_bias", None)
            keep("router_ranking", (scores if bias is None else scores + bias)[None])
            keep("router_choice", choice[None])
            keep("router_weights", weights[None])

        after(gate, routed)
        compressor = layer.self_attn.compressor
        if compressor is None:
            return
        after(compressor, lambda _given, made: keep("compressed", made[0][0]))
        if (indexer := getattr(compressor, "indexer", None)) is None:
            return
        after(indexer, lambda _given, made: keep("index_choice", made))

        def scored(given: Any, made: Any) -> None:
            keep("index_keys", given[1])
            keep("index_scores", made)

        after(indexer.scorer, scored)

    def write(self, folder: Path) -> None:
        """One file for each part."""
        for (layer, name), calls in self._found.items():
            whole = calls[-1].numpy() if name in WHOLE else _joined([each.numpy() for each in calls])
            np.save(folder / f"{layer}.{name}.npy", whole)


def _joined(calls: list[Any]) -> Any:
    """One call's rows after the other's; what a shorter row lacks is NaN, or -1 where numbers are whole."""
    if len(calls) == 1 or len({each.shape[1:] for each in calls}) == 1:
        return np.concatenate(calls)
    width = max(each.shape[1] for each in calls)
    lacking = np.nan if calls[0].dtype.kind == "f" else -1
    return np.concatenate(
        [np.pad(each, ((0, 0), (0, width - each.shape[1])), constant_values=lacking) for each in calls]
    )


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for task in json.loads(Path(sys.argv[1]).read_bytes()):
        model = model_of(Path(task["checkpoint"]), Path(task["replaced"]) if task.get("replaced") else None)
        recorder = Recorder(model, task.get("names"))
        tokens, chunks = torch.tensor([task["tokens"]]), task.get("chunks")
        with torch.inference_mode():
            if chunks is None:
                logits = model(input_ids=tokens, use_cache=False).logits[0]
            else:
                assert sum(chunks) == tokens.shape[1], chunks
                cache = DynamicCache(config=model.config)
                parts = tokens.split(chunks, dim=1)
                logits = torch.cat([model(input_ids=p, cache=cache, use_cache=True).logits[0] for p in parts])
        folder = Path(task["trace"])
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "logits.npy", logits.float().numpy())
        recorder.write(folder)


if __name__ == "__main__":
    main()
