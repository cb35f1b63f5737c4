"""What a person gets: the packages, installed in a system with nothing in it, used without a network, and gone again.

Everything here is built by `make dist` and seen from outside: keys, pictures of the screen for looking at
(screenshots/installed-*.png), the engine's own address, and the files that are left. `SEAMOUNT_DIST` names a folder
with packages that are already built, `SEAMOUNT_CLEAN_SUITE` another release than this machine's, with
`SEAMOUNT_CLEAN_MIRROR` and `SEAMOUNT_CLEAN_KEYRING` for one that is of another archive.
"""

import os
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.bare_desktop import BareDesktop, bare_desktop, missing_tools
from tests.end_to_end.installed_program import START_TIMEOUT_S, TITLE, InstalledProgram
from tests.support.clean_root import (
    PERSON,
    PERSON_HOME,
    Archive,
    CleanRoot,
    CleanRootError,
    clean_root,
    kept_root,
    machines_archive,
)

# The first run builds everything that is to be installed.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "screenshots"
QUESTION = "What is a seamount? Answer in one sentence."
# A letter of each kind: spaces, accents, another script, and signs that a shell would take for its own.
FOLDER = f"{PERSON_HOME}/My programs & tools/Être là (海山)"
# What a desktop keeps its menus, types and links with; and what the package recommends and every desktop has.
DESKTOP_PACKAGES = ("desktop-file-utils", "libglib2.0-bin", "shared-mime-info", "xdg-utils")
USUAL_PACKAGES = ("fonts-dejavu-core", "xz-utils")
# Left in a home by libraries of the system, for whatever program uses them; and folders that belong to all programs.
OF_THE_SYSTEM = (".cache/fontconfig", ".cache/mesa_shader_cache")
OF_ALL = {".cache", ".config", ".local", ".local/share", ".local/state"}


@dataclass(frozen=True)
class Packages:
    """What `make dist` made."""

    program: Path
    starter: Path
    portable: Path
    portable_starter: Path


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Where the clean system's own packages come from; without one, and a desktop, nothing here can be tried."""
    if missing := missing_tools():
        pytest.skip(f"a desktop to try the program on needs: apt-get install {' '.join(missing)}")
    suite, mirror = os.environ.get("SEAMOUNT_CLEAN_SUITE"), os.environ.get("SEAMOUNT_CLEAN_MIRROR")
    try:
        if suite and mirror:
            keyring = os.environ.get("SEAMOUNT_CLEAN_KEYRING", "")
            return Archive(suite, mirror, keyring, ("main", "universe"))
        return machines_archive(suite)
    except CleanRootError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def packages(archive: Archive) -> Packages:
    """Built here, unless `SEAMOUNT_DIST` says where they lie."""
    folder = Path(os.environ.get("SEAMOUNT_DIST") or ROOT / "dist")
    if "SEAMOUNT_DIST" not in os.environ:
        done = subprocess.run(["make", "dist"], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"make dist: {(done.stdout + done.stderr)[-2000:]}")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    return Packages(
        folder / f"seamount_{version}_amd64.deb",
        folder / f"seamount-starter_{version}_all.deb",
        folder / f"seamount-{version}-x86_64.tar.xz",
        folder / f"seamount-starter-{version}.tar",
    )


def _root(archive: Archive, packages: Packages, extra: tuple[str, ...], folder: Path) -> Iterator[CleanRoot]:
    needed = subprocess.run(
        ["dpkg-deb", "-f", str(packages.program), "Depends"], capture_output=True, text=True, check=True
    )
    try:
        tarball = kept_root(archive, needed.stdout.strip(), extra)
    except CleanRootError as error:
        pytest.skip(str(error))
    with clean_root(tarball, folder) as made:
        yield made


@pytest.fixture(scope="module")
def root(
    archive: Archive, packages: Packages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CleanRoot]:
    """A system that has what the package says it needs, and nothing else."""
    yield from _root(archive, packages, USUAL_PACKAGES, tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="module")
