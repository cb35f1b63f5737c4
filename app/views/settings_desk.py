"""The settings' form at work.

Owns: fetching the settings before the form is shown, handing what was chosen to the engine, and filling the fields that
the engine has something to say to. `show_settings` is a slot of `app.actions`. Does not know what is in the form
(`settings_dialog`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from shiboken6 import isValid

if TYPE_CHECKING:
    from app.views.desk import Desk
    from app.views.window import MainWindow
    from engine.protocol import Settings


class SettingsDesk(QObject):
    """Of one window; `desk` is there after its first paint."""

    def __init__(self, window: "MainWindow") -> None:
        super().__init__(window)
        self._window = window
        self.desk: Desk | None = None

    def show_settings(self) -> None:
        """Fetch the settings, then show them."""
        if self.desk is not None:
            self.desk.shelf.fetch_settings(self._open)

    def _open(self, settings: "Settings") -> None:
        from app.views import parts_desk
        from app.views.settings_dialog import SettingsDialog
        from engine.protocol_about import UpdateState

        desk = self.desk
        if desk is None or self._window.findChild(SettingsDialog) is not None:
            return
        model = desk.shelf.status.model if desk.shelf.status else None
        dialog = SettingsDialog(settings, model, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)

        # The answer may come when the dialog has been closed already.
        def stored() -> None:
            if isValid(dialog):
                dialog.accept()

        def refused(sentence: str) -> None:
            if isValid(dialog):
                dialog.refuse(sentence)
            else:
                desk.tell_refused(sentence)

        def apply(wanted: "Settings") -> None:
            apply_settings(desk, wanted, stored, refused)

        dialog.applied.connect(apply)
        desk.storage.fill(dialog.kept)
        parts_desk.fill(dialog.machine.part, desk.api)
        desk.shelf.fetch_llama_builds(
            lambda found: dialog.machine.show(found) if isValid(dialog) else None,
            lambda error: dialog.machine.show_failure(error) if isValid(dialog) else None,
        )
        desk.api.get(
            "/api/updates",
            UpdateState,
            lambda found: dialog.updates.show(found) if isValid(dialog) else None,
            lambda _error: None,  # the field says what is so without it
        )
        dialog.open()


def apply_settings(
    desk: "Desk", settings: "Settings", ok: Callable[[], None], failed: Callable[[str], None]
) -> None:
    """Store settings; says when the model has to be loaded again for them."""
    reload = desk.shelf.needs_reload(settings)

    def stored(_: "Settings") -> None:
        if reload:
            sentence = "The settings are stored; the model is being loaded again for them."
            desk.parts.notices.tell("settings", sentence, kind="info")
        ok()

    desk.shelf.save_settings(settings, stored, lambda error: failed(error.text))
