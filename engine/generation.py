"""The one generation loop: prepare the context, then sample, detokenise, emit, step.

Owns: when an answer ends and what it cost. Every answer goes through it. Does not know how a prompt was
made, who listens, or where text is kept.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.backends.base import Cancelled, Logits, ModelFacts
from engine.contexts.context import Context, Prepared
from engine.encoding.detokenizer import Detokenizer, StopStrings
from engine.errors import PromptTooLong
from engine.expert_meter import ExpertCost, ExpertMeter
from engine.protocol import Sampling, Usage
from engine.sampling import draw
from engine.token_bias import TokenBias
from engine.token_chances import TokenChances, chances_of

Reason = Literal["stop", "length", "cancelled"]


class Guard(Protocol):
    """Watches the tokens that are written."""

    def forced(self) -> int | None:
        """The token that must come next; None: the model's own choice."""
        ...

    def saw(self, token_id: int) -> None:
        """A token was written."""
        ...


class TokenMask(Protocol):
    """Holds an answer to a form."""

    def allowed(self) -> NDArray[np.intp]:
        """Ids of the tokens that may come next, ascending, at least one. Raises SeamountError when there is none."""
        ...

    def saw(self, token_id: int) -> None:
        """A token was written."""
        ...


@dataclass(frozen=True)
class GenerationRequest:
    """What to generate from. `sampling.seed` must be set."""

    prompt: tuple[int, ...]
    sampling: Sampling
    max_tokens: int | None
    """Tokens to generate at most, not counting `already`; None: until the context is full."""
    stop: tuple[str, ...] = ()
    already: tuple[int, ...] = ()
    """Ids of this answer that were generated before (continue): replayed after the prompt."""
    literals: Mapping[int, bytes] = field(default_factory=dict[int, bytes])
    """Control tokens that are told in the text, as these bytes; the others are silent."""
    guard: Guard | None = None
    """May decide the next token in the model's place, where `mask` allows it."""
    mask: TokenMask | None = None
    """The draw is among the tokens that it allows: filters and probabilities count for these alone."""
    stops_behind: int | None = None
    """Stop strings count only behind this token: a V4 answer is not ended by what its reasoning says."""
    stops_until: int | None = None
    """And none counts from this token on: nor by how its calls are written, which no client sees."""
    bias: TokenBias | None = None
    """What a client wants more or less of. It remembers tokens: one for one answer."""
    top_chances: int | None = None
    """With each token, how likely it and so many others were; None: it is not computed."""


@dataclass(frozen=True)
class PrefillProgress:
    """`done` of `total` tokens of the prefix are in the context; `reused` of them were there before."""

    done: int
    total: int
    reused: int


@dataclass(frozen=True)
class NewText:
    """Text and the tokens it came from. Tokens of an incomplete character travel with the next text."""

    text: str
    token_ids: tuple[int, ...]
    chances: tuple[TokenChances, ...] = ()
    """Of each of the tokens, where it was asked for."""


@dataclass(frozen=True)
class Outcome:
    """How the answer ended: an end token or stop string, no more room, or the person. `exact`: see `Prepared`."""

    reason: Reason
    usage: Usage
    exact: bool | None = None
    stop_string: str | None = None
    """The stop string that ended it."""


class _Text:
    """What is emitted: tokens wait until there is text to go with them."""

    def __init__(self, context: Context, request: GenerationRequest, emit: Callable[[NewText], None]) -> None:
        literals = request.literals
        self._detokenizer = Detokenizer(
            (lambda id_: literals.get(id_) or context.token_bytes(id_)) if literals else context.token_bytes
        )
        self._detokenizer.prime(request.already)
        self._stops = StopStrings(request.stop) if any(request.stop) else None
        behind = request.stops_behind
        self._awaited = None if behind is None or behind in request.already else behind
        self._last = request.stops_until
        begins = 0 if behind is None or self._awaited is not None else request.already.index(behind)
        if self._awaited is None and self._last in request.already[begins:]:
            self._stops = None
        self._emit = emit
        self._waiting: list[int] = []
        self._chances: list[TokenChances] = []

    @property
    def stop_string(self) -> str | None:
        """The stop string that was found."""
        return self._stops.found if self._stops else None

    def add(self, token_id: int, chances: TokenChances | None = None) -> bool:
        """Take in a token; whether a stop string is complete."""
        text, found = self._detokenizer.feed(token_id), False
        if self._awaited is not None:
            self._awaited = None if token_id == self._awaited else self._awaited
        elif self._stops is not None and token_id == self._last:
            text, self._stops = self._stops.flush() + text, None
        elif self._stops is not None:
            text, found = self._stops.feed(text)
        self._waiting.append(token_id)
        if chances is not None:
            self._chances.append(chances)
        if text:
            self._send(text)
        return found

    def end(self, *, cut: bool) -> None:
        """Send what was held back. `cut`: the answer may go on later, so an incomplete character waits."""
        text = "" if cut else self._detokenizer.flush()
        if self._stops is not None:
            certain, found = self._stops.feed(text)
            text = certain if found else certain + self._stops.flush()
        if text or self._waiting:
            self._send(text)

    def end_at_stop(self) -> None:
        """A stop string was found: what follows it is dropped, its tokens are still told."""
        if self._waiting:
            self._send("")

    def _send(self, text: str) -> None:
        self._emit(NewText(text, tuple(self._waiting), tuple(self._chances)))
        self._waiting.clear()
        self._chances.clear()


