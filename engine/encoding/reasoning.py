"""Reasoning modes as a person chooses them, and the end of reasoning that does not end by itself.

Owns: what a mode means in a release and what context it needs (V4.md 2.3, 2.7), the thinking budget, and the
guard against reasoning in circles. Does not know how a prompt is rendered or how tokens are drawn.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.encoding.release import NO_THINKING, Release
from engine.encoding.v4_prompt import Style
from engine.errors import BadRequest, ContextTooSmall
from engine.protocol import ModeChoice, ReasoningMode

MODES: tuple[ReasoningMode, ...] = ("non-think", "high", "max")
NAMES: dict[ReasoningMode, str] = {"non-think": "Non-think", "high": "Think-High", "max": "Think-Max"}
MAX_CONTEXT_TOKENS = 393_216
"""Think-Max is to be given a window of at least this (model card; V4.md 2.7)."""

LONGEST_PERIOD = 512
LEAST_REPEATED_TOKENS = 256
REPEATS = 3
"""A loop: the last tokens repeat what stood one period before, for this many periods and so many tokens."""


def style_of(release: Release, mode: ReasoningMode) -> Style:
    """How prompts are rendered in `mode`."""
    if mode == "non-think":
        return Style(release, thinking=False)
    return Style(release, thinking=True, effort=release.modes[mode])


def style_of_effort(release: Release, effort: str | None) -> Style:
    """How prompts are rendered for what another program calls a reasoning effort; None: Think-High.

    Raises BadRequest for a word that means nothing.
    """
    if effort is None:
        return style_of(release, "high")
    meant = release.api_efforts.get(effort)
    if meant is None:
        known = ", ".join(release.api_efforts)
        raise BadRequest(
            "The request was refused", f"there is no effort {effort!r}", f"choose one of {known}"
        )
    if meant == NO_THINKING:
        return style_of(release, "non-think")
    return Style(release, thinking=True, effort=meant)


def mode_choices(context_tokens: int) -> list[ModeChoice]:
    """The modes, with why one cannot be chosen in a context of that size."""
    return [ModeChoice(mode=mode, problem=_problem(mode, context_tokens)) for mode in MODES]


def require_context(mode: ReasoningMode, context_tokens: int) -> None:
    """Raises ContextTooSmall when `mode` needs a larger context than is loaded."""
    if _too_small(mode, context_tokens):
        raise _error(context_tokens)


def require_effort_context(style: Style, context_tokens: int) -> None:
    """As `require_context`, for a style that another program asked for."""
    if style.thinking and style.effort == style.release.modes["max"]:
        require_context("max", context_tokens)


def _too_small(mode: ReasoningMode, context_tokens: int) -> bool:
    return mode == "max" and context_tokens < MAX_CONTEXT_TOKENS


def _problem(mode: ReasoningMode, context_tokens: int) -> str | None:
    return _error(context_tokens).text if _too_small(mode, context_tokens) else None


def _error(context_tokens: int) -> ContextTooSmall:
    return ContextTooSmall(
        "Think-Max cannot be used",
        f"it needs a context of at least {MAX_CONTEXT_TOKENS:,} tokens, and the loaded one has "
        f"{context_tokens:,}",
        "set a larger context in Settings, or use Think-High, which fits",
    )


class ThinkingGuard:
    """Watches the tokens of one answer and says when its reasoning must end.

    After `budget` tokens of reasoning, or when it runs in circles, `forced` gives the `</think>` token. The
    same tokens always lead to the same verdict, so that a replay forces where the first run did.
    """

    def __init__(
        self,
        think_end_id: int,
        *,
        thinking: bool,
        budget: int | None,
        already: Sequence[int] = (),
    ) -> None:
        """`already`: tokens of the answer that were written before."""
        self.reason: Literal["budget", "loop"] | None = None
        """Why the reasoning was ended, once it was."""
        self.tokens = 0
        """Tokens of reasoning so far, `</think>` not counted."""
        self._end_id = think_end_id
        self._budget = budget
        self._thinking = thinking
        self._loop = RepetitionDetector()
        for token_id in already:
            self.saw(token_id)

    @property
    def is_thinking(self) -> bool:
        """Whether the reasoning has not ended yet."""
        return self._thinking

    def forced(self) -> int | None:
        """The token that must be written next; None: the model's own choice."""
        if not self._thinking:
            return None
        if self._budget is not None and self.tokens >= self._budget:
            self.reason = "budget"
        elif self._loop.found:
            self.reason = "loop"
        else:
            return None
        return self._end_id

    def saw(self, token_id: int) -> None:
        """Take in the token that was written."""
        if not self._thinking:
            return
        if token_id == self._end_id:
            self._thinking = False
            return
        self.tokens += 1
        self._loop.add(token_id)


class RepetitionDetector:
    """Finds that a sequence has become periodic, at any period up to LONGEST_PERIOD.

    `_runs[p - 1]` counts how many tokens in a row equalled the one `p` places before. Constant time a token.
    """

    def __init__(self) -> None:
        self.found = False
        self._recent: NDArray[np.int64] = np.full(LONGEST_PERIOD, -1, np.int64)  # newest first
        self._runs: NDArray[np.int64] = np.zeros(LONGEST_PERIOD, np.int64)
        periods = np.arange(1, LONGEST_PERIOD + 1, dtype=np.int64)
        self._enough: NDArray[np.int64] = np.maximum(periods * REPEATS, LEAST_REPEATED_TOKENS)

    def add(self, token_id: int) -> None:
        """One more token."""
        self._runs += 1
        self._runs *= self._recent == token_id
        self.found = bool((self._runs >= self._enough).any())
        self._recent[1:] = self._recent[:-1].copy()
        self._recent[0] = token_id
