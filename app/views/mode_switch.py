"""The mode switch in the line above the text.

Owns: the button with the menu of modes, and the words of its entries. Does not choose or ask for costs; it
says what was wanted. Hidden while the loaded model has no modes.
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QRect, QSize, Qt, Signal
from PySide6.QtGui import QAction, QIcon, QPaintEvent
from PySide6.QtWidgets import (
    QMenu,
    QSizePolicy,
    QStyle,
    QStyleOptionToolButton,
    QStylePainter,
    QToolButton,
    QWidget,
)

from app.icons import icon
from app.theme import Theme

if TYPE_CHECKING:
    from app.mode_choice import ModeShelf

LEFT_PX, RIGHT_PX = 28, 24


class ModeSwitch(QToolButton):
    """Name of the mode in force, with all of them in its menu."""

    mode_chosen = Signal(str)
    menu_opening = Signal()
    """Now is the time to find out what a switch would cost."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("modeSwitch")
        self.setAccessibleName("Mode")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._shelf: ModeShelf | None = None
        self._entries: dict[str, QAction] = {}
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(self._opening)
        self.setMenu(self._menu)
        self.hide()
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._theme = theme
        self.setIcon(icon("mode", theme.muted))
        self.update()

    def set_shelf(self, shelf: "ModeShelf") -> None:
        """Show these modes from now on."""
        self._shelf = shelf
        shelf.changed.connect(self.refresh)
        shelf.costs_changed.connect(self._show_costs)
        self.refresh()

    def refresh(self) -> None:
        """Say which mode is in force; gone without modes."""
        from app.mode_choice import NAMES

        mode = self._shelf.mode if self._shelf else None
        self.setVisible(mode is not None)
        if mode is not None and NAMES[mode] != self.text():
            self.setText(NAMES[mode])
            self.setAccessibleName(f"Mode: {NAMES[mode]}")
            self.setToolTip(f"{NAMES[mode]}. Opens the list of modes.")
            self.updateGeometry()

    def fill(self) -> QMenu:
        """The menu as it is shown when it opens."""
        self._opening()
        return self._menu

    def _opening(self) -> None:
        self._fill()
        self.menu_opening.emit()

    def _fill(self) -> None:
        from app.mode_choice import NAMES

        self._menu.clear()
        self._entries = {}
        if self._shelf is None:
            return
        for choice in self._shelf.choices:
            action = self._menu.addAction(NAMES[choice.mode])
            action.setCheckable(True)
            action.setChecked(choice.mode == self._shelf.mode)
            action.triggered.connect(lambda _=False, mode=choice.mode: self.mode_chosen.emit(mode))
            self._entries[choice.mode] = action
        self._show_costs()

    def _show_costs(self) -> None:
        from app.cost_words import cost_words
        from app.mode_choice import EXPLANATIONS, NAMES

        for choice in self._shelf.choices if self._shelf else ():
            action, cost = self._entries.get(choice.mode), self._shelf and self._shelf.costs.get(choice.mode)
            if action is None:
                continue
            told = "not now" if choice.problem else cost_words(cost) if cost else ""
            # What stands behind the tab is set at the right, as shortcuts are.
            action.setText(
                f"{NAMES[choice.mode]}: {EXPLANATIONS[choice.mode]}" + (f"\t{told}" if told else "")
            )

    def sizeHint(self) -> QSize:
        """Icon, name, chevron."""
        name_px = self.fontMetrics().horizontalAdvance(self.text()) + 2
        return QSize(LEFT_PX + name_px + RIGHT_PX, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """Where there is no room for words, icon and chevron."""
        return QSize(LEFT_PX + RIGHT_PX - 4, super().minimumSizeHint().height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Arranged as the model's button beside it is."""
        painter = QStylePainter(self)
        option = QStyleOptionToolButton()
        self.initStyleOption(option)
        name = self.text()
        option.text, option.icon = "", QIcon()  # pyright: ignore[reportAttributeAccessIssue] # not in the stub
        painter.drawComplexControl(QStyle.ComplexControl.CC_ToolButton, option)
        area = self.rect()
        self.icon().paint(painter, QRect(7, area.center().y() - 7, 16, 16))
        place = area.adjusted(LEFT_PX, 0, -RIGHT_PX, 0)
        painter.setPen(self._theme.text)
        elided = self.fontMetrics().elidedText(name, Qt.TextElideMode.ElideRight, max(0, place.width()))
        if len(elided) > 1:
            painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, elided)
        chevron = icon("chevron-down", self._theme.muted, size_px=12)
        chevron.paint(painter, QRect(area.right() - 19, area.center().y() - 5, 12, 12))
