"""The settings of this machine: what computes models, PyTorch for Seamount's own engine, and which build of llama.cpp
the engine uses.

Owns: these fields and the values in them. Stands in the form of `settings_dialog`. Does not ask the engine: `show` is
told what it found.
"""

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import QComboBox, QLabel, QWidget

from app.views.part_row import PartRow
from engine.protocol import BackendChoice, ErrorBody, LoadedModel, Settings
from engine.protocol_library import LlamaBuildEntry, LlamaBuildList

BACKENDS: tuple[tuple[BackendChoice, str], ...] = (
    ("auto", "What suits the model best"),
    ("llamacpp", "llama.cpp"),
    ("native", "Seamount's own engine (DeepSeek-V4 alone)"),
)
OWN = "What comes with Seamount"
_ALONE = "the processor alone"
_WHO = {"environment": "the variable LLAMA_CPP_LIB_PATH", "command": "the command that started the engine"}


class MachineFields:
    """`rows` for a form: (label, field, hint). Until `show` is called only what is chosen can be seen."""

    def __init__(self, settings: Settings, model: LoadedModel | None = None) -> None:
        self.backend = QComboBox()
        for key, words in BACKENDS:
            self.backend.addItem(words, key)
        self.backend.setCurrentIndex(self.backend.findData(settings.backend))
        self.part = PartRow()
        self._chosen = settings.llama_cpp_folder
        self.build = QComboBox()
        self.build.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.build.addItem(self._chosen or OWN, self._chosen)
        self.state = QLabel("Looking for builds…")
        self.state.setWordWrap(True)
        self.state.setProperty("muted", True)
        self.state.setAccessibleName("Builds of llama.cpp")
        self.state.setTextFormat(Qt.TextFormat.PlainText)
        self.rows: tuple[tuple[str, QWidget, str], ...] = (
            (
                "Computed b&y",
                self.backend,
                _computed_now(settings, model)
                or "Seamount's own engine needs PyTorch, and is exact rather than fast.",
            ),
            ("PyTorch", self.part, ""),
            ("llama.c&pp", self.build, "Used from the engine's next start on: Model → Restart engine."),
            ("", self.state, ""),
        )

    def show(self, found: LlamaBuildList) -> None:
        """The builds that can be chosen; what is chosen by now stays so, even where it is not among them."""
        chosen = self.build.currentData()
        self.build.clear()
        for each in found.builds:
            self.build.addItem(_line(each), each.folder)
            if each.problem is not None:
                self.build.setItemData(self.build.count() - 1, each.problem.text, Qt.ItemDataRole.ToolTipRole)
                self._disable(self.build.count() - 1)
        at = self._index_of(chosen)
        if at < 0:
            self.build.addItem(str(chosen), chosen)
            at = self.build.count() - 1
        self.build.setCurrentIndex(at)
        self.state.setText(_state(found))

    def show_failure(self, error: ErrorBody) -> None:
        """The builds could not be found out; the choice stays."""
        self.state.setText(error.text)

    def values(self) -> dict[str, Any]:
        """What has become of them, by the names of Settings."""
        return {"backend": self.backend.currentData(), "llama_cpp_folder": self.build.currentData()}

    def _index_of(self, folder: str | None) -> int:
        """Qt's own search does not find None."""
        folders = [self.build.itemData(at) for at in range(self.build.count())]
        return folders.index(folder) if folder in folders else -1

    def _disable(self, at: int) -> None:
        model = self.build.model()
        if isinstance(model, QStandardItemModel):
            model.item(at).setEnabled(False)


def _computed_now(settings: Settings, model: LoadedModel | None) -> str:
    """What computes the loaded model where that is not what is chosen: a command may name it."""
    if model is None or (model.backend == "native") == (settings.backend == "native"):
        return ""
    names = {"native": "Seamount's own engine", "llama.cpp": "llama.cpp"}
    if model.backend not in names:
        return ""
    return f"In use now: {names[model.backend]}, named by a command, until another one is chosen here."


def _line(entry: LlamaBuildEntry) -> str:
    name = OWN if entry.folder is None else entry.name
    if entry.problem is not None:
        return f"{name}: cannot be used"
    return f"{name}: {', '.join(entry.devices) or _ALONE}"


def _state(found: LlamaBuildList) -> str:
    """What the engine uses now, and why that is not what was chosen."""
    if found.refused is not None:
        return found.refused.text
    problem = next((each.problem for each in found.builds if each.problem is not None), None)
    if problem is not None:
        return problem.text
    failed = next((each.failed[0] for each in found.builds if each.failed), None)
    if failed is not None:
        return f"{failed}."
    by = _WHO.get(found.source)
    now = found.in_use or "what comes with Seamount"
    return f"In use now: {now}" + (f", named by {by}, which goes before this choice." if by else ".")
