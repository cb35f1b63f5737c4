"""The keyboard's way through the transcript.

Owns: the order of reading as the order of Tab, and the keys that scroll. Qt's own chain follows the order of
creation, and messages get their views in the order in which they are scrolled to. Does not know how a message
looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QApplication, QWidget

if TYPE_CHECKING:
    from app.views.transcript_page import TranscriptPage

MARGIN_PX = 16
"""Kept free above or below what the focus brings into sight."""


def walk(page: TranscriptPage, *, following: bool) -> bool:
    """Move the focus one stop on or back: the page, then each message and what can be pressed in it.

    Beyond the first and the last message the focus leaves the page. False when there is nowhere to go.
    """
    current = QApplication.focusWidget()
    views = page.views
    if current is page or current is None:
        if following and views:
            return focus_stop(page, page.visible_views()[0])
        return _leave(page, following=following)
    stops = [stop for view in views for stop in (view, *view.stops())]
    place = _place(stops, current)
    if place is None:
        return _leave(page, following=following)
    step = 1 if following else -1
    here = page.index_of(stops[place])
    if 0 <= place + step < len(stops) and abs(page.index_of(stops[place + step]) - here) <= 1:
        return focus_stop(page, stops[place + step])
    if 0 <= here + step < page.count:
        view = page.bring(here + step)
        return focus_stop(page, view if following else (view, *view.stops())[-1])
    return _leave(page, following=following)


def focus_stop(
    page: TranscriptPage, widget: QWidget, reason: Qt.FocusReason = Qt.FocusReason.TabFocusReason
) -> bool:
    """Give the focus to a message or a part of one, and bring it into sight."""
    for view in page.views:
        if view is widget or view.isAncestorOf(widget):
            view.set_focus_within(True)  # buttons that are hidden cannot take the focus
    widget.setFocus(reason)
    viewport, bar = page.viewport(), page.verticalScrollBar()
    top = widget.mapTo(viewport, QPoint(0, 0)).y()
    # Of what is higher than the page the top is shown.
    bottom = top + min(widget.height(), viewport.height())
    if top < 0:
        bar.setValue(bar.value() + top - MARGIN_PX)
    elif bottom > viewport.height():
        bar.setValue(bar.value() + bottom - viewport.height() + MARGIN_PX)
    return True


def scroll_step(page: TranscriptPage, event: QKeyEvent) -> int:
    """How far a key scrolls, in pixels; 0 for keys that do not."""
    line = page.verticalScrollBar().singleStep()
    sheet = max(40, page.viewport().height() - 2 * line)
    backwards = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
    return {
        Qt.Key.Key_Up.value: -line,
        Qt.Key.Key_Down.value: line,
        Qt.Key.Key_PageUp.value: -sheet,
        Qt.Key.Key_PageDown.value: sheet,
        Qt.Key.Key_Space.value: -sheet if backwards else sheet,
    }.get(event.key(), 0)


def _place(stops: list[QWidget], current: QWidget) -> int | None:
    for index, stop in enumerate(stops):
        if stop is current:
            return index
    # Text that Tab does not visit, such as a clicked paragraph: go on from its message.
    inside = [index for index, stop in enumerate(stops) if stop.isAncestorOf(current)]
    return inside[-1] if inside else None


def _leave(page: TranscriptPage, *, following: bool) -> bool:
    def neighbour(widget: QWidget) -> QWidget:
        return (widget.nextInFocusChain() if following else widget.previousInFocusChain()) or page

    widget = neighbour(page)
    while widget is not page:
        takes_tab = bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus)
        if takes_tab and widget.isEnabled() and widget.isVisible() and not page.isAncestorOf(widget):
            reason = Qt.FocusReason.TabFocusReason if following else Qt.FocusReason.BacktabFocusReason
            widget.setFocus(reason)
            return True
        widget = neighbour(widget)
    return False
