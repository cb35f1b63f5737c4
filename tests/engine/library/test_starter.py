"""Where the starter is found: a package, a bundle's folder beside the program, the place of its Debian package."""

import sys
from pathlib import Path

import pytest

from engine.library.starter import starter_file, starter_remedy, starter_removal

NOBODY = "no_such_package_anywhere"


def bundle(monkeypatch: pytest.MonkeyPatch, program: Path) -> None:
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(program))


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_package_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a_model_package" / "__init__.py").write_text("raise RuntimeError('it is not imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert starter_file("a_model_package", "a.gguf") == tmp_path / "a_model_package" / "a.gguf"
    assert "a_model_package" not in sys.modules


def test_a_bundle_looks_beside_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(monkeypatch, tmp_path / "seamount-1" / "seamount")
    assert starter_file(NOBODY, "a.gguf") is None
    model = put(tmp_path / "seamount-1" / "starter" / "a.gguf")
    assert starter_file(NOBODY, "a.gguf") == model


def test_an_installed_bundle_looks_where_the_package_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "usr" / "lib" / "seamount" / "seamount"
    bundle(monkeypatch, program)
    link = tmp_path / "usr" / "bin" / "seamount"
    link.parent.mkdir()
    link.symlink_to(program)
    monkeypatch.setattr(sys, "executable", str(link))
    model = put(tmp_path / "usr" / "share" / "seamount" / "starter" / "a.gguf")
    assert starter_file(NOBODY, "a.gguf") == model


def test_a_checkout_looks_in_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    put(tmp_path / "bin" / "starter" / "a.gguf")
    assert starter_file(NOBODY, "a.gguf") is None


def test_what_to_do_is_what_a_person_can_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "pip" in starter_remedy()
    assert "pip" in starter_removal()
    bundle(monkeypatch, tmp_path / "seamount" / "seamount")
    assert "seamount-starter" in starter_remedy()
    assert "seamount-starter" in starter_removal()
    assert "pip" not in starter_remedy() + starter_removal()
