"""Conversions in the window: the two dialogs, and how they come by what they show.

Owns: opening them, once each, and handing what they ask for to the shelf. Does not know their widgets.
"""

from collections.abc import Callable

from PySide6.QtCore import QObject, Qt
from PySide6.QtWidgets import QWidget

from app.job_shelf import JobShelf
from engine.protocol import ErrorBody
from engine.protocol_jobs import Job, StartJob


class Conversions(QObject):
    """The names of its methods are slots of `app.actions`. `use`: adds a model's file and loads it."""

    def __init__(self, shelf: JobShelf, use: Callable[[str], None], window: QWidget, parent: QObject) -> None:
        super().__init__(parent)
        self._shelf, self._use, self._window = shelf, use, window

    def show_conversions(self) -> None:
        """The list of conversions."""
        from app.views.conversions_dialog import ConversionsDialog

        there = self._window.findChild(ConversionsDialog)
        if there is not None and there.isVisible():
            there.raise_()
            return
        self._shelf.refresh()
        dialog = ConversionsDialog(self._shelf, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        def use(path: str) -> None:
            dialog.accept()
            self._use(path)

        dialog.use_requested.connect(use)
        dialog.convert_requested.connect(lambda: self.convert_checkpoint(dialog))
        dialog.open()

    def convert_checkpoint(self, parent: QWidget | None = None) -> None:
        """The form of a new conversion; then the list, where it is seen to run."""
        from app.views.convert_dialog import ConvertDialog

        dialog = ConvertDialog(self._shelf.inspect, parent or self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        is_open = True

        def closed() -> None:
            nonlocal is_open
            is_open = False

        def begun(_: Job) -> None:
            if is_open:
                dialog.accept()
            self.show_conversions()

        def failed(error: ErrorBody) -> None:
            if is_open:
                dialog.refuse(error.text)

        def start(asked: StartJob) -> None:
            self._shelf.start(asked, begun, failed)

        dialog.finished.connect(closed)
        dialog.started.connect(start)
        dialog.open()
