"""What stands under a message: why it is cut, its progress, and what can be done with it.

Owns: the muted lines and the quiet buttons, created when they are first needed. Does not know the transcript;
it says what was pressed.
"""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication, QResizeEvent
from PySide6.QtWidgets import QLabel, QWidget

from app.page_style import PageStyle
from app.transcript_model import ShownMessage
from app.views.elided_line import ElidedLine
from app.views.quiet_button import QuietButton
from app.wrapping import breakable

COPIED_MS = 1500
LEAST_COST_PX = 60
"""Where there is less room beside a button for what it costs, its tooltip alone says it."""
DIFFERS = "Continued, not identical"
WHY_DIFFERS = (
    "This answer was cut off and gone on with. What the model had read could not be brought back bit for bit, so the "
    "rest may be other words than they would have been without the break."
)


def cut_sentence(message: ShownMessage) -> str:
    """Why an answer ends where it does, in words; "" for a whole one."""
    if not message.is_cut:
        return ""
    if message.status == "failed":
        return f"This answer failed. {message.error_text or ''}".strip()
    return message.error_text or message.note or "Stopped before the end."


def _note_of(message: ShownMessage) -> tuple[str, str, bool]:
    """What the note under a message is made of."""
    return cut_sentence(message), message.status, message.is_continuable