def generate(
    context: Context,
    request: GenerationRequest,
    emit: Callable[[PrefillProgress | NewText | ExpertCost], None],
    cancelled: Callable[[], bool],
) -> Outcome:
    """Generate one answer, emitting progress and text as they come, and what experts cost where that is counted.

    An end token is neither emitted nor counted. `cancelled` is asked once per token and per prefill chunk.
    In `Usage`, prompt tokens are prompt and `already`; `first_token_s` is 0 when no token was generated.
    Raises PromptTooLong before anything is evaluated, GenerationError when the backend fails.
    """
    seed = request.sampling.seed
    if seed is None or not request.prompt:
        raise ValueError("generate needs a seed and at least one prompt token")
    began_s = time.perf_counter()
    prefix = request.prompt + request.already
    context_tokens = context.facts.context_tokens
    if len(prefix) >= context_tokens and request.max_tokens != 0:
        raise _too_long(len(prefix), context.facts)
    progress = PrefillProgress(0, len(prefix), 0)
    first_s = last_s = 0.0
    generated = 0
    prepared: Prepared | None = None

    def report(done: int, total: int, reused: int) -> None:
        nonlocal progress
        progress = PrefillProgress(done, total, reused)
        emit(progress)

    meter: ExpertMeter | None = None
    stepped = 0  # tokens that were evaluated one by one

    def outcome(reason: Reason) -> Outcome:
        cost = meter.whole(stepped) if meter else None
        read, reading_s = progress.done - progress.reused, time.perf_counter() - began_s
        if prepared is not None:
            # Not what was written before, nor the time that loading took.
            read, reading_s = prepared.read_tokens, prepared.reading_s
        usage = Usage(
            prompt_tokens=len(prefix),
            reused_tokens=progress.reused,
            generated_tokens=generated,
            context_tokens=context_tokens,
            first_token_s=first_s - began_s if generated else 0.0,
            prefill_rate=read / reading_s if read > 0 and reading_s > 0 else 0.0,
            # The first token's time belongs to the prefill; one token alone has no rate.
            generation_rate=(generated - 1) / (last_s - first_s)
            if generated > 1 and last_s > first_s
            else 0.0,
            seed=seed,
            disk_bytes_per_token=cost.disk_bytes_per_token if cost else None,
            experts_in_memory=cost.in_memory if cost else None,
        )
        exact = None if prepared is None else prepared.exact
        return Outcome(reason, usage, exact, text.stop_string if reason == "stop" else None)

    text = _Text(context, request, emit)
    if cancelled():
        return outcome("cancelled")
    if request.max_tokens == 0:
        # An answer that was cut off behind the last token it may have: nothing is evaluated for it.
        return outcome("length")
    try:
        prepared = context.prepare(request.prompt, request.already, report, cancelled)
    except Cancelled:
        return outcome("cancelled")
    logits: Logits = context.logits()
    meter = ExpertMeter(lambda: context.expert_counts)
    end_token_ids = context.facts.end_token_ids
    watchers = [each for each in (request.guard, request.bias, request.mask) if each is not None]
    # Absolute positions: the first drawn token stands at len(prefix), the last that fits at the context's end.
    last_position = context_tokens - 1
    if request.max_tokens is not None:
        last_position = min(last_position, len(prefix) + request.max_tokens - 1)
    for position in range(len(prefix), last_position + 1):
        if cancelled():
            text.end(cut=True)
            return outcome("cancelled")
        token_id = _next_token(logits, request, position)
        last_s = time.perf_counter()
        if token_id in end_token_ids:
            text.end(cut=False)
            return outcome("stop")
        generated += 1
        if generated == 1:
            first_s = last_s
        for watcher in watchers:
            watcher.saw(token_id)
        # Of the logits themselves, before anything is done to them.
        chances = None if request.top_chances is None else chances_of(logits, token_id, request.top_chances)
        if text.add(token_id, chances):
            text.end_at_stop()
            return outcome("stop")
        if position < last_position:
            logits = context.step(token_id)
            stepped += 1
            if cost := meter.news(stepped):
                emit(cost)
    text.end(cut=True)
    return outcome("length")


def _next_token(logits: Logits, request: GenerationRequest, position: int) -> int:
    forced = request.guard.forced() if request.guard else None
    allowed = request.mask.allowed() if request.mask else None
    if forced is not None and (allowed is None or forced in allowed):
        return forced
    if request.bias:
        logits = request.bias.applied(logits)
    if allowed is None:
        return draw(logits, request.sampling, position)
    # Among the allowed alone, not with the others' logits lowered: no rounding can then let one of them through.
    return int(allowed[draw(logits[allowed], request.sampling, position)])


def _too_long(tokens: int, facts: ModelFacts) -> PromptTooLong:
    room = facts.context_tokens - 1  # one place is for the answer's first token
    larger = facts.context_train_tokens > facts.context_tokens
    remedy = "shorten the conversation or start a new one"
    if larger:
        remedy = (
            "shorten it, or set a larger context in Settings "
            f"(this model was made for up to {facts.context_train_tokens:,} tokens)"
        )
    error = PromptTooLong(
        "The conversation does not fit the model's context",
        f"it has {tokens:,} tokens and at most {room:,} fit",
        remedy,
    )
    error.tokens, error.most_tokens = tokens, room
    return error
