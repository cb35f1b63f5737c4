"""Settings for the usual clients, one at a time, to be copied.

Owns: the choice of a client, the field with its settings, and the button that copies them. Does not know what is in
them (`client_recipes`).
"""

from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QPlainTextEdit, QVBoxLayout, QWidget

from app.client_recipes import KEY, Recipe
from app.theme import Theme
from app.views.copy_line import CopyButton

FRAME_PX = 24
"""What the field has around its lines, above and below."""


class RecipePanel(QWidget):
    """Shows Recipes."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._recipes: list[Recipe] = []
        caption = QLabel("&Program")
        self.choice = QComboBox()
        self.choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.choice.setAccessibleName("Program")
        caption.setBuddy(self.choice)
        self.note = QLabel()
        self.note.setProperty("muted", True)
        self.note.setWordWrap(True)
        self.text = QPlainTextEdit()
        self.text.setObjectName("recipe")
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setAccessibleName("Settings")
        self.copy_button = CopyButton("these settings")
        self.key_hint = QLabel(f"Put a key’s secret in the place of {KEY}.")
        self.key_hint.setProperty("muted", True)
        self.key_hint.setWordWrap(True)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(caption)
        head.addWidget(self.choice)
        head.addStretch(1)
        head.addWidget(self.copy_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.note)
        column.addWidget(self.text)
        column.addWidget(self.key_hint)
        self.choice.currentIndexChanged.connect(self._show)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self.text.setFont(theme.code_font(0.95))
        self._show()

    def show_recipes(self, recipes: list[Recipe]) -> None:
        """Show these; the chosen program stays chosen."""
        if recipes == self._recipes:
            return
        self._recipes = recipes
        chosen = max(0, self.choice.currentIndex())
        self.choice.blockSignals(True)
        self.choice.clear()
        self.choice.addItems([recipe.name for recipe in recipes])
        self.choice.setCurrentIndex(min(chosen, len(recipes) - 1))
        self.choice.blockSignals(False)
        self._show()

    def _show(self) -> None:
        place = self.choice.currentIndex()
        if not 0 <= place < len(self._recipes):
            return
        recipe = self._recipes[place]
        self.note.setText(recipe.note)
        if self.text.toPlainText() != recipe.text.rstrip("\n"):
            self.text.setPlainText(recipe.text.rstrip("\n"))
        self.copy_button.set_text(recipe.text)
        # All of it is seen, and the scroll bar that a long address brings.
        bar = self.text.horizontalScrollBar().sizeHint().height()
        lines = recipe.text.rstrip("\n").count("\n") + 1
        self.text.setFixedHeight(QFontMetrics(self.text.font()).lineSpacing() * lines + FRAME_PX + bar)
