"""What one key may take of the engine, held against one answer.

Owns: the arithmetic of a key's limits. Does not know how an answer is generated (`completions`): it is asked what it
may do, and whether it has to stop. For the thread that generates.
"""

import time
from collections.abc import Callable

from engine.errors import PromptTooLong
from engine.protocol_access import KeyLimits

BYTES_A_TOKEN = 4
"""About so much text is a token to the models of today; each counts otherwise."""


class AnswerLimits:
    """The limits of one answer; its time begins with the first look, when it is its turn."""

    def __init__(self, limits: KeyLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._began_s: float | None = None
        self.ran_out = False
        """It was stopped for having taken the time that its key gives."""

    def tokens(self, asked: int | None) -> int | None:
        """How many tokens it may have where `asked` are asked for; None: as many as the context holds."""
        most = self._limits.answer_tokens
        if not most:
            return asked
        return most if asked is None else min(asked, most)

    def check_prompt(self, tokens: int) -> None:
        """Raises PromptTooLong for a prompt of more tokens than the key may send."""
        most = self._limits.prompt_tokens
        if most and tokens > most:
            raise PromptTooLong(
                "The request was refused",
                f"its prompt has {tokens:,} tokens, and its key may send {most:,}",
                "send less, or give the key more in Seamount",
            )

    def check_length(self, size_bytes: int) -> None:
        """The same of a prompt that another machine counts: by its length in UTF-8. Raises PromptTooLong."""
        tokens, most = size_bytes // BYTES_A_TOKEN, self._limits.prompt_tokens
        if most and tokens > most:
            raise PromptTooLong(
                "The request was refused",
                f"its prompt has about {tokens:,} tokens by its length, and its key may send {most:,}",
                "send less, or give the key more in Seamount",
            )

    def counted(self, place: str, tokens: int) -> list[str]:
        """What its client is told where another machine counted more than the key may send."""
        most = self._limits.prompt_tokens
        if not most or tokens <= most:
            return []
        return [f"{place} counted {tokens:,} tokens in the prompt, and its key may send {most:,}."]

    def begin(self) -> None:
        """Its turn has come: its time runs."""
        self._began_s = self._clock()

    def is_over(self) -> bool:
        """Whether it has taken all the time that it may."""
        most_s = self._limits.seconds
        if most_s and self._began_s is not None and self._clock() - self._began_s >= most_s:
            self.ran_out = True
        return self.ran_out

    @property
    def notice(self) -> str:
        """What its client is told when it ran out of time."""
        return (
            f"The answer was ended after {self._limits.seconds} s, which is what its key may take; "
            "it can be asked to go on, or the key be given more in Seamount."
        )
