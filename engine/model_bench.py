"""A model run and timed: how fast it reads a prompt and writes an answer, with how much before it.

Owns: which tokens are put, in which order, and what the times make. Goes by the same way as an answer: the planner's
plan and the backend's `sync` and `step`. Does not print (`bench_command`).
"""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import BadRequest

if TYPE_CHECKING:
    from engine.backends.base import Backend

DECODED_TOKENS = 24
"""Enough for a median; the first few are slower, since they meet pages that nobody read yet."""
_SETTLING_TOKENS = 4


@dataclass(frozen=True)
class Run:
    """What was seen at one depth, in seconds. A prompt of `prompt_tokens` was read behind `depth_tokens` others,
    and tokens were then written one by one: the median of them, and the quickest and slowest tenth."""

    depth_tokens: int
    prompt_tokens: int
    prefill_s: float
    decode_s: float
    decode_quick_s: float
    decode_slow_s: float

    @property
    def prefill_tokens_per_s(self) -> float:
        """Tokens of the prompt for each second."""
        return self.prompt_tokens / self.prefill_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens written for each second."""
        return 1 / self.decode_s


def run_model(
    backend: "Backend",
    prompt_tokens: Sequence[int],
    depths: Sequence[int],
    on_step: Callable[[str], None],
    *,
    decoded_tokens: int = DECODED_TOKENS,
) -> list[Run]:
    """Time every prompt length at every depth, the shallow ones first; the model is run once before, untimed.

    The tokens are random ones of the vocabulary, the same every time: with experts chosen by tokens nothing is
    read twice by favour. Raises BadRequest for what the context does not hold, GenerationError.
    """
    longest = max(depths) + max(prompt_tokens) + decoded_tokens
    facts = backend.facts
    if longest > facts.context_tokens:
        raise BadRequest(
            "The model cannot be measured so deep",
            f"{longest:,} tokens are asked for, and its context holds {facts.context_tokens:,}",
            "ask for fewer, or for a larger --context",
        )
    tokens = _tokens(facts.vocabulary_size, frozenset(facts.control_tokens.values()), longest)
    # A GPU's libraries make ready for a size of batch when they first meet it.
    batch = backend.plan.micro_batch_tokens if backend.plan is not None and backend.plan.gpu else 0
    _sync(backend, tokens[: min(longest, max(batch, 2 * _SETTLING_TOKENS))])
    runs: list[Run] = []
    for depth in sorted(set(depths)):
        for count in sorted(set(prompt_tokens)):
            on_step(f"{count:,} tokens behind {depth:,}")
            if depth:
                _sync(backend, tokens[:depth])
            else:
                # Nothing of an earlier run may be of use: the first token differs.
                _sync(backend, [tokens[-1]])
            began_s = time.perf_counter()
            _sync(backend, tokens[: depth + count])
            prefill_s = time.perf_counter() - began_s
            taken = _written(backend, tokens[depth + count : depth + count + decoded_tokens])
            tenths = statistics.quantiles(taken, n=10, method="inclusive")
            runs.append(Run(depth, count, prefill_s, statistics.median(taken), tenths[0], tenths[-1]))
    return runs


def _written(backend: "Backend", tokens: Sequence[int]) -> list[float]:
    """Seconds for each token, without those that settle."""
    taken: list[float] = []
    for token in tokens:
        began_s = time.perf_counter()
        backend.step(token)
        taken.append(time.perf_counter() - began_s)
    return taken[_SETTLING_TOKENS:]


def _sync(backend: "Backend", tokens: Sequence[int]) -> None:
    backend.sync(tokens, lambda _done, _total, _reused: None, lambda: False)


def _tokens(vocabulary: int, control: frozenset[int], count: int) -> list[int]:
    chosen = random.Random(20)  # noqa: S311 - the same ones every time is what is wanted
    found: list[int] = []
    while len(found) < count:
        token = chosen.randrange(vocabulary)
        if token not in control:
            found.append(token)
    return found
