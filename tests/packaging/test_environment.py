"""The set-up's decisions: what is missing, and which `.venv` can be gone on with."""

import ast
import importlib.util
import platform
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "environment.py"
HERE = platform.python_version()


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with a `.venv` of the test's own."""
    spec = importlib.util.spec_from_file_location("seamount_environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / "a folder" / ".venv")
    monkeypatch.setattr(module, "UNFINISHED", module.VENV / ".seamount-unfinished")
    module.VENV.parent.mkdir()
    return module


@pytest.fixture
def created(environment: Any, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where environments were made; each is a configuration and an interpreter, as the real ones."""
    made: list[Path] = []

    def create(folder: Path, *, with_pip: bool) -> None:
        made.append(folder)
        python = environment.venv_python(folder)
        python.parent.mkdir(parents=True)
        python.touch()
        (folder / "pyvenv.cfg").write_text(f"version = {HERE}\ncommand = python -m venv {folder}\n")

    monkeypatch.setattr(environment.venv, "create", create)
    return made


def test_a_whole_environment_is_gone_on_with(environment: Any, created: list[Path]) -> None:
    environment.make_venv()
    (environment.VENV / "kept").touch()
    environment.make_venv()
    assert created == [environment.VENV]
    assert (environment.VENV / "kept").exists()


def test_an_interrupted_one_is_made_anew(environment: Any, created: list[Path]) -> None:
    environment.make_venv()
    environment.UNFINISHED.touch()
    (environment.VENV / "half a package").touch()
    environment.make_venv()
    assert len(created) == 2
    assert not (environment.VENV / "half a package").exists()
    assert not environment.UNFINISHED.exists()


def test_one_whose_making_was_interrupted_is_made_anew(
    environment: Any, created: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, *, with_pip: bool) -> None:
        environment.venv_python().parent.mkdir(parents=True)
        environment.venv_python().touch()  # but no pip yet
        raise KeyboardInterrupt

    with monkeypatch.context() as first, pytest.raises(KeyboardInterrupt):
        first.setattr(environment.venv, "create", interrupted)
        environment.make_venv()
    environment.make_venv()
    assert created == [environment.VENV]


def test_a_failed_installation_is_not_trusted(environment: Any, created: list[Path], tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "llama.whl").touch()
    environment.llama_wheel = lambda: wheels
    environment.missing_packages = lambda *_, **__: []

    def killed(*arguments: str) -> None:
        raise KeyboardInterrupt

    environment.pip = killed
    with pytest.raises(KeyboardInterrupt):
        environment.make_ready("run")
    asked: list[str] = []
    environment.pip = lambda *arguments: asked.append(arguments[0])
    environment.make_ready("run")
    assert len(created) == 2
    assert asked == ["install"] * 4
    environment.make_ready("run")
    assert len(created) == 2
    assert len(asked) == 4


def test_a_checkout_that_was_moved_gets_its_own(environment: Any, created: list[Path]) -> None:
    environment.make_venv()
    (environment.VENV / "pyvenv.cfg").write_text(f"version = {HERE}\ncommand = python -m venv /old/.venv\n")
    environment.make_venv()
    assert len(created) == 2


def test_another_python_gets_its_own(environment: Any, created: list[Path]) -> None:
    environment.make_venv()
    (environment.VENV / "pyvenv.cfg").write_text(
        f"version = 3.10.4\ncommand = python -m venv {environment.VENV}\n"
    )
    environment.make_venv()
    assert len(created) == 2


def test_an_old_python_gets_as_far_as_the_sentence() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 8))
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    # `list[str]` in a signature is an error before Python 3.9 unless it is left alone.
    assert "annotations" in {name.name for node in futures for name in node.names}


@pytest.mark.skipif(sys.platform != "linux", reason="only there is it known what a package is called")
def test_a_python_without_venv_names_the_package(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    assert wanted in environment.missing_packages("run", building=False)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no apt-get there")
def test_without_permission_there_is_one_line_to_paste(
    environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.shutil, "which", lambda name: name if name == "apt-get" else None)
    monkeypatch.setattr(environment.os, "geteuid", lambda: 1000)
    with pytest.raises(environment.SetupError) as raised:
        environment.install_packages(["libegl1", "xvfb"])
    # A machine that never fetched its package lists finds nothing without the first half.
    line = "sudo apt-get update && sudo apt-get install --no-install-recommends libegl1 xvfb"
    assert str(raised.value).splitlines()[-1].strip() == line


@pytest.fixture
def reference(environment: Any, created: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for `.venv-reference`; making it creates an empty environment."""
    folder = tmp_path / ".venv-reference"
    monkeypatch.setattr(environment, "REFERENCE", folder)

    def create(path: Path, *, with_pip: bool) -> None:
        path.mkdir()

    monkeypatch.setattr(environment.venv, "create", create)
    return folder


def test_a_machine_without_the_reference_is_told_and_goes_on(
    environment: Any, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: str, **__: object) -> None:
        raise environment.SetupError("no such wheel")

    environment.pip = fails
    environment.make_reference()
    assert not reference.exists()
    said = capsys.readouterr().out
    assert "no such wheel" in said
    assert "will be skipped" in said


def test_a_reference_that_was_begun_is_made_anew(
    environment: Any, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference.mkdir()
    (reference / "half a package").touch()
    installed: list[str] = []
    environment.pip = lambda *arguments, **_: installed.append(arguments[-1])
    done = environment.subprocess.CompletedProcess([], 0)
    monkeypatch.setattr(environment.subprocess, "run", lambda *_, **__: done)
    environment.make_reference()
    assert not (reference / "half a package").exists()
    assert [Path(lock).name for lock in installed] == ["reference-torch.txt", "reference.txt"]
    environment.make_reference()
    assert len(installed) == 2


@pytest.fixture
def bundling(environment: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where installers are made is of the test's own; what is installed there, in order."""
    installed: list[str] = []
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "llama.whl").touch()
    monkeypatch.setattr(environment, "BUNDLING", tmp_path / ".venv-bundle")
    monkeypatch.setattr(environment, "llama_wheel", lambda: wheels)
    monkeypatch.setattr(
        environment, "pip", lambda *arguments, **_: installed.append(Path(arguments[-1]).name)
    )
    return installed


def test_what_the_bundle_is_made_in_is_made_once(
    environment: Any, created: list[Path], bundling: list[str]
) -> None:
    environment.make_bundling()
    # The program's packages, the tools, the starter, llama.cpp's modules, Seamount; nothing that only tests need.
    assert sorted(bundling) == sorted(
        ["bundle.txt", "run.txt", "starter.txt", "llama.whl", SCRIPT.parents[1].name]
    )
    environment.make_bundling()
    assert len(bundling) == 5
    stamp = environment.BUNDLING / ".seamount-bundle"
    stamp.write_text("of other locks")
    (environment.BUNDLING / "left over").touch()
    environment.make_bundling()
    assert len(bundling) == 10
    assert not (environment.BUNDLING / "left over").exists()


def test_one_that_failed_is_begun_anew(environment: Any, created: list[Path], bundling: list[str]) -> None:
    working = environment.pip

    def failing(*arguments: str, **_: object) -> None:
        raise environment.SetupError("pip install failed")

    environment.pip = failing
    with pytest.raises(environment.SetupError, match="pip install failed"):
        environment.make_bundling()
    environment.pip = working
    environment.make_bundling()
    assert len(bundling) == 5


def test_without_what_makes_packages_there_is_no_going_on(
    environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(environment.shutil, "which", lambda _: None)
    wanted: list[list[str]] = []
    environment.install_packages = wanted.append
    environment.install_tools()
    assert wanted[0] == ["binutils", "dpkg", "xz-utils"]
    assert "lintian" in wanted[1]


def test_without_what_checks_packages_it_is_told(
    environment: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment.sys, "platform", "linux")
    monkeypatch.setattr(
        environment.shutil, "which", lambda name: None if name == "lintian" else f"/usr/bin/{name}"
    )

    def refuse(packages: list[str]) -> None:
        raise environment.SetupError(f"install {' '.join(packages)}")

    environment.install_packages = refuse
    environment.install_tools()
    said = capsys.readouterr().out
    assert "lintian" in said
    assert "not checked" in said
