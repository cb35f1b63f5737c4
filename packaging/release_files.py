"""Makes what people download: packages and archives of the bundle, their sums and their bill of materials.

    .venv-bundle/bin/python packaging/release_files.py     into dist/; `make dist` calls it

Owns: the order of the steps, which of them are still as they were (kept by the digest of all inputs), the checks that
every release passes, and the sizes that are told at the end. How each file is made is said in `bundle/` and `linux/`.
Runs in `.venv-bundle`.
"""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "packaging" / "bundle"), str(ROOT / "packaging" / "linux")]

import bill_of_materials  # noqa: E402
import licences  # noqa: E402
import make_bundle  # noqa: E402
import make_deb  # noqa: E402
import make_portable  # noqa: E402
import package_checks  # noqa: E402
from shared_libraries import LibraryError  # noqa: E402

DIST = ROOT / "dist"
SUMS = DIST / "SHA256SUMS"
STAMP = ROOT / "build" / "release-made-of"
MOST_DOWNLOAD_BYTES = 200 * 10**6
MOST_INSTALLED_BYTES = 600 * 10**6
"""What the base package may weigh; more fails the build."""


class ReleaseError(Exception):
    """The release is not what it should be; the text says why."""


def make() -> None:
    """Everything in dist/ but wheel and source archive; one process at a time. Raises the errors of the steps, and
    ReleaseError."""
    STAMP.parent.mkdir(exist_ok=True)
    with FileLock(STAMP.with_suffix(".lock")):
        _make()


def _make() -> None:
    began = time.monotonic()
    bundle = make_bundle.make()
    if not sys.platform.startswith("linux"):
        print(
            f"seamount release: the bundle is {bundle}; packaging/windows and packaging/macos go on from there"
        )
        return
    wanted = _inputs_digest()
    deb, starter, *archives = _files()
    if not (STAMP.exists() and STAMP.read_text() == wanted and all(path.exists() for path in _files())):
        STAMP.unlink(missing_ok=True)
        for path in DIST.glob("seamount*"):
            if path.suffix in (".deb", ".xz", ".tar", ".json"):
                path.unlink()  # of another version
        _said("packages", lambda: make_deb.make(bundle, DIST))
        _said("portable archives", lambda: make_portable.make(bundle, DIST))
        epoch = int(make_bundle.source_date())
        bill_of_materials.write(archives[-1], bundle, epoch)
        _said("checks", lambda: package_checks.check([deb, starter]))
        STAMP.write_text(wanted)
    _write_sums()
    _tell(bundle, began)


def _files() -> list[Path]:
    version = make_deb.version()
    return [
        DIST / f"seamount_{version}_amd64.deb",
        DIST / f"seamount-starter_{version}_all.deb",
        DIST / f"seamount-{version}-x86_64.tar.xz",
        DIST / f"seamount-starter-{version}.tar",
        DIST / f"seamount-{version}.cdx.json",
    ]


def _inputs_digest() -> str:
    digest = hashlib.sha256(make_bundle.STAMP.read_bytes())
    files = [*(ROOT / "packaging" / "linux").iterdir(), Path(__file__), ROOT / "CHANGELOG.md"]
    for path in sorted(path for path in files if path.is_file()):
        digest.update(f"{path.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    digest.update((ROOT / "packaging" / "locks" / "starter.txt").read_bytes())
    return digest.hexdigest()


def _write_sums() -> None:
    """As `sha256sum --check` reads them: everything there is in dist/."""
    lines = []
    for path in sorted(DIST.iterdir()):
        if path.is_file() and path != SUMS:
            with path.open("rb") as file:
                lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    SUMS.write_text("".join(lines), encoding="utf-8")


def _tell(bundle: Path, began: float) -> None:
    deb, *_ = _files()
    installed = sum(path.lstat().st_size for path in bundle.rglob("*"))
    for path in sorted(DIST.iterdir()):
        print(f"{path.stat().st_size / 1e6:9.1f} MB  {path.name}")
    print(f"{installed / 1e6:9.1f} MB  installed, the starter not counted")
    print(f"{time.monotonic() - began:9.0f} s   this took")
    if deb.stat().st_size > MOST_DOWNLOAD_BYTES or installed > MOST_INSTALLED_BYTES:
        raise ReleaseError(
            f"the base is larger than {MOST_DOWNLOAD_BYTES // 10**6} MB to download or {MOST_INSTALLED_BYTES // 10**6} "
            "MB installed: see what came into it"
        )


def _said(what: str, step) -> None:
    began = time.monotonic()
    step()
    print(f"seamount release: {what} in {time.monotonic() - began:.0f} s", flush=True)


def main() -> int:
    """The command line; returns the exit status."""
    try:
        make()
    except (
        ReleaseError,
        LibraryError,
        licences.LicenceError,
        make_bundle.BundleError,
        bill_of_materials.BillError,
        package_checks.CheckError,
        subprocess.CalledProcessError,
        OSError,
    ) as error:
        print(f"seamount release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
