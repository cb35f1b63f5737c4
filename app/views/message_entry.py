"""A message of the page, whether it has a view now or not.

Owns: its text as it grows, and what the person has opened or begun to write in it, which outlives the view.
Does not know the page or the other messages.
"""

from dataclasses import dataclass, field, replace

from app.page_style import PageStyle
from app.transcript_model import ShownMessage
from app.views.message_view import SHOWN_CHARS, MessageView
from app.views.part_memory import PartMemory
from app.views.transcript_layout import text_height


@dataclass
class MessageEntry:
    """`parts` and `thinking` are its text and reasoning; those of `message` are left empty."""

    message: ShownMessage
    memory: PartMemory
    parts: list[str] = field(default_factory=lambda: list[str]())
    thinking: list[str] = field(default_factory=lambda: list[str]())
    progress: str = ""
    expanded: bool = False
    view: MessageView | None = None

    @classmethod
    def of(cls, message: ShownMessage, memory: PartMemory) -> "MessageEntry":
        """A message without a view."""
        bare = replace(message, text="", reasoning="")
        return cls(bare, memory, [message.text], [message.reasoning])

    @property
    def text(self) -> str:
        """The whole text so far."""
        return _joined(self.parts)

    @property
    def reasoning(self) -> str:
        """The whole reasoning so far."""
        return _joined(self.thinking)

    def append_text(self, text: str) -> None:
        """More text."""
        self.parts.append(text)
        if self.view is not None:
            self.view.append(text)

    def append_reasoning(self, text: str, tokens: int) -> None:
        """More reasoning, `tokens` in all by now."""
        self.thinking.append(text)
        self.memory.begin_thinking(tokens)
        if self.view is not None:
            self.view.append_reasoning(text)

    def grow_call(self, index: int, arguments: str) -> None:
        """More of the arguments of call number `index`; what is not there is ignored."""
        calls = list(self.message.calls)
        if index >= len(calls):
            return
        calls[index] = replace(calls[index], arguments=calls[index].arguments + arguments)
        self.message = replace(self.message, calls=tuple(calls))
        if self.view is not None:
            self.view.grow_call(index, arguments)

    def update(self, message: ShownMessage, number: int) -> None:
        """Take a new state: text, reasoning, calls, status, error or versions."""
        was_running, running = self.message.status == "running", message.status == "running"
        same_text = message.text == self.text
        self.message = replace(message, text="", reasoning="")
        self.parts, self.thinking = [message.text], [message.reasoning]
        if not running:
            self.progress = ""
            self.memory.end_thinking()
        if was_running or running:
            self.expanded = True  # what was once in sight is not folded away
        view = self.view
        if view is None:
            return
        if not same_text or (running and not was_running):
            view.message = self.message
            view.replace_text(message.text, running=running)
        view.sync()
        view.set_message(self.message, message.reasoning, number)
        if not running:
            view.set_progress("")
            view.finish()

    def guessed_height(self, column_px: int, style: PageStyle) -> int:
        """A guess at its height, which no layout has seen."""
        text = self.text if self.expanded else self.text[:SHOWN_CHARS]
        grid = style.theme.grid
        padding = 5 * grid + (3 * grid if self.message.role == "user" else 0)
        height = text_height(text, column_px, style.theme.base_px, style.line_px) + padding
        if any(self.thinking):
            height += 4 * grid
        for call in self.message.calls:
            lines = text_height(call.arguments, column_px, style.theme.code_px, style.code_line_px)
            height += lines + 8 * grid
        return height


def _joined(parts: list[str]) -> str:
    if len(parts) > 1:
        parts[:] = ["".join(parts)]
    return parts[0] if parts else ""
