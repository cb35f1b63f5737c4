"""The form of a dialog that scrolls when text is large or much has to be said.

Owns: that area alone; what begins the work stays below it, in sight. Does not know what the form asks.
"""

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QScrollArea, QWidget


def scrolled_form(form: QWidget) -> QScrollArea:
    """`form` in an area that scrolls up and down, never narrower than the form can be; Tab passes it by."""
    area = QScrollArea()
    area.setWidget(form)
    area.setWidgetResizable(True)
    area.setFrameShape(QScrollArea.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setMinimumWidth(form.minimumSizeHint().width() + area.verticalScrollBar().sizeHint().width())
    return area
