"""A system with nothing in it: a Debian root without Python, compiler or network, and an ordinary user.

    .venv/bin/python -m tests.support.clean_root SUITE [--mirror URL --keyring FILE]     makes and keeps one

Owns: how such a root is made (debootstrap, from the archive that this machine's apt uses), how it is kept as a
tarball in the cache folder, unpacked, mounted and entered, and that nothing of that is left. Mounts, network and
processes of an opened root are in namespaces of its own: they end with the process that made them, however it
ends. Knows nothing of Seamount. Needs root; `CleanRootError` says what else is missing.
"""

import argparse
import ctypes
import hashlib
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[2]
PERSON = "person"
PERSON_HOME = f"/home/{PERSON}"
TOOLS = {
    "apt-config": "apt", "debootstrap": "debootstrap", "dpkg-deb": "dpkg", "ip": "iproute2", "mount": "mount",
    "nsenter": "util-linux", "setpriv": "util-linux", "tar": "tar", "unshare": "util-linux",
}  # fmt: skip
RECIPE = "2"
"""Part of a tarball's name: another one when the steps below make something else."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLONE_NEWNET = 0x40000000
FILL_TIMEOUT_S = 600
UNUSED_S = 30 * 86_400.0
"""A tarball that nobody unpacked for so long is removed."""
# What a package manager writes as it works, and what belongs to whoever uses the system.
PASSING = (
    "/dev", "/home", "/proc", "/run", "/sys", "/tmp", "/var/backups", "/var/cache/apt", "/var/cache/debconf",
    "/var/cache/ldconfig", "/var/lib/apt", "/var/lib/dpkg", "/var/log",
)  # fmt: skip

# The first process of an opened root. It mounts, then waits for its standard input to end; `wait` also takes in
# the processes whose parents have gone, which would stay as zombies otherwise.
KEEPER = r"""
set -e
root=$1
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev"
for node in null zero full random urandom; do
    : > "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
if [ -d /tmp/.X11-unix ]; then
    mkdir -p "$root/tmp/.X11-unix"
    mount --bind /tmp/.X11-unix "$root/tmp/.X11-unix"
fi
if [ "$2" = lonely ]; then ip link set lo up; fi
exec chroot "$root" /bin/sh -c 'exec 3<&0; cat <&3 >/dev/null & echo ready; wait $!'
"""


class CleanRootError(Exception):
    """Such a root cannot be had here; the text says why, and what to do."""


# --- where its packages come from ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Archive:
    """Packages of one release: `suite` (bookworm), at `mirror`, signed by the keys in the file `keyring` (empty:
    where debootstrap looks for that release's)."""

    suite: str
    mirror: str
    keyring: str = ""
    components: tuple[str, ...] = ("main",)


def machines_archive(suite: str | None = None) -> Archive:
    """The archive that this machine's apt installs from; `suite` names another release of it. CleanRootError."""
    require_tools()
    wanted = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    fields = "$(CREATED_BY)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", fields], capture_output=True, text=True, timeout=60
    )
    for line in listed.stdout.splitlines():
        made_by, codename, component, mirror = line.split("|", 3)
        if (made_by, codename, component) == ("Packages", wanted, "main") and mirror.startswith("http"):
            return Archive(suite or wanted, mirror.rstrip("/"))
    raise CleanRootError(
        "apt on this machine names no archive of its own release over HTTP; run apt-get update, or look into "
        "/etc/apt/sources.list.d"
    )


def require_tools() -> None:
    """Raises CleanRootError where this machine cannot make and enter a root."""
    if not sys.platform.startswith("linux"):
        raise CleanRootError("a clean Debian root is made on Linux only")
    if os.geteuid() != 0:
        raise CleanRootError("a clean Debian root is made and entered by root only")
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool, path=_path()) is None})
    if missing:
        raise CleanRootError(f"a clean Debian root needs: apt-get install {' '.join(missing)}")
    tried = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if tried.returncode:
        raise CleanRootError(
            f"this machine lets nobody mount in a namespace of their own: {tried.stderr.strip()}"
        )


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:{SEARCH_PATH}"


