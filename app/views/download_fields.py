"""The settings of downloads: where to, from where, how fast.

Owns: these fields and the values in them. Stands in the form of `settings_dialog`.
"""

from typing import Any

from PySide6.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from app.views.path_choice import choose_folder
from engine.conversation import clean_text
from engine.protocol import Settings

MOST_PATH = 4096
MOST_ADDRESS = 500


class FolderField(QWidget):
    """A path, and a button that leads to it."""

    def __init__(self, path: str | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.line = QLineEdit(path or "")
        self.line.setPlaceholderText("The models folder")
        self.line.setMaxLength(MOST_PATH)
        self.choose_button = QPushButton("Choose…")
        self.choose_button.setAccessibleName("Choose the folder for checkpoints")
        self.choose_button.setAutoDefault(False)
        self.choose_button.clicked.connect(self._choose)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.line, 1)
        row.addWidget(self.choose_button)
        self.setFocusProxy(self.line)

    def setAccessibleName(self, name: str) -> None:
        """What is read out is the line's."""
        super().setAccessibleName(name)
        self.line.setAccessibleName(name)

    def _choose(self) -> None:
        choose_folder(self, "The folder for checkpoints", self.line.text(), self.line.setText)


class DownloadFields:
    """`rows` for a form: (label, field, hint)."""

    def __init__(self, settings: Settings) -> None:
        self.folder = FolderField(settings.checkpoints_folder)
        self.mirror = QLineEdit(settings.hub_endpoint or "")
        self.mirror.setPlaceholderText("https://huggingface.co")
        self.mirror.setMaxLength(MOST_ADDRESS)
        self.offline = QCheckBox("Never ask the hub")
        self.offline.setChecked(settings.offline)
        self.streams = QSpinBox()
        self.streams.setRange(1, 16)
        self.streams.setValue(settings.download_streams)
        self.limit = QDoubleSpinBox()
        self.limit.setRange(0, 100_000)
        self.limit.setDecimals(1)
        self.limit.setSuffix(" MB/s")
        self.limit.setSpecialValueText("As fast as it goes")
        self.limit.setGroupSeparatorShown(True)
        self.limit.setValue(settings.download_limit_mb_s)
        self.awake = QCheckBox("Keep this machine awake while something is under way")
        self.awake.setChecked(settings.keep_awake)
        self._limit_before = settings.download_limit_mb_s
        self.rows: tuple[tuple[str, QWidget, str], ...] = (
            (
                "Chec&kpoints folder",
                self.folder,
                "Where checkpoints are downloaded to; another disk, perhaps.",
            ),
            ("Mi&rror", self.mirror, "The address of a mirror of Hugging Face; empty: Hugging Face itself."),
            ("O&ffline", self.offline, ""),
            ("Files at &once", self.streams, "So many files are downloaded at the same time."),
            ("&Greatest rate", self.limit, "A download takes no more of the line than this."),
            ("Aw&ake", self.awake, ""),
        )

    def values(self) -> dict[str, Any]:
        """What has become of them, by the names of Settings."""
        limit = round(self.limit.value(), 1)
        untouched = limit == round(self._limit_before, 1)
        return {
            "checkpoints_folder": clean_text(self.folder.line.text().strip())[0] or None,
            "hub_endpoint": clean_text(self.mirror.text().strip())[0] or None,
            "offline": self.offline.isChecked(),
            "download_streams": self.streams.value(),
            "download_limit_mb_s": self._limit_before if untouched else limit,
            "keep_awake": self.awake.isChecked(),
        }
