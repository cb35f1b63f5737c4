"""The setting of newer versions: whether the program says that there is one.

Owns: this field and its explanation. Stands in the form of `settings_dialog`. Does not ask the engine: `show` is told
what it found.
"""

import time
from typing import Any
from urllib.parse import urlsplit

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QLabel, QWidget

from app.wrapping import breakable
from engine.protocol import Settings
from engine.protocol_about import UpdateState

NO_ADDRESS = (
    "This build was given no place to look at; updates_address in settings.toml can name one. Until then nobody is "
    "asked."
)


class UpdateFields:
    """`rows` for a form: (label, field, hint)."""

    def __init__(self, settings: Settings) -> None:
        self.looks = QCheckBox("Say when there is one")
        self.looks.setChecked(settings.look_for_updates)
        self.state = QLabel("Once a day a small file is asked; nothing is downloaded.")
        self.state.setTextFormat(Qt.TextFormat.PlainText)
        self.state.setWordWrap(True)
        self.state.setProperty("muted", True)
        self.state.setAccessibleName("Newer versions")
        self.rows: tuple[tuple[str, QWidget, str], ...] = (
            ("Ne&wer versions", self.looks, ""),
            ("", self.state, ""),
        )

    def show(self, found: UpdateState) -> None:
        """Who is asked, and what came of it."""
        self.state.setText(breakable(words_of(found)))

    def values(self) -> dict[str, Any]:
        """What has become of it, by the names of Settings."""
        return {"look_for_updates": self.looks.isChecked()}


def words_of(state: UpdateState) -> str:
    """For people."""
    if state.address is None:
        return NO_ADDRESS
    words = f"{urlsplit(state.address).netloc} is asked once a day at most; nothing is downloaded."
    if not state.asks:
        return words
    if state.problem is not None:
        return f"{words} {state.problem}"
    if state.found is not None:
        return f"{words} Seamount {state.found.version} is there."
    if state.looked_at is not None:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(state.looked_at))
        return f"{words} Last on {day}: this is the newest."
    return words
