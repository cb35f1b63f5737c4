"""Help's entries: the keys of every action, and what this program is made of.

Owns: making the two dialogs, and asking the engine for what the second one shows. The names of its public methods are
slots of `app.actions`. Does not know what is in the dialogs (`help_dialogs`, `about_dialog`).
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from shiboken6 import isValid

if TYPE_CHECKING:
    from app.views.about_dialog import AboutDialog
    from app.views.desk import Desk
    from app.views.window import MainWindow
    from engine.protocol import ErrorBody
    from engine.protocol_about import About, LicenceText


class HelpDesk(QObject):
    """Of one window; `desk` is there after its first paint."""

    def __init__(self, window: "MainWindow") -> None:
        super().__init__(window)
        self._window = window
        self.desk: Desk | None = None

    def show_shortcuts(self) -> None:
        """Every action and its keys."""
        from app.views.help_dialogs import ShortcutsDialog

        dialog = ShortcutsDialog(self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def show_about(self) -> None:
        """What this is; without an engine, what is known without one."""
        from app.views.about_dialog import AboutDialog

        desk = self.desk
        version = desk.engine_version if desk is not None else ""
        dialog = AboutDialog(version, str(self._window.folder.root), self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        if desk is not None:
            self._fill(dialog, desk)
        dialog.open()

    def _fill(self, dialog: "AboutDialog", desk: "Desk") -> None:
        from engine.protocol_about import About, LicenceText

        # Answers may come when the dialog has been closed already.
        def show(about: "About") -> None:
            if isValid(dialog):
                dialog.show_about(about)

        def failed(error: "ErrorBody") -> None:
            if isValid(dialog):
                dialog.show_failure(error.text)

        def fetch(place: int) -> None:
            def show_text(found: "LicenceText") -> None:
                if isValid(dialog):
                    dialog.show_text(place, found)

            desk.api.get(f"/api/about/licences/{place}", LicenceText, show_text, failed)

        dialog.licence_asked.connect(fetch)
        desk.api.get("/api/about", About, show, failed)
