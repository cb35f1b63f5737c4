"""What this program is: its version and parts, where everything lies, and the licences of what others made.

Owns: the dialog. Does not ask the engine: it is told, and `licence_asked` says whose text is wanted.
"""

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPlainTextEdit,
    QSplitter,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from app.icons import application_icon
from app.wrapping import breakable
from engine.protocol_about import About, LicenceEntry, LicenceText

WAITING = "The licences are shown once the engine runs."
OWN_LICENCE = "Seamount itself is under the MIT licence."
LEAST_LIST_PX = 230


class AboutDialog(QDialog):
    """`version` and `data_folder` are known without an engine; `show_about` has the rest."""

    licence_asked = Signal(int)
    """The place of a part in the list: its text is wanted."""

    def __init__(self, version: str, data_folder: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("About Seamount")
        self.resize(720, 520)
        picture = QLabel()
        picture.setPixmap(application_icon().pixmap(64, 64))
        picture.setAccessibleName("Seamount's icon: a mountain under the sea")
        self.title = QLabel()
        self.title.setObjectName("dialogTitle")
        says = QLabel("Runs language models on this computer. What you write stays here.")
        words = QVBoxLayout()
        words.setSpacing(6)
        words.addWidget(self.title)
        words.addWidget(says)
        head = QHBoxLayout()
        head.setSpacing(20)
        head.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        head.addLayout(words, 1)
        self.facts = QLabel()
        self.facts.setTextFormat(Qt.TextFormat.PlainText)
        self.facts.setWordWrap(True)
        self.facts.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.facts.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.facts.setAccessibleName("Facts")
        self._build_licences()
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setDrawBase(False)
        self.tabs.addTab(_padded(self.facts), "&Program")
        self.tabs.addTab(_padded(self._licences), "&Licences")
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(16)
        column.addLayout(head)
        column.addWidget(self.tabs, 1)
        column.addWidget(buttons)
        self._show_facts(version, [("Your conversations and settings", data_folder)])

    def _build_licences(self) -> None:
        self.parts = QListWidget()
        self.parts.setAccessibleName("Parts that others made")
        self.parts.setMinimumWidth(LEAST_LIST_PX)
        self.parts.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.parts.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.parts.currentRowChanged.connect(self._chosen)
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setAccessibleName("Licence")
        self.note = QLabel(WAITING)
        self.note.setTextFormat(Qt.TextFormat.PlainText)
        self.note.setWordWrap(True)
        self.note.setProperty("muted", True)
        halves = QSplitter(Qt.Orientation.Horizontal)
        halves.addWidget(self.parts)
        halves.addWidget(self.text)
        halves.setStretchFactor(1, 1)
        halves.setChildrenCollapsible(False)
        self._halves = halves
        halves.hide()
        self._licences = QWidget()
        column = QVBoxLayout(self._licences)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.note)
        column.addWidget(halves, 1)

    # --- from outside ---------------------------------------------------------------------------------

    def show_about(self, about: About) -> None:
        """What the engine knows."""
        self._show_facts(
            about.version,
            [
                ("Your conversations and settings", about.data_folder),
                ("The program", about.program_folder),
                ("llama.cpp", about.llama_cpp),
                ("Python", about.python),
            ],
        )
        count = len(about.licences)
        self.note.setText(f"{OWN_LICENCE} It is made of {count} parts; each with its licence:")
        self._halves.setVisible(bool(count))
        self.parts.clear()
        for entry in about.licences:
            item = QListWidgetItem(f"{entry.name} {entry.version}".rstrip())
            item.setToolTip(_line(entry))
            item.setData(Qt.ItemDataRole.AccessibleTextRole, _line(entry))
            self.parts.addItem(item)
        if count:
            self.parts.setCurrentRow(0)

    def show_text(self, place: int, found: LicenceText) -> None:
        """A licence that was asked for; one that is not wanted any more is let go."""
        if self.parts.currentRow() == place:
            self.text.setPlainText(found.text)

    def show_failure(self, sentence: str) -> None:
        """The engine could not say it."""
        self.note.setText(breakable(sentence))

    # --- inside ---------------------------------------------------------------------------------------

    def _chosen(self, row: int) -> None:
        if row >= 0:
            self.text.clear()
            self.licence_asked.emit(row)

    def _show_facts(self, version: str, facts: list[tuple[str, str]]) -> None:
        self.title.setText("Seamount" + (f" {version}" if version else ""))
        lines = [f"{name}: {breakable(value)}" for name, value in facts]
        self.facts.setText("\n\n".join([*lines, OWN_LICENCE]))


def _line(entry: LicenceEntry) -> str:
    return f"{entry.name} {entry.version}: {entry.licence or 'its text says which'}"


def _padded(widget: QWidget) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    column.setContentsMargins(0, 12, 0, 0)
    column.addWidget(widget, 1)
    return page
