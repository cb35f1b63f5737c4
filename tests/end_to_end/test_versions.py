"""A data folder under a newer Seamount and an older one again, in the real window: nothing that was said is lost."""

import json
import shutil

import pytest
from pytestqt.qtbot import QtBot

from app.engine_watch import EngineState
from engine.paths import DataFolder
from engine.version import version
from tests.end_to_end.conftest import OpenWindow
from tests.end_to_end.live_window import START_TIMEOUT_MS, LiveWindow, end_engine

pytestmark = [pytest.mark.qt_log_ignore("propagateSizeHints"), pytest.mark.slow]


def noted(folder: DataFolder, name: str) -> None:
    """Be a folder that this version used last; all that tells a version from another is its note."""
    found = json.loads(folder.version_note.read_text())
    folder.version_note.write_text(json.dumps({**found, "version": name}))


def closed(live: LiveWindow, folder: DataFolder) -> None:
    live.close()
    end_engine(folder)


def test_backed_up_refused_put_back(open_window: OpenWindow, folder: DataFolder, qtbot: QtBot) -> None:
    live = open_window().ready()
    live.ask("Said to the older one")
    live.wait_for_end()
    closed(live, folder)

    # An older version used it: this one backs up first, says so, and goes on.
    noted(folder, "0.0.1")
    live = open_window().ready()
    backup = folder.backups / f"before-{version()}.seamount"
    live.wait(lambda: str(backup) in live.sentences())
    assert backup.is_file()
    live.ask("Said to the newer one")
    live.wait_for_end()
    closed(live, folder)

    # A newer one has used it since: this one is the older now.
    noted(folder, "99.0.0")
    live = open_window()
    live.wait(
        lambda: live.window.desk is not None and live.desk.watch.state == EngineState.STOPPED,
        START_TIMEOUT_MS,
    )
    live.wait(lambda: "99.0.0" in live.sentences())
    assert version() in live.sentences()
    notice = live.window.notices.notice("engine")
    assert notice is not None and len(notice.buttons) == 2
    notice.buttons[1].click()
    live.ready()
    with_questions = json.dumps([each.model_dump() for each in live.shown()])
    assert "Said to the newer one" not in with_questions
    [aside] = folder.root.glob("before-restore-*")
    assert b"Said to the newer one" in (aside / "sessions.db").read_bytes()
    assert json.loads(folder.version_note.read_text())["version"] == version()


def test_without_room_for_the_backup_a_person_is_asked(
    open_window: OpenWindow, folder: DataFolder, qtbot: QtBot
) -> None:
    closed(open_window().ready(), folder)
    noted(folder, "0.0.1")
    shutil.rmtree(folder.backups, ignore_errors=True)
    folder.backups.write_bytes(b"in the way")
    live = open_window()
    live.wait(
        lambda: live.window.desk is not None and live.desk.watch.state == EngineState.STOPPED,
        START_TIMEOUT_MS,
    )
    live.wait(lambda: "backed up first" in live.sentences())
    notice = live.window.notices.notice("engine")
    assert notice is not None
    assert [button.text() for button in notice.buttons] == ["Restart", "Start without a backup"]
    notice.buttons[1].click()
    live.ready()
    assert json.loads(folder.version_note.read_text())["version"] == version()
