"""Which call each of the words is."""

from pathlib import Path
from typing import Any

import pytest

from engine import cli, encryption_command, sessions_command
from engine.paths import DataFolder


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def note(name: str) -> Any:
        return lambda *given, **named: made.append((name, given[1:], named)) or 0

    for name in (
        "list_sessions",
        "show",
        "export",
        "import_files",
        "verify",
        "compact",
        "back_up",
        "restore",
        "restore_previous",
    ):
        monkeypatch.setattr(sessions_command, name, note(name))
    monkeypatch.setattr(encryption_command, "encrypt", note("encrypt"))
    return made


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["sessions"], ("list_sessions", (None,), {"as_json": False})),
        (["sessions", "list", "salt", "--json"], ("list_sessions", ("salt",), {"as_json": True})),
        (["sessions", "show", "01"], ("show", ("01",), {"as_json": False})),
        (
            ["sessions", "export", "01", "02"],
            ("export", (["01", "02"],), {"kind": "markdown", "to": None, "every": False}),
        ),
        (
            ["sessions", "export", "--all", "--format", "json", "--to", "x"],
            ("export", ([],), {"kind": "json", "to": Path("x"), "every": True}),
        ),
        (["sessions", "import", "a", "b"], ("import_files", ([Path("a"), Path("b")],), {})),
        (["sessions", "verify"], ("verify", (), {})),
        (["sessions", "compact"], ("compact", (), {})),
        (["sessions", "encrypt"], ("encrypt", (None,), {"remove_plain_files": False})),
        (
            ["sessions", "encrypt", "--on", "--remove-plain-files"],
            ("encrypt", ("on",), {"remove_plain_files": True}),
        ),
        (["sessions", "encrypt", "--off"], ("encrypt", ("off",), {"remove_plain_files": False})),
        (["sessions", "encrypt", "--recover"], ("encrypt", ("recover",), {"remove_plain_files": False})),
        (["backup", "x"], ("back_up", (Path("x"),), {"with_states": False})),
        (["backup", "x", "--with-snapshots"], ("back_up", (Path("x"),), {"with_states": True})),
        (["restore", "x"], ("restore", (Path("x"),), {"only_check": False})),
        (["restore", "--previous"], ("restore_previous", (), {})),
        (["restore", "x", "--check"], ("restore", (Path("x"),), {"only_check": True})),
    ],
)
def test_each(called: list[Any], tmp_path: Path, words: list[str], call: Any) -> None:
    assert cli.main(["--data", str(tmp_path), *words], open_window=lambda _: 9) == 0
    assert called == [call]
    assert not list(DataFolder(tmp_path).root.iterdir())


@pytest.mark.parametrize(
    "words",
    [
        ["sessions", "show"],
        ["sessions", "export", "--format", "pdf"],
        ["backup"],
        ["restore"],
        ["restore", "x", "--previous"],
        ["sessions", "dance"],
    ],
)
def test_what_is_none_of_them(
    called: list[Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words, open_window=lambda _: 9)
    assert left.value.code == 2 and "usage:" in capsys.readouterr().err
