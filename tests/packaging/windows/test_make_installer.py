"""The installer for Windows: what goes into it, and, under wine, what it puts on a machine and takes away again.

The programs in the bundles here are stubs that NSIS itself makes: each notes what it was started with.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "packaging" / "windows" / "make_installer.py"
PATIENCE_S = 60
# Each of wine's programs takes a second to start; a busy machine makes that several.
pytestmark = pytest.mark.timeout(900)

needs_nsis = pytest.mark.skipif(shutil.which("makensis") is None, reason="makensis is missing (Debian: nsis)")
needs_wine = pytest.mark.skipif(
    shutil.which("makensis") is None or shutil.which("wine") is None,
    reason="makensis or wine is missing (Debian: nsis, wine, wine64)",
)

# Debian's wine runs 64-bit programs only, so everything here is compiled for those.
TARGET = "amd64-unicode"
STUB = r"""
Unicode true
Target amd64-unicode
SilentInstall silent
RequestExecutionLevel user
OutFile "{output}"
!include "FileFunc.nsh"
Section
  ${{GetParameters}} $0
  FileOpen $1 "$PROFILE\started.new" w
  FileWriteUTF16LE $1 "{mark}|$0"
  FileClose $1
  Rename "$PROFILE\started.new" "$PROFILE\started.txt"
held:
  IfFileExists "$PROFILE\hold.txt" 0 +3
  Sleep 20
  Goto held
