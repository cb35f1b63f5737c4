"""What the window remembers between runs: `window.ini` in the data folder.

Owns: its keys. Losing the file loses nothing but comfort, so every trouble with it is silent. The engine
never reads it; conversations are never kept here, only the draft that was not sent.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PySide6.QtCore import QByteArray, QSettings

from app.theme import ThemeChoice

if TYPE_CHECKING:
    # The wire shapes take a tenth of a second to import; this is read before the first paint.
    from engine.protocol import ReasoningMode

ZOOMS = (0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 1.75, 2.0)


class WindowState:
    """Geometry, theme, zoom, the open conversation and its draft."""

    def __init__(self, path: Path) -> None:
        self._ini = QSettings(str(path), QSettings.Format.IniFormat)

    def save(self) -> None:
        """Write to disk now. A draft is for its owner's eyes, like the conversations."""
        self._ini.sync()
        with contextlib.suppress(OSError):
            Path(self._ini.fileName()).chmod(0o600)

    @property
    def geometry(self) -> QByteArray:
        """QWidget.saveGeometry(), empty before the first run."""
        return self._bytes("window/geometry")

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self._ini.setValue("window/geometry", value)

    @property
    def splitter(self) -> QByteArray:
        """QSplitter.saveState() of sidebar and conversation."""
        return self._bytes("window/splitter")

    @splitter.setter
    def splitter(self, value: QByteArray) -> None:
        self._ini.setValue("window/splitter", value)

    @property
    def sidebar_shown(self) -> bool:
        """Whether the list of conversations is shown."""
        return self._text("window/sidebar") != "hidden"

    @sidebar_shown.setter
    def sidebar_shown(self, value: bool) -> None:
        self._ini.setValue("window/sidebar", "shown" if value else "hidden")

    @property
    def welcomed(self) -> bool:
        """The welcome was seen and is over; it does not come again."""
        return self._text("window/welcomed") == "yes"

    @welcomed.setter
    def welcomed(self, value: bool) -> None:
        self._ini.setValue("window/welcomed", "yes" if value else "")

    @property
    def update_seen(self) -> str:
        """The newer version whose notice was put away; it does not come again for that one."""
        return self._text("window/update_seen")

    @update_seen.setter
    def update_seen(self, value: str) -> None:
        self._ini.setValue("window/update_seen", value)

    @property
    def theme(self) -> ThemeChoice:
        """The person's choice; "system" unless another was made."""
        value = self._text("look/theme")
        return cast(ThemeChoice, value) if value in ("light", "dark") else "system"

    @theme.setter
    def theme(self, value: ThemeChoice) -> None:
        self._ini.setValue("look/theme", value)

    @property
    def zoom(self) -> float:
        """One of ZOOMS."""
        try:
            value = float(self._text("look/zoom"))
        except ValueError:
            return 1.0
        return value if value in ZOOMS else 1.0

    @zoom.setter
    def zoom(self, value: float) -> None:
        self._ini.setValue("look/zoom", repr(value))

    @property
    def mode(self) -> ReasoningMode:
        """How much the model thinks, where it has modes; "high" unless another was chosen."""
        value = self._text("conversation/mode")
        return cast("ReasoningMode", value) if value in ("non-think", "max") else "high"

    @mode.setter
    def mode(self, value: ReasoningMode) -> None:
        self._ini.setValue("conversation/mode", value)

    @property
    def session_id(self) -> str | None:
        """The conversation that was open last; None for a new one."""
        return self._text("conversation/session") or None

    @session_id.setter
    def session_id(self, value: str | None) -> None:
        self._ini.setValue("conversation/session", value or "")

    @property
    def draft(self) -> str:
        """What stood in the composer of that conversation."""
        return self._text("conversation/draft")

    @draft.setter
    def draft(self, value: str) -> None:
        self._ini.setValue("conversation/draft", value if self.keeps_draft else "")

    @property
    def keeps_draft(self) -> bool:
        """Whether drafts are written here; they are not while conversations are encrypted, for this file is not."""
        return self._text("conversation/keeps_draft") != "no"

    @keeps_draft.setter
    def keeps_draft(self, value: bool) -> None:
        self._ini.setValue("conversation/keeps_draft", "" if value else "no")
        if not value:
            self.draft = ""

    def _text(self, key: str) -> str:
        # An INI value with a comma comes back as a list when it was written by hand without quotes.
        value = self._ini.value(key, "")
        return value if isinstance(value, str) else ""

    def _bytes(self, key: str) -> QByteArray:
        value = self._ini.value(key)
        return value if isinstance(value, QByteArray) else QByteArray()