def environment_module() -> ModuleType:
    """`packaging/environment.py`, which is a script beside the program and no package's module."""
    spec = importlib.util.spec_from_file_location(
        "seamount_environment", ROOT / "packaging" / "environment.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- making and keeping -------------------------------------------------------------------------------------


def kept_root(archive: Archive, depends: str = "", extra: Sequence[str] = ()) -> Path:
    """The tarball of a root with the packages that `depends` calls for (Debian's syntax), and those in `extra`.

    Made where it is not kept yet, which takes a minute and the network. Raises CleanRootError.
    """
    require_tools()
    folder: Path = environment_module().cache_folder() / "clean-roots"
    folder.mkdir(parents=True, exist_ok=True)
    bare = folder / f"{archive.suite}-{_digest(archive)}.tar.gz"
    with FileLock(f"{bare}.lock"):
        if not bare.exists():
            with _emptied(folder) as scratch:
                _bootstrap(archive, scratch / "root")
                _pack(scratch / "root", bare)
    if not depends and not extra:
        return bare
    full = folder / f"{archive.suite}-{_digest(archive, depends, *extra)}.tar.gz"
    with FileLock(f"{full}.lock"):
        if not full.exists():
            with _emptied(folder) as scratch:
                unpack(bare, scratch / "root")
                _add_packages(scratch / "root", depends, extra)
                _pack(scratch / "root", full)
        os.utime(full)
    for tarball in folder.glob("*.tar.gz"):  # of packages that were asked for once
        if tarball != bare and time.time() - tarball.stat().st_mtime > UNUSED_S:
            tarball.unlink(missing_ok=True)
    return full


def _digest(archive: Archive, *more: str) -> str:
    said = "\0".join([RECIPE, archive.suite, archive.mirror, *archive.components, *more])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


@contextmanager
def _emptied(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as scratch:
        yield Path(scratch)


def _bootstrap(archive: Archive, root: Path) -> None:
    command = [
        "debootstrap",
        "--variant=minbase",
        "--force-check-gpg",
        f"--components={','.join(archive.components)}",
    ]
    if archive.keyring:
        command.append(f"--keyring={archive.keyring}")
    script = Path("/usr/share/debootstrap/scripts") / archive.suite
    if not script.exists():
        raise CleanRootError(
            f"the debootstrap of this machine does not know {archive.suite}; install a newer one"
        )
    done = subprocess.run(
        [*command, archive.suite, str(root), archive.mirror], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, timeout=FILL_TIMEOUT_S, env={**os.environ, "PATH": _path()},
    )  # fmt: skip
    if done.returncode:
        raise CleanRootError(f"debootstrap made no root: {_last_line(done.stdout)}; is the network there?")
    # The archive's address and how to reach it, as this machine has it; nothing of this is in the program.
    said = subprocess.run(
        ["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True
    ).stdout
    reach = [line for line in said.splitlines() if line.startswith(("Acquire::http", "Acquire::Check-"))]
    (root / "etc/apt/apt.conf.d/00machine").write_text("\n".join(reach) + "\n")
    sources = f"deb {archive.mirror} {archive.suite} {' '.join(archive.components)}\n"
    (root / "etc/apt/sources.list").write_text(sources)
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).unlink(missing_ok=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    with opened(root, network=True) as made:
        made.run(["useradd", "--create-home", "--shell", "/bin/sh", PERSON])
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    (root / "var/cache/apt/archives/partial").mkdir(parents=True)


def _add_packages(root: Path, depends: str, extra: Sequence[str]) -> None:
    """Install what is called for; a package of nothing but `depends` has apt choose as for the real one."""
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    named = list(extra)
    if depends:
        control = root / "tmp/wanted/DEBIAN/control"
        control.parent.mkdir(parents=True)
        control.write_text(
            "Package: clean-root-wanted\nVersion: 1\nArchitecture: all\nDescription: what is called for\n"
            f"Maintainer: nobody <nobody@example.invalid>\nDepends: {depends}\n"
        )
        subprocess.run(
            ["dpkg-deb", "--build", str(control.parents[1]), str(root / "tmp/wanted.deb")],
            check=True, capture_output=True,
        )  # fmt: skip
        named.append("/tmp/wanted.deb")
    with opened(root, network=True) as made:
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *named],
            # Chosen by hand from here on, so that they stay when the package that wanted them goes.
            ["sh", "-c", "apt-mark showauto | xargs -r apt-mark manual"],
            *([["dpkg", "--purge", "clean-root-wanted"]] if depends else []),
            ["apt-get", "clean"],
        ):
            done = made.run(command, check=False, timeout_s=FILL_TIMEOUT_S)
            if done.returncode:
                raise CleanRootError(f"{' '.join(command[:2])}: {_last_line(done.stderr or done.stdout)}")
    (root / "etc/resolv.conf").unlink()
    shutil.rmtree(root / "tmp/wanted", ignore_errors=True)
    (root / "tmp/wanted.deb").unlink(missing_ok=True)


def _pack(root: Path, tarball: Path) -> None:
    part = tarball.with_suffix(".part")
    with part.open("wb") as output:
        # Level 1: unpacking is what is waited for, and the tarball lies in a cache.
        compress = subprocess.Popen(["gzip", "-1"], stdin=subprocess.PIPE, stdout=output)
        subprocess.run(
            ["tar", "-C", str(root), "--numeric-owner", "--one-file-system", "-c", "."],
            stdout=compress.stdin, check=True,
        )  # fmt: skip
        assert compress.stdin is not None
        compress.stdin.close()
        if compress.wait():
            raise CleanRootError(f"{part} could not be written; is the disk full?")
    part.rename(tarball)


def unpack(tarball: Path, root: Path) -> None:
    """Lay a kept root at `root`, a new folder. Raises CleanRootError when the tarball is damaged or the disk full."""
    root.mkdir(parents=True)
    done = subprocess.run(
        ["tar", "-C", str(root), "--numeric-owner", "-xzpf", str(tarball)], capture_output=True, text=True
    )
    if done.returncode:
        raise CleanRootError(f"{tarball} could not be unpacked: {_last_line(done.stderr)}")


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


# --- being in it --------------------------------------------------------------------------------------------


class CleanRoot:
    """An opened root: its first process is `keeper` in this machine's counting."""

    def __init__(self, path: Path, keeper: int, network: bool) -> None:
        self.path = path
        self._keeper = keeper
        self._network = network

    def seen(self, inside: str) -> Path:
        """Where this process finds a file of the root, mounts included."""
        return Path(f"/proc/{self._keeper}/root") / inside.lstrip("/")

    def command(
        self, command: Sequence[str], *, user: str = "root", home: str | None = None, **variables: str
    ) -> list[str]:
        """The command line that runs `command` in the root as `user`, with these variables and no others of ours."""
        usual = {
            "HOME": home or ("/root" if user == "root" else f"/home/{user}"),
            "USER": user, "LOGNAME": user, "SHELL": "/bin/sh", "LANG": "C.UTF-8", "PATH": SEARCH_PATH,
            "DEBIAN_FRONTEND": "noninteractive",
        }  # fmt: skip
        spaces = ["--mount", "--pid", *([] if self._network else ["--net"])]
        enter = ["nsenter", f"--target={self._keeper}", *spaces, "--root"]
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        where = usual["HOME"] if user != "root" else "/"
        settings = [f"{name}={value}" for name, value in {**usual, **variables}.items()]
        return [*enter, *as_user, "env", "-i", "-C", where, *settings, *command]

    def run(
        self, command: Sequence[str], *, user: str = "root", home: str | None = None, check: bool = True,
        timeout_s: float = 120, said: str | None = None, **variables: str,
    ) -> "subprocess.CompletedProcess[str]":  # fmt: skip
        """Run to the end; `said` is its standard input. Raises AssertionError with its output when it fails."""
        done = subprocess.run(
            self.command(command, user=user, home=home, **variables),
            input=said or "", capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
            )
        return done

    @contextmanager
    def running(
        self, command: Sequence[str], *, user: str = PERSON, home: str | None = None, **variables: str
    ) -> Iterator["subprocess.Popen[str]"]:
        """A program that runs meanwhile; what it writes to either stream can be read. It is ended at the end."""
        with subprocess.Popen(
            self.command(command, user=user, home=home, **variables),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as program:  # fmt: skip
            try:
                yield program
            finally:
                # What it started and let go of is left alone: an engine outlives its window.
                for child in psutil.Process(program.pid).children() if program.poll() is None else ():
                    child.kill()

    def has(self, command: str) -> bool:
        """Whether the root's shell finds such a command."""
        return self.run(["sh", "-c", 'command -v "$0"', command], check=False).returncode == 0

    def put(self, source: Path, inside: str) -> None:
        """Copy a file of this machine into the root, readable by all."""
        self.seen(inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, self.seen(inside))
        self.seen(inside).chmod(0o644)

    def mount(self, *arguments: str, at: str, bind: str | None = None) -> None:
        """Mount something at a folder of the root, made where it is missing; `bind`: a folder of the root that is
        shown there too. Gone with the root, and not among `files`."""
        place = self.path / at.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        source = [] if bind is None else ["--bind", str(self.path / bind.lstrip("/"))]
        # From outside: the root's own `mount` would look for its places in there.
        enter = ["nsenter", f"--target={self._keeper}", "--mount"]
        subprocess.run([*enter, "mount", *arguments, *source, str(place)], check=True, capture_output=True)

    def connect(self, port: int, timeout_s: float = 10) -> socket.socket:
        """A connection to 127.0.0.1 in the root's network, which this process is not in."""
        got: list[socket.socket | OSError] = []

        def reach() -> None:
            # A network namespace is a thread's own; the socket stays in the one that it was made in.
            try:
                with Path(f"/proc/{self._keeper}/ns/net").open("rb") as space:
                    if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                got.append(socket.create_connection(("127.0.0.1", port), timeout_s))
            except OSError as error:
                got.append(error)

        thread = threading.Thread(target=reach)
        thread.start()
        thread.join()
        [made] = got
        if isinstance(made, OSError):
            raise made
        return made

    def processes(self) -> list[psutil.Process]:
        """What runs in it besides its first process, and that one's own child."""
        keeper = psutil.Process(self._keeper)
        space = Path(f"/proc/{self._keeper}/ns/pid").readlink()
        known = {keeper.pid, *(child.pid for child in keeper.children() if child.name() == "cat")}
        return [p for p in psutil.process_iter() if p.pid not in known and _pid_space(p.pid) == space]

    def files(self, left_out: Sequence[str] = PASSING) -> dict[str, str]:
        """Every file and folder of the system, with its kind, mode, owner and contents' digest."""
        found: dict[str, str] = {}
        for folder, folders, names in os.walk(self.path):
            here = "/" + str(Path(folder).relative_to(self.path)).removeprefix(".")
            folders[:] = [name for name in folders if str(Path(here, name)) not in left_out]
            for name in (*folders, *names):
                found[str(Path(here, name))] = _told(Path(folder, name))
        return found


def _pid_space(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink()
    except OSError:
        return None


def _told(path: Path) -> str:
    status = path.lstat()
    said = f"{status.st_mode:o} {status.st_uid}:{status.st_gid}"
    if path.is_symlink():
        return f"{said} → {path.readlink()}"
    if path.is_file():
        with path.open("rb") as file:
            return f"{said} {hashlib.file_digest(file, 'blake2b').hexdigest()[:32]}"
    return said


@contextmanager
def opened(root: Path, *, network: bool = False) -> Iterator[CleanRoot]:
    """Enter the root at `root`. Whatever runs in it ends with this, and its mounts with that. Raises CleanRootError."""
    spaces = ["--mount", "--pid", *([] if network else ["--net"])]
    keeper = subprocess.Popen(
        ["unshare", *spaces, "--fork", "--kill-child", "sh", "-c", KEEPER, "sh", str(root),
         "shared" if network else "lonely"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PATH": _path()},
    )  # fmt: skip
    assert keeper.stdin and keeper.stdout and keeper.stderr
    first: psutil.Process | None = None
    try:
        if keeper.stdout.readline() != "ready\n":
            keeper.wait(20)
            raise CleanRootError(f"{root} cannot be entered: {_last_line(keeper.stderr.read())}")
        [first] = psutil.Process(keeper.pid).children()
        yield CleanRoot(root, first.pid, network)
    finally:
        keeper.kill()
        keeper.wait(20)
        if first is not None:  # gone once everything in its namespaces has gone
            first.wait(60)
        for stream in (keeper.stdin, keeper.stdout, keeper.stderr):
            stream.close()


@contextmanager
def clean_root(tarball: Path, folder: Path) -> Iterator[CleanRoot]:
    """A fresh copy of a kept root under `folder`, opened without a network; it is removed at the end."""
    root = folder / "root"
    try:
        unpack(tarball, root)
        with opened(root) as made:
            yield made
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes a clean Debian root and keeps it.")
    parser.add_argument("suite", nargs="?")
    parser.add_argument("--mirror")
    parser.add_argument("--keyring", default="")
    given: Any = parser.parse_args(arguments)
    try:
        archive = machines_archive(given.suite)
        if given.mirror:
            archive = Archive(given.suite, given.mirror, given.keyring, ("main", "universe"))
        print(kept_root(archive))
    except CleanRootError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
