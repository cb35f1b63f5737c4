"""Around the window: what macOS says of a double click reaches it."""

from PySide6.QtCore import QCoreApplication, QEvent, QUrl
from PySide6.QtGui import QFileOpenEvent, QGuiApplication
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.views.application import OpenedFiles


def test_files_and_links_that_the_system_opens_are_taken(qtbot: QtBot, qapp: QApplication) -> None:
    taken: list[str] = []
    opened = OpenedFiles(taken.append, qapp)
    qapp.installEventFilter(opened)
    try:
        QCoreApplication.sendEvent(qapp, QFileOpenEvent("/models/a b.gguf"))
        QCoreApplication.sendEvent(qapp, QFileOpenEvent(QUrl("seamount://get/owner/Name@v1")))
        QCoreApplication.sendEvent(qapp, QEvent(QEvent.Type.User))
    finally:
        qapp.removeEventFilter(opened)
    assert taken == ["/models/a b.gguf", "seamount://get/owner/Name@v1"]
    assert isinstance(qapp, QGuiApplication)
