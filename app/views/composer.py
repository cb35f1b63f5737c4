"""The composer: where a message is written and sent, and an answer stopped.

Owns: the growing text field, large pastes kept aside as chips, and the send button that becomes Stop. Does
not know conversations; the window keeps the drafts.
"""

import time
from collections.abc import Callable

from PySide6.QtCore import QMimeData, Qt, Signal
from PySide6.QtGui import QFocusEvent, QFontMetricsF, QInputMethodEvent, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.composer_text import Draft, belongs_aside, draft_of, replaced_sentence
from app.icons import icon, pixmap
from app.quantities import size_name
from app.theme import Theme
from engine.conversation import clean_text

MOST_LINES = 10
COMMIT_GUARD_S = 0.05
"""An Enter this soon after an input method's commit is the one that confirmed it. No person is so fast."""
_NEWLINES = str.maketrans({"\u2028": "\n", "\u2029": "\n"})


class ComposerEdit(QPlainTextEdit):
    """Plain text that grows with its lines; tells Enter that sends from Enter that confirms a candidate."""

    send_pressed = Signal()
    up_in_empty = Signal()
    pasted_aside = Signal(str)
    characters_replaced = Signal(int)
    focus_changed = Signal(bool)

    def __init__(self, parent: QWidget | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(parent)
        self._clock = clock
        self._composing = False
        self._committed_at = -1.0
        self.setTabChangesFocus(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().documentLayout().documentSizeChanged.connect(self.fit)

    def plain_text(self) -> str:
        """The text, character for character: no-break spaces stay what they are."""
        return self.document().toRawText().translate(_NEWLINES)

    def fit(self) -> None:
        """As high as the text, between one line and MOST_LINES."""
        # QPlainTextDocumentLayout measures its height in lines.
        lines = min(MOST_LINES, max(1, round(self.document().size().height())))
        margins = self.contentsMargins()
        frame = 2 * self.document().documentMargin() + margins.top() + margins.bottom()
        height = round(QFontMetricsF(self.font()).lineSpacing() * lines + frame + 1)
        if height != self.height() or height != self.maximumHeight():
            self.setFixedHeight(height)
        wanted = Qt.ScrollBarPolicy.ScrollBarAsNeeded
        if self.document().size().height() <= MOST_LINES:
            wanted = Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self.setVerticalScrollBarPolicy(wanted)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Another width breaks the lines elsewhere."""
        super().resizeEvent(event)
        self.fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Enter sends unless Shift is held or an input method is at work."""
        key, shift = event.key(), bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if shift:
                self.textCursor().insertText("\n")
                self.ensureCursorVisible()
            elif not self._composing and self._clock() - self._committed_at > COMMIT_GUARD_S:
                self.send_pressed.emit()
            event.accept()
        elif key == Qt.Key.Key_Up and not event.modifiers() and self.document().isEmpty():
            self.up_in_empty.emit()
        else:
            super().keyPressEvent(event)

    def inputMethodEvent(self, event: QInputMethodEvent) -> None:
        """Remember whether a composition is under way, and when one was confirmed."""
        was_composing = self._composing
        self._composing = bool(event.preeditString())
        if was_composing and not self._composing:
            self._committed_at = self._clock()
        super().inputMethodEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """A composition does not outlive the focus."""
        self._composing = False
        super().focusOutEvent(event)
        self.focus_changed.emit(False)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """The frame shows where the keyboard is."""
        super().focusInEvent(event)
        self.focus_changed.emit(True)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        """Text only; files that are dropped are the window's."""
        return source.hasText() and not source.hasUrls()

    def insertFromMimeData(self, source: QMimeData) -> None:
        """Paste as plain, clean text; what is too large goes aside."""
        if not source.hasText():
            return
        text, replaced = clean_text(source.text().replace("\r\n", "\n").replace("\r", "\n"))
        if replaced:
            self.characters_replaced.emit(replaced)
        if belongs_aside(text):
            self.pasted_aside.emit(text)
        else:
            self.textCursor().insertText(text)
            self.ensureCursorVisible()


class Chip(QFrame):
    """A large pasted text, by its size."""

    removed = Signal()

    def __init__(self, text: str, theme: Theme) -> None:
        super().__init__()
        self.text = text
        self.setObjectName("chip")
        name = f"Pasted text, {size_name(len(text.encode()))}"
        self._picture = QLabel()
        self.label = QLabel(name)
        self.label.setToolTip(text[:300] + ("…" if len(text) > 300 else ""))
        self.button = QToolButton()
        self.button.setAccessibleName(f"Remove: {name}")
        self.button.setToolTip("Remove")
        self.button.clicked.connect(self.removed)
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 2, 4, 2)
        row.setSpacing(6)
        row.addWidget(self._picture)
        row.addWidget(self.label)
        row.addWidget(self.button)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Tint the pictures."""
        self._picture.setPixmap(pixmap("paste", theme.muted, 16, self.devicePixelRatioF()))
        self.button.setIcon(icon("close", theme.muted))


class Composer(QFrame):
    """Text field, chips, and one button."""

    send_requested = Signal(str)
    stop_requested = Signal()
    edit_last_requested = Signal()
    tools_requested = Signal()
    notice = Signal(str)
    changed = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("composer")
        self.setAccessibleName("Composer")
        self._theme = theme
        self._running = False
        self._chips: list[Chip] = []
        self.edit = ComposerEdit()
        self.edit.setAccessibleName("Message")
        self.edit.setPlaceholderText("Write a message")
        self.edit.setToolTip("Enter sends, Shift+Enter breaks the line.")
        self.setFocusProxy(self.edit)
        self.button = QPushButton()
        self.button.setObjectName("send")
        self.button.setAutoDefault(False)
        self.button.clicked.connect(self._press)
        self.tools_button = QToolButton()
        self.tools_button.setObjectName("toolCount")
        self.tools_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
        self.tools_button.clicked.connect(self.tools_requested)
        self.set_tools("")
        self._chip_row = QHBoxLayout()
        self._chip_row.setSpacing(6)
        self._chip_row.addStretch(1)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.edit, 1)
        row.addWidget(self.tools_button, 0, Qt.AlignmentFlag.AlignBottom)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignBottom)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 8, 8)
        column.setSpacing(6)
        column.addLayout(self._chip_row)
        column.addLayout(row)
        self.edit.send_pressed.connect(self.send)
        self.edit.up_in_empty.connect(self._up)
        self.edit.pasted_aside.connect(self._add_chip)
        self.edit.characters_replaced.connect(self._tell_replaced)
        self.edit.focus_changed.connect(self._show_focus)
        self.edit.textChanged.connect(self._text_changed)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._theme = theme
        self.edit.setFont(theme.text_font())
        # The placeholder is drawn in this one's; a stylesheet keeps it from following.
        self.edit.viewport().setFont(theme.text_font())
        self.edit.fit()
        for chip in self._chips:
            chip.set_theme(theme)
        self._show_button()
        self._tint_button()

    @property
    def theme(self) -> Theme:
        """The look it is drawn in."""
        return self._theme

    # --- the draft ----------------------------------------------------------------------------------

    @property
    def draft(self) -> Draft:
        """What stands here now."""
        return Draft(self.edit.plain_text(), tuple(chip.text for chip in self._chips))

    def set_draft(self, draft: Draft) -> None:
        """Put this here instead of what is here."""
        for chip in list(self._chips):
            self._drop_chip(chip)
        self.edit.setPlainText(draft.typed)
        cursor = self.edit.textCursor()
        cursor.movePosition(cursor.MoveOperation.End)
        self.edit.setTextCursor(cursor)
        for text in draft.pasted:
            self._add_chip(text)

    def give_back(self, text: str) -> None:
        """A text that could not be sent: before whatever was written since."""
        draft, back = self.draft, draft_of(text)
        typed = "\n\n".join(part for part in (back.typed, draft.typed) if part)
        self.set_draft(Draft(typed, back.pasted + draft.pasted))

    def set_tools(self, words: str) -> None:
        """How many tools the model may call ("2 tools"); "" for none."""
        self.tools_button.setText(words)
        self.tools_button.setAccessibleName(f"{words} set" if words else "Tools")
        self.tools_button.setToolTip(f"The model may call {words}. Opens the tools of this conversation.")
        self.tools_button.setVisible(bool(words))

    def set_running(self, running: bool) -> None:
        """While an answer is written the button stops it."""
        self._running = running
        self._show_button()

    def send(self) -> None:
        """Send what stands here; nothing while an answer is being written."""
        if self._running:
            return
        text, replaced = clean_text(self.draft.text)
        if not text.strip():
            return
        if replaced:
            self.notice.emit(replaced_sentence(replaced))
        self.set_draft(Draft())
        self.send_requested.emit(text)

    # --- inside -------------------------------------------------------------------------------------

    def _up(self) -> None:
        if not self._chips and not self._running:
            self.edit_last_requested.emit()

    def _press(self) -> None:
        if self._running:
            self.stop_requested.emit()
        else:
            self.send()

    def _add_chip(self, text: str) -> None:
        chip = Chip(text, self._theme)
        chip.removed.connect(lambda: self._remove_chip(chip))
        self._chips.append(chip)
        self._chip_row.insertWidget(len(self._chips) - 1, chip)
        self._text_changed()

    def _remove_chip(self, chip: Chip) -> None:
        self._drop_chip(chip)
        self.edit.setFocus(Qt.FocusReason.OtherFocusReason)

    def _drop_chip(self, chip: Chip) -> None:
        if chip in self._chips:
            self._chips.remove(chip)
            self._chip_row.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
            self._text_changed()

    def _text_changed(self) -> None:
        self._show_button()
        self.changed.emit()

    def _tell_replaced(self, count: int) -> None:
        self.notice.emit(replaced_sentence(count))

    def _show_focus(self, focused: bool) -> None:
        self.setProperty("focused", focused)
        self.style().polish(self)

    def _show_button(self) -> None:
        stops = self._running
        text = "Stop" if stops else "Send"
        if self.button.property("stops") != stops or self.button.text() != text:
            self.button.setProperty("stops", stops)
            self.button.setText(text)
            self.button.setAccessibleName(text)
            self.button.setToolTip("Stop the answer (Esc)" if stops else "Send (Enter)")
            self.button.style().polish(self.button)
            self._tint_button()
        self.button.setEnabled(stops or not self.draft.is_empty)

    def _tint_button(self) -> None:
        colour = self._theme.text if self._running else self._theme.accent_text
        self.button.setIcon(icon("stop" if self._running else "send", colour, self._theme.muted))