SectionEnd
"""


def loaded() -> Any:
    spec = importlib.util.spec_from_file_location("seamount_make_installer", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_installer() -> ModuleType:
    return loaded()


def bundle(folder: Path, *files: str) -> Path:
    for name in ("seamount.exe", "seamount-cli.exe", *files):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} of {folder.name}")
    return folder


# --- what goes into it -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("0.1.0", "0.1.0.0"), ("1.2", "1.2.0.0"), ("0.2.0rc1", "0.2.0.0"), ("1.2.3.4.5", "1.2.3.4")],
)
def test_windows_is_told_four_numbers(make_installer: Any, version: str, numbers: str) -> None:
    assert make_installer.version_numbers(version) == numbers


def test_a_version_without_a_number_is_refused(make_installer: Any) -> None:
    with pytest.raises(make_installer.InstallerError, match="has to begin with a number"):
        make_installer.version_numbers("next")


def test_what_is_put_somewhere_is_taken_away(make_installer: Any, tmp_path: Path) -> None:
    made = bundle(tmp_path / "made", "_internal/a/b/deep.dll", "_internal/größe.txt")
    files = make_installer.bundle_files(made)
    install = make_installer.install_list(made, files).splitlines()
    assert install == [
        'SetOutPath "$INSTDIR"',
        f'File "{made}/seamount-cli.exe"',
        f'File "{made}/seamount.exe"',
        'SetOutPath "$INSTDIR\\_internal"',
        f'File "{made}/_internal/größe.txt"',
        'SetOutPath "$INSTDIR\\_internal\\a\\b"',
        f'File "{made}/_internal/a/b/deep.dll"',
    ]
    assert make_installer.remove_list(files).splitlines() == [
        'Delete "$INSTDIR\\_internal\\a\\b\\deep.dll"',
        'Delete "$INSTDIR\\_internal\\größe.txt"',
        'Delete "$INSTDIR\\seamount-cli.exe"',
        'Delete "$INSTDIR\\seamount.exe"',
        'RMDir "$INSTDIR\\_internal\\a\\b"',
        'RMDir "$INSTDIR\\_internal\\a"',
        'RMDir "$INSTDIR\\_internal"',
    ]


def test_what_is_no_bundle_is_refused(make_installer: Any, tmp_path: Path) -> None:
    (tmp_path / "seamount.exe").touch()
    with pytest.raises(
        make_installer.InstallerError, match=r"because seamount-cli\.exe is not in it; build one"
    ):
        make_installer.bundle_files(tmp_path)


@pytest.mark.parametrize("name", ["a$INSTDIR.txt", 'a".txt', "a\nb"])
def test_a_name_that_a_script_would_read_otherwise_is_refused(
    make_installer: Any, tmp_path: Path, name: str
) -> None:
    made = bundle(tmp_path / "made", name)
    files = make_installer.bundle_files(made)
    with pytest.raises(make_installer.InstallerError, match="cannot be told to NSIS; rename it"):
        make_installer.install_list(made, files)
    with pytest.raises(make_installer.InstallerError, match="cannot be told to NSIS; rename it"):
        make_installer.remove_list(files)


def test_a_path_too_long_for_windows_and_a_link_are_refused(make_installer: Any, tmp_path: Path) -> None:
    long = bundle(tmp_path / "long", f"_internal/{'a' * 100}/{'b' * 100}")
    with pytest.raises(make_installer.InstallerError, match="its path is longer than"):
        make_installer.bundle_files(long)
    linked = bundle(tmp_path / "linked")
    (linked / "link.dll").symlink_to(linked / "seamount.exe")
    with pytest.raises(
        make_installer.InstallerError, match=r"link\.dll cannot be installed, because it is a link"
    ):
        make_installer.bundle_files(linked)


def test_what_it_takes_is_counted_as_windows_disks_count(make_installer: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(bytes(4097))
    (tmp_path / "c").touch()
    assert make_installer.disk_kib(tmp_path, [Path("a"), Path("b"), Path("c")]) == 12


def test_without_makensis_it_is_said(
    make_installer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(make_installer.InstallerError, match="makensis is not on the path; install NSIS"):
        make_installer.make_installer(tmp_path, tmp_path / "pictures", tmp_path / "out.exe")


def pictures(folder: Path) -> Path:
    """One pixel each, 32 bits in the icon, 24 in the bitmap."""
    folder.mkdir(parents=True)
    pixel = struct.pack("<IiiHHIIiiII", 40, 1, 2, 1, 32, 0, 8, 0, 0, 0, 0) + b"\xff\xff\xff\xff" + bytes(4)
    (folder / "seamount.ico").write_bytes(
        struct.pack("<HHHBBBBHHII", 0, 1, 1, 1, 1, 0, 0, 1, 32, len(pixel), 22) + pixel
    )
    pixel = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + bytes(4)
    (folder / "seamount.bmp").write_bytes(struct.pack("<2sIHHI", b"BM", 14 + len(pixel), 0, 0, 54) + pixel)
    return folder


@needs_nsis
@pytest.mark.slow
def test_it_compiles_for_the_stub_that_every_windows_starts(make_installer: Any, tmp_path: Path) -> None:
    output = tmp_path / "new folder" / "seamount-setup.exe"
    made = bundle(tmp_path / "made", "_internal/größe.txt")
    make_installer.make_installer(made, pictures(tmp_path / "pictures"), output)
    content = output.read_bytes()
    (header,) = struct.unpack_from("<I", content, 0x3C)
    assert content[header : header + 4] == b"PE\0\0"
    assert struct.unpack_from("<H", content, header + 4) == (0x14C,)  # IMAGE_FILE_MACHINE_I386


@needs_nsis
@pytest.mark.slow
def test_a_failure_of_makensis_is_told_and_leaves_nothing(make_installer: Any, tmp_path: Path) -> None:
    output = tmp_path / "seamount-setup.exe"
    (pictures(tmp_path / "pictures") / "seamount.ico").write_bytes(b"no icon")
    with pytest.raises(make_installer.InstallerError, match="makensis failed"):
        make_installer.make_installer(bundle(tmp_path / "made"), tmp_path / "pictures", output)
    assert not output.exists()


# --- what it does on a machine -----------------------------------------------------------------------------


UNINSTALL_KEY = "HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\Seamount"
CLASSES = "HKCU\\Software\\Classes"


@dataclass(frozen=True)
class Wine:
    """A machine with Windows, and nothing on it."""

    prefix: Path

    @property
    def home(self) -> Path:
        return next(path for path in (self.prefix / "drive_c" / "users").iterdir() if path.name != "Public")

    @property
    def environment(self) -> dict[str, str]:
        # No window, no menu entries on the machine that this runs on, no offer to fetch Mono.
        here = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "SEAMOUNT_DATA")}
        overrides = "mscoree=;mshtml=;winemenubuilder.exe="
        wine = {"WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": overrides}
        return here | wine | {"LC_ALL": "C.UTF-8"}

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """A program to its end. Wine quotes an argument that has a space in it."""
        return subprocess.run(
            ["wine", *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
        )

    def settle(self) -> None:
        """Wait until no program runs any more: an uninstaller goes on as a copy of itself."""
        subprocess.run(["wineserver", "-w"], env=self.environment, check=True, timeout=PATIENCE_S)

    @contextlib.contextmanager
    def merged_classes(self) -> Iterator[None]:
        """Windows looks for who opens what in the person's classes and in the machine's. This wine looks in the
        machine's only; so put the person's there meanwhile."""
        exported = self.prefix / "drive_c" / "classes.reg"
        assert self.run("reg", "export", CLASSES, "C:\\classes.reg", "/y").returncode == 0
        text = exported.read_text("utf-16").replace("HKEY_CURRENT_USER", "HKEY_LOCAL_MACHINE")
        exported.write_text(text, "utf-16")
        assert self.run("reg", "import", "C:\\classes.reg").returncode == 0
        exported.unlink()
        try:
            yield
        finally:
            for key in (".gguf", "seamount", "Seamount.gguf", "Seamount.link"):
                self.run("reg", "delete", f"HKLM\\Software\\Classes\\{key}", "/f")

    def set_value(self, key: str, name: str | None, value: str) -> None:
        which = ["/ve"] if name is None else ["/v", name]
        assert self.run("reg", "add", key, *which, "/d", value, "/f").returncode == 0

    def registry(self) -> dict[str, dict[str, str]]:
        """All that the person's part of the registry holds: key → name → value; the key's own has the name "".
        Without Wine's own keys, which come and go with its services."""
        assert self.run("reg", "export", "HKCU\\Software", "C:\\all.reg", "/y").returncode == 0
        exported = self.prefix / "drive_c" / "all.reg"
        keys: dict[str, dict[str, str]] = {}
        for line in exported.read_text("utf-16").replace("\\\n", "").splitlines():
            if line.startswith("["):
                values = keys.setdefault(line.strip("[]").replace("HKEY_CURRENT_USER", "HKCU"), {})
            elif match := re.fullmatch(r'(@|"(?P<name>[^"]*)")=(?P<value>.*)', line):
                text = match["value"]
                if text.startswith('"'):
                    text = re.sub(r"\\(.)", r"\1", text[1:-1])
                values[match["name"] or ""] = text
        exported.unlink()
        return {key: values for key, values in keys.items() if not key.startswith("HKCU\\Software\\Wine")}

    def files(self) -> set[str]:
        """Every file and folder, but those for passing use."""
        root = self.prefix / "drive_c"
        found = {str(path.relative_to(root)) for path in root.rglob("*")}
        return {path for path in found if "/Temp/" not in path and "/temp/" not in path}

    def started(self) -> str | None:
        """What the last stub noted of its start, which is then forgotten."""
        note = self.home / "started.txt"
        if not note.exists():
            return None
        text = note.read_bytes().decode("utf-16-le").lstrip("\ufeff")
        note.unlink()
        return text