def desktop_root(
    archive: Archive, packages: Packages, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CleanRoot]:
    """One with a desktop's databases, too."""
    extra = (*USUAL_PACKAGES, *DESKTOP_PACKAGES)
    yield from _root(archive, packages, extra, tmp_path_factory.mktemp("desktop"))


@pytest.fixture
def desktop() -> Iterator[BareDesktop]:
    """A screen of its own for each test."""
    with bare_desktop() as made:
        yield made


def _install(root: CleanRoot, packages: Packages) -> None:
    for package in (packages.program, packages.starter):
        root.put(package, f"/tmp/{package.name}")
    # Without a network, and without a word about what else to fetch.
    names = [f"/tmp/{package.name}" for package in (packages.program, packages.starter)]
    root.run(["apt-get", "install", "-y", "--no-install-recommends", *names])


def _purge(root: CleanRoot) -> None:
    root.run(["apt-get", "purge", "-y", "seamount", "seamount-starter"])


def _home(root: CleanRoot, home: str = PERSON_HOME) -> set[str]:
    """Every file and folder of a home that could be Seamount's, as paths in it."""
    top = root.seen(home)
    found = {str(path.relative_to(top)) for path in top.rglob("*")} - OF_ALL
    return {path for path in found if not path.startswith(OF_THE_SYSTEM)}


def _talk(program: InstalledProgram, desktop: BareDesktop, name: str) -> str:
    """Open the window, ask the starter, close the window; the answer."""
    with program.window(desktop) as window:
        assert window.before == []
        assert program.loaded_model()["id"] == "starter"
        desktop.picture(PICTURES / f"installed-{name}-first.png")
        window.ask(QUESTION)
        conversation = program.answered()
        answer = str(conversation["messages"][-1]["text"])
        assert answer and answer in window.shown()
        desktop.picture(PICTURES / f"installed-{name}-answer.png")
        assert window.close() == ""
    program.engine_ended()
    return answer


def _read_again(program: InstalledProgram, desktop: BareDesktop, name: str, answer: str) -> None:
    """Open the window anew: it shows the conversation."""
    with program.window(desktop) as window:
        program.loaded_model()
        assert QUESTION in window.shown() and answer in window.shown()
        desktop.picture(PICTURES / f"installed-{name}-again.png")
        assert window.close() == ""
    program.engine_ended()


def test_the_package_is_installed_used_and_removed_without_a_trace(
    root: CleanRoot, packages: Packages, desktop: BareDesktop
) -> None:
    for command in ("python3", "cc", "seamount"):
        assert not root.has(command), command
    before, home_before = root.files(), _home(root)
    _install(root, packages)
    program = InstalledProgram(root)

    answer = _talk(program, desktop, "package")
    _read_again(program, desktop, "package", answer)
    _, said = program.run("doctor")
    assert [line for line in said.splitlines() if line.startswith("!!")] == []
    assert "llama.cpp" in said

    _purge(root)
    changed = {path for path, _ in before.items() ^ root.files().items()}
    assert changed == set()
    # The person's own is still there; and installed again, it goes when it is asked to.
    assert root.seen(f"{program.data}/sessions.db").exists()
    _install(root, packages)
    _, said = program.run("doctor", "--forget", "--dry-run")
    assert program.data in said
    assert root.seen(f"{program.data}/sessions.db").exists()
    _, said = program.run("doctor", "--forget", "--yes")
    assert program.data in said
    assert _home(root) == home_before
    _purge(root)


