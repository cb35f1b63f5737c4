"""What seamount.spec asks of PyInstaller on each system. PyInstaller itself runs on this one only (`make dist`)."""

import runpy
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SPEC = ROOT / "packaging" / "bundle" / "seamount.spec"


class Asked:
    """Stands for PyInstaller: notes what each of its building blocks is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def block(self, name: str) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, arguments, options))
            return types.SimpleNamespace(name=options.get("name"), binaries=[], datas=[], pure=[], scripts=[])

        return called

    def of(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        return [(arguments, options) for called, arguments, options in self.calls if called == name]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function: the spec on a system of that name."""
    (tmp_path / "libllama.so").touch()
    monkeypatch.setenv("SEAMOUNT_LLAMA_LIBRARIES", str(tmp_path))
    monkeypatch.setenv("SEAMOUNT_SYSTEM_LIBRARIES", str(tmp_path / "libraries.json"))
    monkeypatch.delenv("SEAMOUNT_SIGN_AS", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # Which packages there are is the same question everywhere, and its answer on another system is not known here.
    none = types.SimpleNamespace(
        ROOMS=("app", "engine", "convert", "kernels"),
        bundled=list,
        room_modules=lambda _root: [],
        standard_library=list,
        wanted=lambda _place: True,
    )
    monkeypatch.setitem(sys.modules, "distributions", none)
    before = set(sys.modules)

    def on(system: str) -> Asked:
        found = Asked()
        blocks = {name: found.block(name) for name in ("Analysis", "PYZ", "EXE", "COLLECT", "BUNDLE")}
        with monkeypatch.context() as patched:
            patched.setattr(sys, "platform", system)
            runpy.run_path(str(SPEC), {**blocks, "SPECPATH": str(SPEC.parent)})
        return found

    yield on
    for name in {"qt_files", "system_libraries", "property_list"} - before:
        sys.modules.pop(name, None)


def test_on_linux_there_is_one_program(asked: Any) -> None:
    found = asked("linux")
    (program,) = (options for _, options in found.of("EXE"))
    assert (program["name"], program["console"], program["entitlements_file"]) == ("seamount", True, None)
    ((collected, options),) = found.of("COLLECT")
    assert options["name"] == "seamount"
    assert [each.name for each in collected if hasattr(each, "name")] == ["seamount"]
    assert found.of("BUNDLE") == []


def test_on_windows_there_are_two_and_the_one_for_terminals_can_be_heard(asked: Any) -> None:
    from engine import own_program

    found = asked("win32")
    consoles = {f"{options['name']}.exe": options["console"] for _, options in found.of("EXE")}
    assert consoles == {"seamount.exe": False, own_program.CONSOLE_PROGRAM: True}
    # One and the same program, in one folder.
    (first, second) = (arguments for arguments, _ in found.of("EXE"))
    assert first[0] is second[0]
    ((collected, _),) = found.of("COLLECT")
    assert [each.name for each in collected if hasattr(each, "name")] == ["seamount", "seamount-cli"]


def test_on_a_mac_there_is_an_app_that_is_signed_as_was_asked(
    asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAMOUNT_SIGN_AS", "Developer ID Application: Nobody")
    found = asked("darwin")
    (program,) = (options for _, options in found.of("EXE"))
    # What is for a console has no window there.
    assert (program["name"], program["console"]) == ("seamount", False)
    assert program["codesign_identity"] == "Developer ID Application: Nobody"
    assert Path(program["entitlements_file"]).samefile(ROOT / "packaging" / "macos" / "entitlements.plist")
    ((_, app),) = found.of("BUNDLE")
    assert app["name"] == "Seamount.app"
    assert app["info_plist"]["CFBundleExecutable"] == program["name"]
    assert app["bundle_identifier"] == app["info_plist"]["CFBundleIdentifier"]