@pytest.fixture(scope="module")
def bare_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wine]:
    machine = Wine(tmp_path_factory.mktemp("wine") / "prefix")
    try:
        done = subprocess.run(
            ["wineboot", "-i"], env=machine.environment, capture_output=True, text=True, timeout=170
        )
        assert done.returncode == 0, done.stderr
        machine.settle()
        machine.set_value("HKCU\\Software\\Wine", "Version", "win10")
        # Every Windows has this key from the beginning.
        assert machine.run("reg", "add", CLASSES, "/f").returncode == 0
        yield machine
    finally:
        subprocess.run(["wineserver", "-k"], env=machine.environment, timeout=PATIENCE_S)
        # Most of a gigabyte, which pytest would keep for three runs.
        shutil.rmtree(machine.prefix, ignore_errors=True)


@pytest.fixture(scope="module")
def setups(make_installer: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Installers of two versions, and of one that takes more than any disk here has."""
    folder = tmp_path_factory.mktemp("setups")
    shown = pictures(folder / "pictures")
    made: dict[str, Path] = {}
    for version, files in {
        "0.1.0": ["_internal/kept.dll", "_internal/old only/gone.dll"],
        "0.2.0": ["_internal/kept.dll", "_internal/größe 文.txt", "_internal/a/b/new.dll"],
    }.items():
        content = bundle(folder / version, *files)
        for name in ("seamount", "seamount-cli"):
            script = folder / "stub.nsi"
            script.write_text(STUB.format(output=content / f"{name}.exe", mark=f"{name} {version}"))
            subprocess.run(["makensis", "-V1", str(script)], check=True, timeout=PATIENCE_S)
        made[version] = folder / f"seamount-{version}.exe"
        make_installer.make_installer(content, shown, made[version], version=version, target=TARGET)
    huge = loaded()
    huge.disk_kib = lambda *_: 2**31 - 1
    made["huge"] = folder / "seamount-huge.exe"
    huge.make_installer(folder / "0.1.0", shown, made["huge"], version="0.1.0", target=TARGET)
    return made


@pytest.fixture
def machine(bare_machine: Wine) -> Iterator[Wine]:
    yield bare_machine
    (bare_machine.home / "hold.txt").unlink(missing_ok=True)
    bare_machine.settle()
    for folder in (
        bare_machine.home / "AppData/Local/Programs/Seamount",
        bare_machine.home / "Ein Ordner für 文",
    ):
        for uninstaller in list(folder.rglob("uninstall.exe")):
            bare_machine.run(uninstaller, "/S")
            bare_machine.settle()
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(bare_machine.home / "AppData/Local/seamount", ignore_errors=True)
    bare_machine.started()


def installed(machine: Wine) -> Path:
    return machine.home / "AppData/Local/Programs/Seamount"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@needs_wine
@pytest.mark.slow
def test_it_installs_is_opened_by_file_and_link_and_goes_without_a_trace(
    machine: Wine, setups: dict[str, Path]
) -> None:
    # Another program opens models here already, and a conversation lies in the data folder.
    machine.set_value(f"{CLASSES}\\.gguf", None, "Other.model")
    data = machine.home / "AppData/Local/seamount"
    data.mkdir(parents=True)
    (data / "sessions.db").write_text("a conversation")
    registry, files = machine.registry(), machine.files()

    done = machine.run(setups["0.1.0"], "/S")
    assert (done.returncode, done.stdout.strip()) == (0, "")
    here = tree(installed(machine))
    del here["uninstall.exe"]
    assert here == tree(setups["0.1.0"].parent / "0.1.0")
    assert (machine.home / "AppData/Roaming/Microsoft/Windows/Start Menu/Programs/Seamount.lnk").exists()

    place = f"C:\\users\\{machine.home.name}\\AppData\\Local\\Programs\\Seamount"
    now = machine.registry()
    entry = now[UNINSTALL_KEY]
    assert (entry["DisplayName"], entry["DisplayVersion"]) == ("Seamount", "0.1.0")
    assert entry["InstallLocation"] == place
    assert entry["QuietUninstallString"] == f'"{place}\\uninstall.exe" /S'
    size_kib = sum(-(-len(content) // 4096) * 4 for content in here.values())
    assert entry["EstimatedSize"] == f"dword:{size_kib:08x}"
    capabilities = "HKCU\\" + now["HKCU\\Software\\RegisteredApplications"]["Seamount"]
    opener = f'"{place}\\seamount.exe" "%1"'
    for kind, name in (("FileAssociations", ".gguf"), ("URLAssociations", "seamount")):
        opening = now[f"{capabilities}\\{kind}"][name]
        assert now[f"{CLASSES}\\{opening}\\shell\\open\\command"][""] == opener

    # It is offered for models beside the other one, which stays the one that opens them.
    assert now[f"{CLASSES}\\.gguf\\OpenWithProgids"] == {"Seamount.gguf": ""}
    assert now[f"{CLASSES}\\.gguf"][""] == "Other.model"

    with machine.merged_classes():
        machine.run("start", "/wait", "seamount://get/flash-0731")
    assert machine.started() == 'seamount 0.1.0|"seamount://get/flash-0731"'
    machine.set_value(f"{CLASSES}\\.gguf", None, "Seamount.gguf")  # the person chooses
    (machine.home / "ein Modell.gguf").touch()
    with machine.merged_classes():
        machine.run("start", "/wait", f"C:\\users\\{machine.home.name}\\ein Modell.gguf")
    assert machine.started() == f'seamount 0.1.0|"C:\\users\\{machine.home.name}\\ein Modell.gguf"'
    (machine.home / "ein Modell.gguf").unlink()
    machine.set_value(f"{CLASSES}\\.gguf", None, "Other.model")

    # As a copy, so that it ends where it can be heard. The data stays, and where it is is said.
    shutil.copy(installed(machine) / "uninstall.exe", machine.home / "copy.exe")
    done = machine.run(machine.home / "copy.exe", "/S", f"_?={place}")
    (machine.home / "copy.exe").unlink()
    assert done.returncode == 0
    kept = f"C:\\users\\{machine.home.name}\\AppData\\Local\\seamount"
    assert f"Your conversations, settings and models are still in {kept}." in done.stdout
    assert (data / "sessions.db").read_text() == "a conversation"
    assert machine.files() == files
    assert machine.registry() == registry
    machine.run("reg", "delete", f"{CLASSES}\\.gguf", "/f")


@needs_wine
@pytest.mark.slow
@pytest.mark.parametrize("name", ["C:\\users", "Z:"], ids=["its own name", "another name"])
def test_the_uninstaller_that_windows_starts_removes_itself_too(
    machine: Wine, setups: dict[str, Path], name: str
) -> None:
    registry, files = machine.registry(), machine.files()
    assert machine.run(setups["0.1.0"], "/S").returncode == 0
    # Wine's Z: is this machine's root: the same folder, by another name.
    place = installed(machine) / "uninstall.exe"
    known_as = f"Z:{place}" if name == "Z:" else f"{name}\\{place.relative_to(machine.home.parent)}"
    assert machine.run(known_as.replace("/", "\\"), "/S").returncode == 0
    machine.settle()
    assert machine.files() - files == set()
    assert machine.registry() == registry


@needs_wine
@pytest.mark.slow
def test_a_newer_version_takes_the_place_of_an_older_one(machine: Wine, setups: dict[str, Path]) -> None:
    assert machine.run(setups["0.1.0"], "/S").returncode == 0
    (installed(machine) / "_internal" / "of somebody else.txt").write_text("mine")
    data = machine.home / "AppData/Local/seamount"
    data.mkdir()
    (data / "sessions.db").write_text("a conversation")
    done = machine.run(setups["0.2.0"], "/S")
    assert (done.returncode, done.stdout.strip()) == (0, "")
    here = tree(installed(machine))
    del here["uninstall.exe"]
    assert here.pop("_internal/of somebody else.txt") == b"mine"
    assert here == tree(setups["0.2.0"].parent / "0.2.0")
    assert machine.registry()[UNINSTALL_KEY]["DisplayVersion"] == "0.2.0"
    assert (data / "sessions.db").read_text() == "a conversation"


@needs_wine
@pytest.mark.slow
def test_into_another_folder_it_moves(machine: Wine, setups: dict[str, Path]) -> None:
    assert machine.run(setups["0.1.0"], "/S").returncode == 0
    # NSIS takes all that follows /D= as it stands; so it is given word by word, without quotes.
    words = f"/D=C:\\users\\{machine.home.name}\\Ein Ordner für 文\\See berg".split()
    assert machine.run(setups["0.2.0"], "/S", *words).returncode == 0
    assert not installed(machine).exists()
    place = machine.home / "Ein Ordner für 文" / "See berg"
    here = tree(place)
    del here["uninstall.exe"]
    assert here == tree(setups["0.2.0"].parent / "0.2.0")
    with machine.merged_classes():
        machine.run("start", "/wait", "seamount://get/flash-0731")
    assert machine.started() == 'seamount 0.2.0|"seamount://get/flash-0731"'
    # The next one goes where this one is.
    assert machine.run(setups["0.1.0"], "/S").returncode == 0
    assert (place / "_internal" / "old only" / "gone.dll").exists()
    assert machine.run(place / "uninstall.exe", "/S").returncode == 0
    machine.settle()
    assert not place.exists()


@needs_wine
@pytest.mark.slow
@pytest.mark.parametrize("program", ["seamount.exe", "seamount-cli.exe"])
def test_while_it_runs_it_is_neither_replaced_nor_removed(
    machine: Wine, setups: dict[str, Path], program: str
) -> None:
    assert machine.run(setups["0.1.0"], "/S").returncode == 0
    before = tree(installed(machine))
    (machine.home / "hold.txt").touch()
    running = subprocess.Popen(["wine", str(installed(machine) / program)], env=machine.environment)
    deadline = time.monotonic() + PATIENCE_S
    while machine.started() is None:
        assert time.monotonic() < deadline, "the stub did not start"
    done = machine.run(setups["0.2.0"], "/S")
    assert done.returncode == 2
    assert "Seamount cannot be replaced while it or one of its downloads is running in" in done.stdout
    place = f"C:\\users\\{machine.home.name}\\AppData\\Local\\Programs\\Seamount"
    done = machine.run(installed(machine) / "uninstall.exe", "/S", f"_?={place}")
    assert done.returncode == 2
    assert "Seamount cannot be removed while it or one of its downloads is running in" in done.stdout
    (machine.home / "hold.txt").unlink()
    assert running.wait(PATIENCE_S) == 0
    assert tree(installed(machine)) == before
    assert machine.registry()[UNINSTALL_KEY]["DisplayVersion"] == "0.1.0"
    assert machine.run(setups["0.2.0"], "/S").returncode == 0


@needs_wine
@pytest.mark.slow
def test_a_folder_of_something_else_and_a_disk_too_small_are_refused(
    machine: Wine, setups: dict[str, Path]
) -> None:
    # The folder of the data, of all folders.
    data = machine.home / "AppData/Local/seamount"
    data.mkdir(parents=True)
    (data / "sessions.db").write_text("a conversation")
    place = f"C:\\users\\{machine.home.name}\\AppData\\Local\\seamount"
    registry, files = machine.registry(), machine.files()
    done = machine.run(setups["0.1.0"], "/S", f"/D={place}")
    assert done.returncode == 2
    assert (
        f"into {place} because something else is in that folder; choose a new or an empty one." in done.stdout
    )
    done = machine.run(setups["huge"], "/S")
    assert done.returncode == 2
    assert "KiB free of the 2147483647 KiB that it takes; free some space and try again." in done.stdout
    assert machine.files() == files
    assert machine.registry() == registry
