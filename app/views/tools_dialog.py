"""The tools of a conversation, as text to be edited.

Owns: the form, and saying at every change what is wrong. Does not send anything: `saved` carries the tools.
"""

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from app.theme import Theme
from app.tool_text import ToolTextError, count_words, text_of, tools_of
from engine.conversation import clean_text
from engine.protocol import Tool

EXAMPLE = """\
[
  {
    "type": "function",
    "function": {
      "name": "get_weather",
      "description": "The weather of a city",
      "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"]
      }
    }
  }
]"""
_NEWLINES = str.maketrans({"\u2028": "\n", "\u2029": "\n"})


class ToolsDialog(QDialog):
    """Shows `tools`; Save emits what they have become and stays open until it is told the outcome."""

    saved = Signal(object)
    """list[Tool]."""

    def __init__(self, tools: Sequence[Tool], theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Tools")
        self.resize(680, 600)
        self._tools: list[Tool] | None = None
        about = QLabel(
            "What the model may call in this conversation: a JSON array in the shape of OpenAI’s “tools”. "
            "Seamount never runs a tool: you, or a program that talks to the engine, give the results."
        )
        about.setWordWrap(True)
        self.edit = QPlainTextEdit(text_of(tools))
        self.edit.setAccessibleName("Tools as JSON")
        self.edit.setPlaceholderText(EXAMPLE)
        self.edit.setFont(theme.code_font(0.95))
        self.edit.setTabChangesFocus(True)
        self.edit.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.PlainText)
        self.message.setWordWrap(True)
        self.message.setProperty("muted", True)
        # Two lines of room: the buttons stay where they are while sentences come and go.
        self.message.setMinimumHeight(2 * self.message.fontMetrics().lineSpacing())
        self.message.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.save_button = buttons.addButton("Save", QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._save)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(24, 20, 24, 20)
        column.setSpacing(12)
        column.addWidget(about)
        column.addWidget(self.edit, 1)
        column.addWidget(self.message)
        column.addWidget(buttons)
        self.save_button.setDefault(True)
        self.edit.textChanged.connect(self._check)
        self._check()

    def refuse(self, sentence: str) -> None:
        """Saving failed: say why, keep what was typed."""
        self._say(sentence)
        self.save_button.setEnabled(True)

    def _check(self) -> None:
        text = self.edit.document().toRawText().translate(_NEWLINES)
        try:
            self._tools = tools_of(clean_text(text)[0])
        except ToolTextError as error:
            self._tools = None
            self._say(str(error))
        else:
            names = ", ".join(tool.function["name"] for tool in self._tools[:12])
            more = ", …" if len(self._tools) > 12 else ""
            self._say(f"{count_words(len(self._tools))}: {names}{more}" if self._tools else "No tools.")
        self.save_button.setEnabled(self._tools is not None)

    def _say(self, sentence: str) -> None:
        self.message.setText(sentence)
        self.message.setAccessibleName(f"Outcome: {sentence}")

    def _save(self) -> None:
        if self._tools is not None:
            self.save_button.setEnabled(False)
            self.saved.emit(self._tools)