class MessageFoot(QWidget):
    """The lines and buttons under one message."""

    copy_pressed = Signal()
    copy_reasoning_pressed = Signal()
    retry_pressed = Signal()
    continue_pressed = Signal()
    edit_pressed = Signal()
    show_all_pressed = Signal()
    version_pressed = Signal(str)
    cost_wanted = Signal(str, str)
    """A step (`turn_costs.Step`) that is offered here, and the message that it starts from."""

    def __init__(self, style: PageStyle, parent: QWidget) -> None:
        super().__init__(parent)
        self._style = style
        self._message: ShownMessage | None = None
        self._has_reasoning = False
        self._notices: QLabel | None = None
        self._mark: QLabel | None = None
        self._progress = ""
        self._hidden_size = ""
        self._active = False
        self._actions_made = False
        self._note: QLabel | None = None
        self._progress_label: QLabel | None = None
        self._note_buttons: list[QuietButton] = []
        self._all_button: QuietButton | None = None
        self._action_buttons: list[QuietButton] = []
        self._version_widgets: list[QWidget] = []
        self._costs: dict[tuple[str, str], str] = {}
        """What was told of the steps that are offered here, in words."""
        self._priced: list[tuple[tuple[str, str], QuietButton, ElidedLine | None]] = []
        """The buttons that begin a step, and what stands beside them."""

    def set_message(self, message: ShownMessage, number: int, *, has_reasoning: bool = False) -> None:
        """Show what belongs to `message`, number `number` of the transcript."""
        old, self._message = self._message, message
        self._number = number
        self.set_has_reasoning(has_reasoning)
        if message.notices != (old.notices if old else ()):
            self._make_notices(message)
        if message.differs != (old is not None and old.differs):
            self._make_mark(message)
        if old is None or _note_of(old) != _note_of(message):
            self._make_note(message)
        state = (message.version, message.version_count, message.previous_id, message.next_id)
        if old is None or (old.version, old.version_count, old.previous_id, old.next_id) != state:
            self._make_versions(message)
        if (
            self._actions_made
            and old is not None
            and (old.status, old.is_cut) != (message.status, message.is_cut)
        ):
            self._forget_actions()
            self.set_active(self._active)

    def set_has_reasoning(self, has_reasoning: bool) -> None:
        """Offer to copy the thinking, or not."""
        if has_reasoning != self._has_reasoning:
            self._has_reasoning = has_reasoning
            if self._actions_made:
                self._forget_actions()
                self.set_active(self._active)

    def set_progress(self, text: str) -> None:
        """The muted line of a running answer; "" for none."""
        self._progress = text
        if text and self._progress_label is None:
            self._progress_label = self._label()
        if self._progress_label is not None:
            self._progress_label.setText(text)
            self._progress_label.setVisible(bool(text))

    def set_hidden_size(self, size: str) -> None:
        """Offer to show the rest of a long message of `size` ("1.0 MB"); "" when all is shown."""
        self._hidden_size = size
        if self._all_button is not None:
            self._all_button.hide()
            self._all_button.deleteLater()
            self._all_button = None
        if size:
            self._all_button = self._button(
                f"Show all ({size})", f"Show all {size} of this message", strong=True
            )
            self._all_button.clicked.connect(self.show_all_pressed)

    def set_active(self, active: bool) -> None:
        """Show or hide the buttons that come with the mouse or the keyboard's focus."""
        self._active = active
        if active and not self._actions_made and self._message is not None:
            self._make_actions(self._message)
        for button in self._action_buttons:
            button.setVisible(active)
        for _, button, line in self._priced:
            if line is not None and button.isHidden():
                line.hide()
        self._ask_costs()

    def set_cost(self, step: str, message_id: str, words: str) -> None:
        """What a step costs that may be offered here."""
        key = (step, message_id)
        for priced, button, line in self._priced:
            if priced == key:
                self._costs[key] = words
                self._show_cost(button, line, words)
                self.arrange()

    def forget_costs(self) -> None:
        """What was told holds no longer; what is in sight is asked for again."""
        self._costs = {}
        for _, button, line in self._priced:
            self._show_cost(button, line, "")
        self.arrange()
        self._ask_costs()

    def _ask_costs(self) -> None:
        """A person is here, so the steps that are offered should say what they cost."""
        if not self._active or self._message is None:
            return
        for key, button, _ in self._priced:
            if key not in self._costs and button.isEnabled():
                self.cost_wanted.emit(*key)

    def stops(self) -> list[QWidget]:
        """The buttons in the order of Tab."""
        all_button = [self._all_button] if self._all_button else []
        versions = [w for w in self._version_widgets if isinstance(w, QuietButton) and w.isEnabled()]
        return [*all_button, *self._note_buttons, *self._action_buttons, *versions]

    def say_copied(self, *, reasoning: bool = False) -> None:
        """Tell that the message, or its thinking, is on the clipboard."""
        place = 1 if reasoning else 0
        for button in self._action_buttons[place : place + 1]:
            button.say_for("Copied", COPIED_MS)

    def restyle(self, style: PageStyle) -> None:
        """Take another theme or zoom."""
        self._style = style
        for button in self.findChildren(QuietButton):
            button.restyle(style)
        for label in self.findChildren(QLabel):
            self._style_label(label)

    # --- making ---------------------------------------------------------------------------------------

    def _button(
        self,
        text: str,
        name: str,
        *,
        strong: bool = False,
        align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignHCenter,
    ) -> QuietButton:
        button = QuietButton(text, name, self._style, self, strong=strong, align=align)
        button.show()
        return button

    def _price(self, button: QuietButton, step: str, message_id: str, *, beside: bool = True) -> None:
        """`button` begins a step, whose cost it tells as far as that is known."""
        line = None
        if beside:
            line = ElidedLine(parent=self)
            self._style_label(line)
            line.hide()
        key = (step, message_id)
        self._priced.append((key, button, line))
        self._show_cost(button, line, self._costs.get(key, ""))

    @staticmethod
    def _show_cost(button: QuietButton, line: ElidedLine | None, words: str) -> None:
        """On hover and for a screen reader always; beside it where there is room."""
        name = button.accessibleName()
        button.setToolTip(f"{name}: {words}" if words else name)
        button.setAccessibleDescription(words)
        if line is not None:
            line.set_words(words)

    def _unprice(self, buttons: Sequence[QWidget]) -> None:
        """These buttons are about to go."""
        for _, button, line in self._priced:
            if button in buttons and line is not None:
                line.hide()
                line.deleteLater()
        self._priced = [each for each in self._priced if each[1] not in buttons]

    def _label(self) -> QLabel:
        label = QLabel(self)
        label.setTextFormat(Qt.TextFormat.PlainText)
        label.setWordWrap(True)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        label.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._style_label(label)
        label.show()
        return label

    def _style_label(self, label: QLabel) -> None:
        palette = self._style.palette
        palette.setColor(palette.ColorRole.WindowText, self._style.theme.muted)
        label.setPalette(palette)
        label.setProperty("muted", True)
        label.setFont(self._style.small_font())

    def _make_notices(self, message: ShownMessage) -> None:
        """What was done to the answer: a line for each."""
        self._notices = self._notices or self._label()
        self._notices.setText("\n".join(message.notices))
        self._notices.setAccessibleName("\n".join(message.notices))
        self._notices.setVisible(bool(message.notices))

    def _make_mark(self, message: ShownMessage) -> None:
        """An answer that may be another one than it would have been says so."""
        self._mark = self._mark or self._label()
        self._mark.setText(DIFFERS)
        self._mark.setToolTip(breakable(WHY_DIFFERS))
        self._mark.setAccessibleName(DIFFERS)
        self._mark.setAccessibleDescription(WHY_DIFFERS)
        self._mark.setVisible(message.differs)

    def _make_note(self, message: ShownMessage) -> None:
        self._unprice(self._note_buttons)
        for widget in self._note_buttons:
            widget.hide()
            widget.deleteLater()
        self._note_buttons = []
        sentence = cut_sentence(message)
        if self._note is not None:
            self._note.setVisible(bool(sentence))
        if not sentence:
            return
        self._note = self._note or self._label()
        self._note.setText(sentence)
        self._note.setAccessibleName(sentence)
        if message.is_continuable:
            go_on = self._button("Continue", "Continue this answer", strong=True)
            go_on.clicked.connect(self.continue_pressed)
            self._note_buttons.append(go_on)
            self._price(go_on, "continue", message.id)
        retry = self._button("Retry", "Write another answer", strong=True)
        retry.clicked.connect(self.retry_pressed)
        self._note_buttons.append(retry)
        self._price(retry, "retry", message.id)
        self._ask_costs()

    def _make_versions(self, message: ShownMessage) -> None:
        self._unprice(self._version_widgets)
        for widget in self._version_widgets:
            widget.hide()
            widget.deleteLater()
        self._version_widgets = []
        if message.version_count < 2:
            return
        back = self._button("‹", "Previous version")
        onward = self._button("›", "Next version")
        label = self._label()
        label.setWordWrap(False)
        label.setText(f"{message.version} / {message.version_count}")
        label.setAccessibleName(f"Version {message.version} of {message.version_count}")
        for button, target in ((back, message.previous_id), (onward, message.next_id)):
            button.setEnabled(target is not None)
            button.clicked.connect(lambda _=False, target=target: self.version_pressed.emit(target))
            if target is not None:
                self._price(button, "version", target, beside=False)
        self._version_widgets = [back, label, onward]

    def _make_actions(self, message: ShownMessage) -> None:
        self._actions_made = True
        copy = self._button("Copy", "Copy this message", align=Qt.AlignmentFlag.AlignLeft)
        copy.clicked.connect(self.copy_pressed)
        self._action_buttons = [copy]
        if self._has_reasoning:
            thinking = self._button("Copy reasoning", "Copy the reasoning before this answer")
            thinking.clicked.connect(self.copy_reasoning_pressed)
            self._action_buttons.append(thinking)
        if message.role == "user":
            edit = self._button("Edit", "Edit this message")
            edit.clicked.connect(self.edit_pressed)
            self._action_buttons.append(edit)
        elif message.status != "running" and not message.is_cut:
            retry = self._button("Retry", "Write another answer")
            retry.clicked.connect(self.retry_pressed)
            self._action_buttons.append(retry)
            self._price(retry, "retry", message.id)

    def _forget_actions(self) -> None:
        self._unprice(self._action_buttons)
        for button in self._action_buttons:
            button.hide()
            button.deleteLater()
        self._action_buttons = []
        self._actions_made = False

    # --- place ----------------------------------------------------------------------------------------

    def height_for(self, width: int) -> int:
        """The height under a text of `width` pixels; the foot itself begins a grid's step further left."""
        return self._arrange(width, move=False)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.arrange()

    def arrange(self) -> None:
        """Put the parts in their places."""
        self._arrange(self.width() - self._style.theme.grid, move=True)

    def _arrange(self, width: int, *, move: bool) -> int:
        grid = self._style.theme.grid
        y = 0
        if self._all_button is not None:
            y = self._row([self._all_button], grid, y + grid, width, move=move)
        none: list[QuietButton] = []
        for label, buttons in (
            (self._notices, none),
            (self._mark, none),
            (self._note, self._note_buttons),
            (self._progress_label, none),
        ):
            if label is None or label.isHidden():
                continue
            height = label.heightForWidth(width)
            y += grid
            if move:
                label.setGeometry(grid, y, width, height)
            y += height
            if buttons:
                y = self._row(buttons, grid, y + grid, width, move=move)
        row_px = self._style.theme.base_px * 0.87 * 1.4 + grid
        if move:
            x = 0  # words, not their frames, stand in line with the text
            for group in (self._action_buttons, self._version_widgets):
                visible = [widget for widget in group if not widget.isHidden()]
                x = self._across(visible, x, y + grid // 2, width)
        return round(y + grid // 2 + row_px)

    def _row(self, widgets: list[QuietButton], x: int, y: int, width: int, *, move: bool) -> int:
        if move:
            self._across(widgets, x, y, width, gap=self._style.theme.grid)
        return y + max(widget.sizeHint().height() for widget in widgets)

    def _across(self, widgets: Sequence[QWidget], x: int, y: int, width: int, gap: int = 0) -> int:
        """Buttons beside each other, and beside a button what it costs, as far as `width` has room for it."""
        height = max((widget.sizeHint().height() for widget in widgets), default=0)
        after = sum(widget.sizeHint().width() + gap for widget in widgets)
        for widget in widgets:
            needs = widget.sizeHint().width()
            widget.setGeometry(x, y, needs, height)
            x += needs + gap
            after -= needs + gap
            line = next((line for _, button, line in self._priced if button is widget), None)
            if line is not None:
                apart = 2 * self._style.theme.grid if after else 0  # a cost belongs to the button before it
                room = min(line.sizeHint().width(), width - x - after - apart)
                line.setVisible(bool(line.words()) and room >= min(LEAST_COST_PX, line.sizeHint().width()))
                if not line.isHidden():
                    line.setGeometry(x, y, room, height)
                    x += room + gap + apart
        return x


def copy_to_clipboard(text: str) -> None:
    """Put `text` on the clipboard."""
    QGuiApplication.clipboard().setText(text)
