"""What the window remembers."""

import os
from pathlib import Path

from PySide6.QtCore import QByteArray

from app.window_state import WindowState


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "window.ini"
    first = WindowState(path)
    draft = 'a, b; "c"\nline two \\ [x] ünï 😀'
    first.theme, first.zoom, first.session_id, first.draft = "dark", 1.25, "s1", draft
    first.geometry, first.splitter, first.sidebar_shown = QByteArray(b"\0\1geo"), QByteArray(b"sp"), False
    first.mode, first.welcomed = "max", True
    first.save()
    again = WindowState(path)
    assert (again.theme, again.zoom, again.session_id, again.draft) == ("dark", 1.25, "s1", draft)
    assert (again.geometry, again.splitter) == (QByteArray(b"\0\1geo"), QByteArray(b"sp"))
    assert again.sidebar_shown is False
    assert again.mode == "max"
    assert again.welcomed
    assert os.name == "nt" or path.stat().st_mode & 0o077 == 0


def test_while_conversations_are_encrypted_no_draft_is_written(tmp_path: Path) -> None:
    path = tmp_path / "window.ini"
    state = WindowState(path)
    assert state.keeps_draft
    state.draft = "quixotic"
    state.save()
    assert b"quixotic" in path.read_bytes()
    state.keeps_draft = False
    state.save()
    assert b"quixotic" not in path.read_bytes()
    # Also by the next window, before any engine has said so again.
    again = WindowState(path)
    again.draft = "quixotic"
    again.save()
    assert again.draft == ""
    assert b"quixotic" not in path.read_bytes()
    again.keeps_draft = True
    again.draft = "quixotic"
    assert WindowState(path).keeps_draft
    assert again.draft == "quixotic"


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    state = WindowState(tmp_path / "none.ini")
    assert (state.theme, state.zoom, state.session_id, state.draft) == ("system", 1.0, None, "")
    assert state.sidebar_shown
    assert not state.welcomed
    assert state.mode == "high"
    assert state.geometry.isEmpty()


def test_nonsense_in_the_file_is_as_no_file(tmp_path: Path) -> None:
    path = tmp_path / "window.ini"
    path.write_text(
        "[look]\ntheme=purple\nzoom=17\n[window]\ngeometry=1,2,3\n[conversation]\nsession=a,b\nmode=turbo\n"
    )
    state = WindowState(path)
    assert (state.theme, state.zoom, state.session_id, state.mode) == ("system", 1.0, None, "high")
    assert state.geometry.isEmpty()


def test_a_place_that_cannot_be_written_is_silent(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    state = WindowState(blocked / "window.ini")
    state.draft = "x"
    state.save()
