"""The thinking before an answer: one muted line that opens into the reasoning.

Owns: its words while it runs and afterwards, and the reasoning's blocks, which are made when it is opened and
not before. Does not know the answer below it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QTimer, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QWidget

from app.page_style import PageStyle
from app.quantities import duration, token_count, whole_duration
from app.views.fold_header import FoldHeader
from app.views.message_body import MessageBody
from app.views.part_column import PartColumn
from app.views.part_memory import PartMemory
from app.views.text_feed import TextFeed

if TYPE_CHECKING:
    # For annotations alone: the wire shapes take a tenth of a second to import.
    from engine.protocol import Thought

NAME = "thinking"
TICK_MS = 1000
MOMENT_S = 0.05
SCALE = 0.93
"""Reasoning is set a little smaller than the answer."""


def thinking_words(elapsed_s: float, tokens: int) -> str:
    """While it runs: "Thinking… 12 s · 340 tokens"."""
    return f"Thinking… {whole_duration(elapsed_s)} · {token_count(tokens)}"


def thought_words(thought: Thought | None) -> str:
    """When it has ended: "Thought for 12 s · 340 tokens"; None when it was cut."""
    if thought is None:
        return "Thinking, cut off"
    took = "a moment" if thought.elapsed_s < MOMENT_S else duration(thought.elapsed_s)
    return f"Thought for {took} · {token_count(thought.tokens)}"


def muted_style(style: PageStyle) -> PageStyle:
    """The page's look for what stands back behind the answer."""
    theme = style.theme
    return PageStyle(replace(theme, text=theme.muted, base_px=theme.base_px * SCALE))


class ThinkingPart(PartColumn):
    """Header and, once it was opened, the reasoning."""

    toggled = Signal()
    """The person has opened or closed it."""
    changed = Signal()
    """Its height has changed by itself."""
    body_made = Signal()
    """It was opened for the first time."""

    def __init__(self, style: PageStyle, memory: PartMemory, parent: QWidget) -> None:
        super().__init__(parent)
        self._style, self._memory = style, memory
        self._pieces: list[str] = []
        self._thought: Thought | None = None
        self._running = False
        self._feed: TextFeed | None = None
        self.body: MessageBody | None = None
        self.header = FoldHeader(style, self, opened=memory.is_open(NAME))
        self.header.clicked.connect(self._toggle)
        self.add(self.header)
        self._tick = QTimer(self)
        self._tick.setInterval(TICK_MS)
        self._tick.timeout.connect(self._say)

    @property
    def text(self) -> str:
        """The whole reasoning so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def is_open(self) -> bool:
        """The reasoning is shown."""
        return self.header.isChecked()

    def show_state(self, text: str, thought: Thought | None, *, running: bool) -> None:
        """Show this reasoning; it goes on while `running` without a `thought`."""
        before = self.text
        self._thought, self._running = thought, running and thought is None
        if self._running and self._memory.thinking_since is None:
            self._memory.begin_thinking(self._memory.tokens)
        if text != before:
            if self._running and text.startswith(before):
                self.append(text[len(before) :])
            else:
                self._pieces = [text]
                if self._feed is not None:
                    self._feed.restart(text, ended=not self._running)
        if self.is_open and self.body is None:
            self._build()
        if not self._running and self._feed is not None and self.body and not self.body.is_finished:
            self._feed.finish()
        self._say()
        if self._running:
            self._tick.start()
        else:
            self._tick.stop()

    def append(self, text: str) -> None:
        """More reasoning; shown by the next `sync`."""
        self._pieces.append(text)
        if self._feed is not None:
            self._feed.append(text)

    @property
    def height_px(self) -> int:
        """A little more below the reasoning: its end is not the answer's beginning."""
        return super().height_px + (self._style.theme.grid // 2 if self.is_open and self.body else 0)

    def sync(self) -> None:
        """Take what was appended into the blocks, where there are any."""
        if self.body is not None:
            self.body.sync()

    def _say(self) -> None:
        if self._running:
            since = self._memory.thinking_since or time.monotonic()
            words = thinking_words(time.monotonic() - since, self._memory.tokens)
            self.header.set_words(words, "Thinking")
        else:
            self.header.set_words(thought_words(self._thought))

    def _toggle(self) -> None:
        self._memory.opened[NAME] = self.is_open
        if self.body is None:
            self._build()
        if self.body is not None:
            self.set_shown(self.body, self.is_open)
        self.update()
        self.toggled.emit()

    def _build(self) -> None:
        self.body = MessageBody(muted_style(self._style), self, markdown=True)
        self._feed = TextFeed(self.body)
        grid = self._style.theme.grid
        self.add(self.body, gap=grid // 2, indent=2 * grid)
        self._feed.restart(self.text, ended=not self._running)
        self._feed.fed.connect(self.changed)
        self.body_made.emit()

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""
        self._style = style
        self.header.restyle(style)
        if self.body is not None:
            self.body.restyle(muted_style(style))

    def paintEvent(self, _event: QPaintEvent) -> None:
        # The header is checked a moment before the reasoning is there.
        if self.body is None or self.body not in self.parts() or not self.body.height_px:
            return
        painter = QPainter(self)
        # The line stands under the middle of the chevron.
        bar = QRectF(5, self.top_of(self.body), 2, self.body.height_px)
        painter.fillRect(bar, self._style.theme.border)