def test_the_portable_folder_runs_from_anywhere_and_from_what_cannot_be_written(
    root: CleanRoot, packages: Packages, desktop: BareDesktop
) -> None:
    assert not root.has("seamount")
    for archive in (packages.portable, packages.portable_starter):
        root.put(archive, f"/tmp/{archive.name}")
        root.run(["mkdir", "-p", FOLDER], user=PERSON)
        root.run(["tar", "-C", FOLDER, "-xf", f"/tmp/{archive.name}"], user=PERSON)
    [folder] = root.run(["ls", FOLDER]).stdout.splitlines()
    installed = root.files(())

    # A home on another file system than everything else.
    root.mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", at="/mnt/home of its own")
    root.run(["chown", f"{PERSON}:", "/mnt/home of its own"])
    program = InstalledProgram(root, [f"{FOLDER}/{folder}/seamount"], home="/mnt/home of its own")
    answer = _talk(program, desktop, "portable")

    # The same folder on media that cannot be written, where the person's conversation is found by it.
    root.mount("-o", "ro", bind=f"{FOLDER}/{folder}", at="/media/stick")
    assert root.run(["touch", "/media/stick/mine"], check=False).returncode != 0
    program = InstalledProgram(root, ["/media/stick/seamount"], home="/mnt/home of its own")
    _read_again(program, desktop, "portable", answer)

    # Nothing was written beside the program, and nothing of it outside the home.
    left_out = ("/tmp", "/mnt", "/media")
    kept = {path: told for path, told in installed.items() if not path.startswith(left_out)}
    now = {path: told for path, told in root.files(()).items() if not path.startswith(left_out)}
    assert {path for path, _ in kept.items() ^ now.items()} == set()
    program.run("doctor", "--forget", "--yes")
    assert _home(root, "/mnt/home of its own") == set()


def test_a_home_that_cannot_be_written_is_said_in_a_sentence(
    root: CleanRoot, packages: Packages, desktop: BareDesktop
) -> None:
    _install(root, packages)
    root.run(["mkdir", "/mnt/not mine"])
    program = InstalledProgram(root, home="/mnt/not mine")
    for command in (["chat", "--prompt", "Hello"], ["serve"], ["sessions", "list"]):
        status, said = program.run(*command, check=False)
        [line] = said.splitlines()
        assert status != 0 and f"cannot write to its data folder {program.data}: Permission denied" in line
    with program.window(desktop) as window:
        # Fontconfig has its own word about a home in which it can keep nothing.
        assert {line.split(":")[0] for line in window.before} <= {"Fontconfig error"}
        window.shown()  # a key that it has taken: its first paint was the one of an empty frame
        desktop.picture(PICTURES / "installed-home-not-writable.png")
        assert program.ask("/api/status") is None
        assert window.close() == ""
    program.engine_ended()
    _purge(root)


def test_the_desktop_knows_its_entry_its_files_and_its_links(
    desktop_root: CleanRoot, packages: Packages, desktop: BareDesktop
) -> None:
    root = desktop_root
    before = root.files()
    _install(root, packages)
    root.run(["sh", "-c", "printf GGUF > model.gguf; printf GGUF > nameless"], user=PERSON)
    for file in ("model.gguf", "nameless"):
        said = root.run(["gio", "info", "-a", "standard::content-type", file], user=PERSON).stdout
        assert "application/x-gguf" in said, file
    for kind in ("application/x-gguf", "x-scheme-handler/seamount"):
        said = root.run(["xdg-mime", "query", "default", kind], user=PERSON).stdout
        assert said.strip() == "seamount.desktop"
        said = root.run(["gio", "mime", kind], user=PERSON).stdout
        assert "seamount.desktop" in said.splitlines()[0]
    assert "seamount.desktop" in root.seen("/usr/share/applications/mimeinfo.cache").read_text()

    # A click on a link: the window opens, and asks before anything is fetched.
    program = InstalledProgram(root)
    link = ["gio", "open", "seamount://get/flash-0731"]
    with root.running(link, DISPLAY=desktop.display):
        asking = desktop.window("^Get ", START_TIMEOUT_S)
        program.loaded_model()
        desktop.picture(PICTURES / "installed-link.png")
        desktop.close(asking)
        desktop.close(desktop.window(TITLE))
        program.engine_ended()
    assert not list(root.seen(f"{program.data}/jobs").glob("*"))
    _purge(root)
    assert {path for path, _ in before.items() ^ root.files().items()} == set()
    said = root.run(["xdg-mime", "query", "default", "application/x-gguf"], user=PERSON).stdout
    assert said.strip() == ""
