"""The transcript: a conversation as a page to read.

Owns: the page, the button that leads back to its end, and what is shown while there are no messages. Its
interface is all that the window knows of the transcript. Does not know the engine.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from app.page_style import PageStyle
from app.theme import Theme
from app.transcript_model import ShownMessage
from app.views.quiet_button import QuietButton
from app.views.transcript_page import TranscriptPage

if TYPE_CHECKING:
    from app.views.welcome import Welcome

ZOOM_RANGE = (0.5, 3.0)
HIDDEN_ROWS = 5
"""As much of the end, in steps of the grid, may be out of sight without a way to jump there."""


class TranscriptView(QWidget):
    """Shows messages; says what the person wants done with them. Message ids are the session store's."""

    retry_requested = Signal(str)
    continue_requested = Signal(str)
    edit_requested = Signal(str, str)
    """Message id, new text."""
    version_chosen = Signal(str)
    """Message id of a sibling."""

    results_given = Signal(str, object)
    """Message id, list[tuple[str, str]]: id of each of its calls, and its result."""
    cost_wanted = Signal(str, str)
    """A step that is offered to the person (`turn_costs.Step`), and the message that it starts from."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._zoom = 1.0
        style = PageStyle(theme)
        self._page = TranscriptPage(style, self)
        self._page.retry_requested.connect(self.retry_requested)
        self._page.continue_requested.connect(self.continue_requested)
        self._page.edit_requested.connect(self.edit_requested)
        self._page.version_chosen.connect(self.version_chosen)
        self._page.results_given.connect(self.results_given)
        self._page.cost_wanted.connect(self.cost_wanted)
        self._page.following_changed.connect(self._update_jump)
        self.setFocusProxy(self._page)
        self._jump = QuietButton("Jump to latest", "Jump to latest", style, self, strong=True, filled=True)
        self._jump.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._jump.hide()
        self._jump.clicked.connect(self._page.follow)
        self._empty = QWidget(self)
        self._empty_title = QLabel(self._empty)
        self._empty_text = QLabel(self._empty)
        column = QVBoxLayout(self._empty)
        column.addStretch(2)
        for label in (self._empty_title, self._empty_text):
            label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
            column.addWidget(label)
        column.addStretch(3)
        self._empty_text.setProperty("muted", True)
        self._empty.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._cover: Welcome | None = None
        self._restyle()
        self._update_empty()

    @property
    def page(self) -> TranscriptPage:
        """The scrolled page."""
        return self._page

    def set_theme(self, theme: Theme) -> None:
        """Show everything in another look."""
        self._theme = theme
        self._restyle()
        if self._cover is not None:
            self._cover.set_theme(theme)

    def set_zoom(self, factor: float) -> None:
        """Text and column `factor` times as large, within half and three times."""
        factor = min(max(factor, ZOOM_RANGE[0]), ZOOM_RANGE[1])
        if factor != self._zoom:
            self._zoom = factor
            self._restyle()

    def show_messages(self, messages: Sequence[ShownMessage]) -> None:
        """Replace all messages and go to the end."""
        self._page.show_messages(messages)
        self._update_empty()

    def append_message(self, message: ShownMessage) -> None:
        """Add a message at the end."""
        self._page.append_message(message)
        self._update_empty()

    def append_text(self, message_id: str, text: str) -> None:
        """More text at the end of a running answer. Unknown ids are ignored, here and below."""
        self._page.append_text(message_id, text)

    def append_reasoning(self, message_id: str, text: str, tokens: int) -> None:
        """More reasoning of a running answer, which has `tokens` by now."""
        self._page.append_reasoning(message_id, text, tokens)

    def grow_call(self, message_id: str, call_index: int, arguments: str) -> None:
        """More arguments of a call that is shown."""
        self._page.grow_call(message_id, call_index, arguments)

    def update_message(self, message: ShownMessage) -> None:
        """Show a message's new state: its text, status, error or versions."""
        self._page.update_message(message)

    def set_progress(self, message_id: str, text: str) -> None:
        """A muted line under a running answer; "" removes it."""
        self._page.set_progress(message_id, text)

    def set_cost(self, step: str, message_id: str, words: str) -> None:
        """What a step costs, in words."""
        self._page.set_cost(step, message_id, words)

    def forget_costs(self) -> None:
        """What was told of costs holds no longer; what is offered now is asked for again."""
        self._page.forget_costs()

    def copy_text(self) -> str:
        """The selected text; "" without a selection. A message selected as a whole gives its Markdown."""
        return self._page.selected_text()

    def start_editing(self, message_id: str) -> None:
        """Open the editor of a message, in sight."""
        self._page.start_editing(message_id)

    def set_empty_state(self, title: str, text: str) -> None:
        """What is shown while there are no messages."""
        self._empty_title.setText(title)
        self._empty_text.setText(text)

    def set_cover(self, cover: "Welcome | None") -> None:
        """Show this in place of the empty state's words while there are no messages; None: the words again.

        The widget is this view's from then on, and is deleted when another takes its place.
        """
        if self._cover is not None:
            self._cover.hide()
            self._cover.deleteLater()
        self._cover = cover
        if cover is not None:
            cover.setParent(self)
            cover.setGeometry(self.rect())
            # Before the keyboard comes to the composer, it goes through this.
            QWidget.setTabOrder(self, cover)
        self._update_empty()

    def _restyle(self) -> None:
        style = PageStyle(self._theme.zoomed(self._zoom))
        self._page.restyle(style)
        self._jump.restyle(style)
        muted = style.palette
        self._empty_title.setPalette(muted)
        self._empty_title.setFont(style.heading_font(2))
        muted.setColor(muted.ColorRole.WindowText, style.theme.muted)
        self._empty_text.setPalette(muted)
        self._empty_text.setFont(style.text_font)
        self._place_jump()

    def _update_empty(self) -> None:
        self._empty.setVisible(self._page.is_empty and self._cover is None)
        if self._cover is not None:
            self._cover.setVisible(self._page.is_empty)
            self._cover.raise_()

    def _update_jump(self) -> None:
        # Not for the buttons of the last message alone: there is nothing to read.
        shown = not self._page.is_following and self._page.below_px > HIDDEN_ROWS * self._theme.grid
        if shown != self._jump.isVisible():
            if not shown and self._jump.hasFocus():
                self._page.setFocus()
            self._jump.setVisible(shown)
            self._jump.raise_()
            self._place_jump()

    def _place_jump(self) -> None:
        size = self._jump.sizeHint()
        grid = self._theme.grid
        self._jump.setGeometry(
            (self.width() - size.width()) // 2,
            self.height() - size.height() - 2 * grid,
            size.width(),
            size.height(),
        )

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._page.setGeometry(self.rect())
        if self._cover is not None:
            self._cover.setGeometry(self.rect())
        side = max(0, (self.width() - self._theme.column_px * 3 // 4) // 2)
        self._empty.setGeometry(self.rect().adjusted(side, 0, -side, 0))
        self._place_jump()
