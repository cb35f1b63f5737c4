"""How the window looks: its theme, and the size of its text.

Owns: choosing both, remembering them, following the system, and styling the program. Does not know the widgets:
`changed` tells those that draw for themselves.
"""

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from app.theme import Theme, ThemeChoice
from app.views import style
from app.window_state import ZOOMS, WindowState


class Look(QObject):
    """The look of one window; made before its widgets, since styling them afterwards takes time."""

    changed = Signal(object)
    """Theme: what is drawn with from now on."""
    chosen = Signal(str)
    """ThemeChoice, also when nothing looks different for it."""

    def __init__(self, memory: WindowState, parent: QObject) -> None:
        super().__init__(parent)
        self._memory = memory
        self._theme = self._wanted()
        self._apply()
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._follow)

    @property
    def theme(self) -> Theme:
        """The look of this moment."""
        return self._theme

    def zoom_in(self) -> None:
        """Larger."""
        self._zoom_by(1)

    def zoom_out(self) -> None:
        """Smaller."""
        self._zoom_by(-1)

    def zoom_reset(self) -> None:
        """Normal."""
        self._set(self._memory.theme, 1.0)

    def theme_system(self) -> None:
        """As the system is."""
        self._set("system", self._memory.zoom)

    def theme_light(self) -> None:
        """Always light."""
        self._set("light", self._memory.zoom)

    def theme_dark(self) -> None:
        """Always dark."""
        self._set("dark", self._memory.zoom)

    def _wanted(self) -> Theme:
        choice = self._memory.theme
        if choice == "system":
            theme = Theme.for_scheme(QGuiApplication.styleHints().colorScheme())
        else:
            theme = Theme.dark() if choice == "dark" else Theme.light()
        return theme.zoomed(self._memory.zoom)

    def _apply(self) -> None:
        app = QApplication.instance()
        if isinstance(app, QApplication):
            style.apply(self._theme, app)

    def _set(self, choice: ThemeChoice, zoom: float) -> None:
        self._memory.theme, self._memory.zoom = choice, zoom
        # Menus and dialogs that the platform draws follow too, where it can.
        schemes = {"light": Qt.ColorScheme.Light, "dark": Qt.ColorScheme.Dark}
        QGuiApplication.styleHints().setColorScheme(schemes.get(choice, Qt.ColorScheme.Unknown))
        self._follow()
        self.chosen.emit(choice)

    def _follow(self) -> None:
        theme = self._wanted()
        if theme != self._theme:
            self._theme = theme
            self._apply()
            self.changed.emit(theme)

    def _zoom_by(self, steps: int) -> None:
        place = ZOOMS.index(self._memory.zoom) + steps
        if 0 <= place < len(ZOOMS):
            self._set(self._memory.theme, ZOOMS[place])
