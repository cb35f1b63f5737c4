"""The line above the text: which model answers, and how full its context is.

Owns: the button with the menu of models, and the context meter. Does not load anything; it asks.
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QAction, QIcon, QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QMenu,
    QSizePolicy,
    QStyle,
    QStyleOptionToolButton,
    QStylePainter,
    QToolButton,
    QWidget,
)

from app.icons import icon
from app.quantities import size_name
from app.theme import Theme

if TYPE_CHECKING:
    from app.model_shelf import ModelShelf


LEFT_PX, RIGHT_PX, LEAST_NAME_PX, MOST_NAME_PX = 30, 26, 60, 420


class ModelPicker(QToolButton):
    """Name of the model, with the others in its menu."""

    load_requested = Signal(str)
    add_requested = Signal()
    remote_requested = Signal()
    """Another one, on another machine."""
    placement_requested = Signal()
    """Of the loaded model."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("modelPicker")
        self.setAccessibleName("Model")
        self.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._shelf: ModelShelf | None = None
        self._last_name = ""  # stays while the engine is away; the status line says that it is
        self._menu = QMenu(self)
        self._menu.setToolTipsVisible(True)
        self._menu.aboutToShow.connect(self._fill)
        self.setMenu(self._menu)
        self.setText("Starting…")
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self.setIcon(icon("model", theme.accent))
        self._theme = theme
        self.update()

    def set_shelf(self, shelf: "ModelShelf") -> None:
        """Show these models from now on."""
        self._shelf = shelf
        shelf.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Say what is loaded, loading, or missing."""
        shelf = self._shelf
        if shelf is None:
            return
        status = shelf.status
        if status is None:
            text = self._last_name or "Starting…"
        elif shelf.loading_id:
            percent = f" {status.loading_fraction:.0%}" if status.loading_fraction is not None else "…"
            text = f"Loading {shelf.name(shelf.loading_id) or 'the model'}{percent}"
        elif status.model:
            text = self._last_name = status.model.name
        elif status.error:
            text = "No model loaded"
        else:
            text = "Choose a model"
        model = None if status is None or shelf.loading_id else status.model
        # The ordinary case needs no words.
        by = ", computed by Seamount's own engine" if model and model.backend == "native" else ""
        if model and model.remote:
            by = f", computed by {model.remote.host}"
        self.setToolTip(f"{text}{by}. Opens the list of models.")
        if text != self.text():
            self.setText(text)
            self.setAccessibleName(f"Model: {text}")
            self.updateGeometry()

    def fill(self) -> QMenu:
        """The menu as it would be shown now."""
        self._fill()
        return self._menu

    def sizeHint(self) -> QSize:
        """Icon, name, chevron; MOST_NAME_PX at most."""
        return QSize(LEFT_PX + self._name_px() + RIGHT_PX, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """A long name gives way."""
        name_px = min(LEAST_NAME_PX, self._name_px())
        return QSize(LEFT_PX + name_px + RIGHT_PX, super().minimumSizeHint().height())

    def _name_px(self) -> int:
        return min(MOST_NAME_PX, self.fontMetrics().horizontalAdvance(self.text()) + 2)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Its own arrangement: styles leave room for an arrow on both sides."""
        painter = QStylePainter(self)
        option = QStyleOptionToolButton()
        self.initStyleOption(option)
        name = self.text()
        option.text, option.icon = "", QIcon()  # pyright: ignore[reportAttributeAccessIssue] # not in the stub
        painter.drawComplexControl(QStyle.ComplexControl.CC_ToolButton, option)
        area = self.rect()
        self.icon().paint(painter, QRect(8, area.center().y() - 7, 16, 16))
        place = area.adjusted(LEFT_PX, 0, -RIGHT_PX, 0)
        painter.setPen(self._theme.text)
        elided = self.fontMetrics().elidedText(name, Qt.TextElideMode.ElideRight, place.width())
        painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, elided)
        chevron = icon("chevron-down", self._theme.muted, size_px=12)
        chevron.paint(painter, QRect(area.right() - 20, area.center().y() - 5, 12, 12))

    def _fill(self) -> None:
        menu, shelf = self._menu, self._shelf
        menu.clear()
        if shelf is not None:
            for entry in shelf.entries:
                place = f"at {entry.remote.host}" if entry.remote else size_name(entry.size_bytes)
                name = f"{entry.name}    {place}"
                if entry.problem is None:
                    if entry.id == shelf.loading_id:
                        name += "    loading"
                    action = menu.addAction(name)
                    action.setCheckable(True)
                    action.setChecked(entry.id == shelf.loaded_id)
                    action.setToolTip(entry.path)
                    action.setData(entry.id)
                    action.triggered.connect(self._choose)
                else:
                    action = menu.addAction(name)
                    action.setEnabled(False)
                    action.setToolTip(entry.problem.text)
                    # A disabled row's tooltip is out of reach for a keyboard: the sentence stands below it.
                    reason = menu.addAction(_shortened(entry.problem.text))
                    reason.setEnabled(False)
                    reason.setToolTip(entry.problem.text)
            if shelf.known and not shelf.entries:
                menu.addAction("No models yet").setEnabled(False)
        menu.addSeparator()
        if shelf is not None and (shelf.loaded_id or shelf.loading_id) and not shelf.is_remote:
            menu.addAction("Placement and speed…", self.placement_requested.emit)
        menu.addAction("Add a GGUF file…", self.add_requested.emit)
        menu.addAction("Add a model on another machine…", self.remote_requested.emit)

    def _choose(self) -> None:
        action = self.sender()
        if isinstance(action, QAction):
            self.load_requested.emit(str(action.data()))


