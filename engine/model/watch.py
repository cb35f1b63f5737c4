"""Looking into a pass while it runs, and deciding for it.

Owns: the `Watch` protocol: values that the layers tell by name, and choices that can be made in their place. It is
for proofs and counters; nobody watches in an ordinary pass.
"""

from typing import Protocol

import torch


class Watch(Protocol):
    """Told and asked by each layer, in order. `layer` counts from 0; the draft block's is the last.

    Of all of a pass's tokens: "attention_input" (mixed from the streams, after the norm), "attention" (what the
    sub-layer gives), "attention_streams" (with that merged), "moe_input", "router_scores", "router_choice",
    "router_weights", "moe", "streams" (after the layer). Of each sequence by itself, in the order given: "compressed"
    and "index_keys" (rows made in this pass, as they are read from the cache), "index_scores" [T, rows] and
    "index_choice" [T, k]: numbers of rows, rising, -1 for none. A pass that is watched scores rows that it would take
    anyway, and takes all tokens' queries at once.
    """

    def note(self, name: str, layer: int, value: torch.Tensor) -> None:
        """What was computed. It must not be changed."""
        ...

    def choose(self, name: str, layer: int, values: torch.Tensor) -> torch.Tensor | None:
        """ "router_choice" or "index_choice" in the place of `values`, of the same shape; None: as it is."""
        ...
