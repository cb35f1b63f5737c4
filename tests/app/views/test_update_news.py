"""A newer version is told once, quietly."""

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QObject, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views.notice import NoticeBar
from app.views.update_news import NOTICE, UpdateNews
from app.window_state import WindowState
from engine.protocol import EngineStatus
from engine.protocol_about import UpdateFound


class Watch(QObject):
    status_changed = Signal(object)

    def tell(self, version: str | None, notes_url: str | None = None) -> None:
        update = UpdateFound(version=version, notes_url=notes_url) if version else None
        self.status_changed.emit(
            EngineStatus(version="0.1.0", pid=1, started_at=0, data_folder="/d", update=update)
        )


@pytest.fixture
def bar(qtbot: QtBot) -> NoticeBar:
    made = NoticeBar(Theme.light())
    qtbot.addWidget(made)
    return made


def news(bar: NoticeBar, path: Path) -> tuple[Any, UpdateNews]:
    watch: Any = Watch()
    return watch, UpdateNews(watch, bar, WindowState(path), bar)


def test_it_is_told_once_and_not_again_once_it_was_put_away(bar: NoticeBar, tmp_path: Path) -> None:
    watch, _ = news(bar, tmp_path / "w.ini")
    watch.tell(None)
    assert bar.sentences() == []
    watch.tell("0.2.0")
    [sentence] = bar.sentences()
    assert "0.2.0" in sentence and "0.1.0" in sentence
    notice = bar.notice(NOTICE)
    assert notice is not None and notice.kind == "info" and notice.buttons == []
    notice.close_button.click()
    watch.tell("0.2.0")
    again, _ = news(bar, tmp_path / "w.ini")
    again.tell("0.2.0")
    assert bar.sentences() == []
    again.tell("0.3.0")
    assert "0.3.0" in bar.sentences()[0]


def test_turned_off_it_goes(bar: NoticeBar, tmp_path: Path) -> None:
    watch, _ = news(bar, tmp_path / "w.ini")
    watch.tell("0.2.0")
    watch.tell(None)
    assert bar.sentences() == []


def test_its_page_opens_in_the_browser(
    bar: NoticeBar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url) or True)
    watch, _ = news(bar, tmp_path / "w.ini")
    watch.tell("0.2.0", "https://example.org/notes?v=0.2.0")
    notice = bar.notice(NOTICE)
    assert notice is not None and notice.button is not None and "example.org" in notice.button.text()
    notice.button.click()
    assert opened == [QUrl("https://example.org/notes?v=0.2.0")]
    assert bar.sentences() == []


@pytest.mark.parametrize(
    "page", ["http://example.org/", "file:///etc/passwd", "javascript:x", "https://", "", "x y"]
)
def test_anything_but_a_page_of_https_has_no_button(bar: NoticeBar, tmp_path: Path, page: str) -> None:
    watch, _ = news(bar, tmp_path / "w.ini")
    watch.tell("0.2.0", page)
    notice = bar.notice(NOTICE)
    assert notice is not None and notice.buttons == []


def test_without_a_browser_the_address_is_told(
    bar: NoticeBar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda _url: False)
    watch, _ = news(bar, tmp_path / "w.ini")
    watch.tell("0.2.0", "https://example.org/notes")
    notice = bar.notice(NOTICE)
    assert notice is not None and notice.button is not None
    notice.button.click()
    assert "https://example.org/notes" in bar.sentences()[0]