def _shortened(sentence: str, most: int = 90) -> str:
    return "    " + (sentence if len(sentence) <= most else sentence[: most - 1].rstrip() + "…")


class ContextMeter(QWidget):
    """A thin bar and "1,234 of 8,192 tokens"; the bar alone where there is no room for words."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bar = _Bar(theme)
        self._label = QLabel()
        self._label.setProperty("muted", True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addStretch(1)
        row.addWidget(self._bar)
        row.addWidget(self._label)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.hide()

    def sizeHint(self) -> QSize:
        """Bar and words."""
        words = self._label.sizeHint()
        return QSize(self._bar.sizeHint().width() + 8 + words.width(), words.height() + 4)

    def minimumSizeHint(self) -> QSize:
        """The bar."""
        return QSize(self._bar.sizeHint().width(), self.sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Words need all of their room."""
        super().resizeEvent(event)
        self._label.setVisible(event.size().width() >= self.sizeHint().width())

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._bar.theme = theme
        self._bar.update()

    def show_use(self, used: int | None, total: int | None, *, overflowed: bool = False) -> None:
        """Tokens in the context and its size; hidden while there is no size. `overflowed`: too much was asked."""
        self.setVisible(total is not None)
        if total is None:
            return
        used = used or 0
        text = "Did not fit" if overflowed else f"{used:,} of {total:,} tokens"
        self._bar.set_fraction(1.0 if overflowed else used / total)
        if text != self._label.text():
            self._label.setText(text)
            self.updateGeometry()
            self.setAccessibleName(f"Context: {text}" if overflowed else f"Context: {text} used")
            self.setToolTip(
                "The conversation did not fit into the model's context when it was last asked."
                if overflowed
                else f"The model has {total:,} tokens of room for this conversation; {used:,} are used."
            )

    def text(self) -> str:
        """What it says."""
        return self._label.text()


class _Bar(QWidget):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.theme = theme
        self._fraction = 0.0
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(72, 6)

    def set_fraction(self, fraction: float) -> None:
        fraction = min(1.0, max(0.0, fraction))
        if fraction != self._fraction:
            self._fraction = fraction
            self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        area = QRectF(self.rect())
        painter.setBrush(self.theme.border)
        painter.drawRoundedRect(area, 3, 3)
        if self._fraction > 0:
            area.setWidth(max(6.0, area.width() * self._fraction))
            painter.setBrush(self.theme.danger if self._fraction > 0.9 else self.theme.accent)
            painter.drawRoundedRect(area, 3, 3)
