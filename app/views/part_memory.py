"""What a person has done inside a message, kept while its widgets come and go.

Owns: which parts are open, results that are being written, and since when the model thinks. Pure values.
"""

import time
from dataclasses import dataclass, field


@dataclass
class PartMemory:
    """One message's."""

    opened: dict[str, bool] = field(default_factory=lambda: dict[str, bool]())
    """By the name of the part: what the person has opened or closed."""
    drafts: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    """By the id of the call: what was written as its result."""
    thinking_since: float | None = None
    """When its first reasoning came, by time.monotonic()."""
    tokens: int = 0
    """How many tokens it has, as far as the stream has told while it thinks."""

    @property
    def holds_something(self) -> bool:
        """False for what is as it was at the beginning."""
        return bool(self.opened or self.drafts) or self.thinking_since is not None

    def is_open(self, part: str, *, usually: bool = False) -> bool:
        """Whether a part is open."""
        return self.opened.get(part, usually)

    def begin_thinking(self, tokens: int) -> None:
        """Reasoning has come."""
        self.tokens = tokens
        if self.thinking_since is None:
            self.thinking_since = time.monotonic()

    def end_thinking(self) -> None:
        """The answer runs no more; if it is continued, the time counts from then."""
        self.thinking_since, self.tokens = None, 0
