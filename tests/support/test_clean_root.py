"""The clean root itself, with packages that hold a shell script: what is asked of it can be told to fail."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clean_root import (
    PERSON,
    CleanRoot,
    CleanRootError,
    clean_root,
    kept_root,
    machines_archive,
    opened,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Answers one connection on a port that the system chooses, after saying which.
LISTENER = (
    "use IO::Socket::INET; $| = 1; "
    "my $door = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die; "
    "print $door->sockport, qq(\\n); my $guest = $door->accept; print $guest qq(from inside\\n);"
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    """One fresh root for all tests here."""
    try:
        tarball = kept_root(machines_archive())
    except CleanRootError as error:
        pytest.skip(str(error))
    with clean_root(tarball, tmp_path_factory.mktemp("clean")) as made:
        yield made


def _package(folder: Path, name: str, after_installing: str = "") -> Path:
    """A package with one command, and a post-install script where one is given."""
    tree = folder / name
    command = tree / "usr/bin" / name
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\nid -un\n")
    command.chmod(0o755)
    control = tree / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.invalid>\n"
        "Description: for a test\n"
    )
    if after_installing:
        (control / "postinst").write_text(f"#!/bin/sh\n{after_installing}\n")
        (control / "postinst").chmod(0o755)
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(folder / f"{name}.deb")],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / f"{name}.deb"


def test_there_is_a_person_and_nothing_to_build_or_fetch_with(root: CleanRoot) -> None:
    assert root.run(["id", "-un"], user=PERSON).stdout.strip() == PERSON
    assert root.has("sh") and root.has("apt-get")
    for command in ("python3", "cc", "gcc", "make"):
        assert not root.has(command), command
    assert root.run(["sh", "-c", "ls /sys/class/net"]).stdout.split() == ["lo"]
    assert root.run(["touch", "/usr/bin/mine"], user=PERSON, check=False).returncode != 0


def test_what_a_package_leaves_behind_is_found(root: CleanRoot, tmp_path: Path) -> None:
    left: dict[str, set[str]] = {}
    for name, script in (("tidy", ""), ("untidy", "echo mine > /usr/share/untidy; echo >> /etc/profile")):
        before = root.files()
        root.put(_package(tmp_path, name, script), "/tmp/it.deb")
        root.run(["apt-get", "install", "-y", "/tmp/it.deb"])
        assert root.run([name], user=PERSON).stdout.strip() == PERSON
        assert f"/usr/bin/{name}" in root.files()
        root.run(["apt-get", "purge", "-y", name])
        left[name] = {path for path, _ in before.items() ^ root.files().items()}
    assert left == {"tidy": set(), "untidy": {"/usr/share/untidy", "/etc/profile"}}


def test_its_network_is_its_own_and_can_be_reached_from_here(root: CleanRoot) -> None:
    with root.running(["perl", "-e", LISTENER]) as listener:
        assert listener.stdout is not None
        port = int(listener.stdout.readline())
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
        with root.connect(port) as door, door.makefile() as said:
            assert said.readline() == "from inside\n"
        assert listener.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        root.connect(port)


def test_what_runs_and_what_is_mounted_ends_with_it(tmp_path: Path, root: CleanRoot) -> None:
    # The files of the other one, opened a second time, with namespaces of their own.
    with opened(root.path) as made:
        with made.running(["sh", "-c", "sleep 1000 & echo $!"]) as starter:
            assert starter.stdout is not None and starter.stdout.readline()
        # Its parent has gone, so it belongs to the root's first process.
        [sleeper] = made.processes()
        assert sleeper.name() == "sleep"
        assert made.seen("/proc/1/stat").exists()
        assert str(root.path) not in Path("/proc/self/mounts").read_text()
    assert not sleeper.is_running()
    assert list((root.path / "proc").iterdir()) == []


def test_what_cannot_be_had_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.clean_root.SEARCH_PATH", "")
    monkeypatch.setenv("PATH", str(Path(shutil.which("tar") or "").parent / "nowhere"))
    with pytest.raises(CleanRootError, match="apt-get install apt debootstrap"):
        machines_archive()
