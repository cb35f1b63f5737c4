"""What a completion is taken apart into, as values.

Owns: the pieces that a parser tells as they come, and the whole at the end. Does not know the grammar
(`completion_parser`).
"""

from dataclasses import dataclass
from typing import Literal

from engine.errors import CompletionError

CallStatus = Literal["exact", "repaired", "rejected"]


@dataclass(frozen=True)
class ReasoningText:
    """More of the reasoning."""

    text: str


@dataclass(frozen=True)
class ReasoningEnd:
    """`</think>` was written."""


@dataclass(frozen=True)
class AnswerText:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class CallText:
    """More of call number `index`: its arguments' JSON text goes on with `arguments`."""

    index: int
    name: str
    arguments: str


ParseEvent = ReasoningText | ReasoningEnd | AnswerText | CallText


@dataclass(frozen=True)
class Problem:
    """Why the official parser rejects a completion. `code` is one of this module's; `text` says it."""

    code: str
    text: str


@dataclass
class ParsedCall:
    """A call as it was read. `arguments` is JSON text unless the call is rejected."""

    name: str
    arguments: str = ""
    status: CallStatus = "exact"
    problem: str | None = None

    def repair(self, slip: str) -> None:
        """It was written with a slip that leaves one meaning."""
        if self.status == "exact":
            self.status, self.problem = "repaired", slip

    def reject(self, reason: str) -> None:
        """It must not be carried out."""
        if self.status != "rejected":
            self.status, self.problem = "rejected", reason


@dataclass(frozen=True)
class Completion:
    """A whole completion."""

    reasoning: str
    text: str
    calls: tuple[ParsedCall, ...]
    problems: tuple[Problem, ...]
    """Empty exactly when the official parser accepts the text."""

    @property
    def usable_calls(self) -> list[ParsedCall]:
        """Those that may be carried out."""
        return [call for call in self.calls if call.status != "rejected"]


class MalformedCompletion(CompletionError):  # noqa: N818 - named for what happened
    """What the official parser rejects; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(
            "The completion does not have the form of an answer", problem.text, "let the model write it again"
        )
        self.problem = problem
