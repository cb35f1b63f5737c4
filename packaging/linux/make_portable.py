"""Makes the portable archives: the bundle in a folder that runs from anywhere; the starter model.

    .venv-bundle/bin/python packaging/linux/make_portable.py BUNDLE FOLDER     writes both, prints their paths

Owns: what lies in the folder and how it is packed. A tar.xz, not a file that unpacks itself: every file manager opens
it with a double click, while a program from the network must be marked executable first, unpacks itself anew at each
start or asks where to, and looks like malware to scanners. Same inputs, same bytes. Runs in `.venv-bundle`.
"""

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bundle")]

from make_bundle import source_date  # noqa: E402
from make_deb import menu_files, starter_file, version  # noqa: E402
from shared_libraries import LibraryError  # noqa: E402

STAGE = HERE.parents[1] / "build" / "portable"


def make(bundle: Path, folder: Path) -> list[Path]:
    """Write both archives into `folder`. Raises LibraryError, CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    epoch = int(source_date())
    top = f"seamount-{version()}"
    shutil.rmtree(STAGE, ignore_errors=True)
    try:
        menu_files(STAGE / "share", epoch)
        shutil.rmtree(STAGE / "share" / "metainfo")
        program = folder / f"{top}-x86_64.tar.xz"
        sources = {"": bundle, "share": STAGE / "share"}
        texts = {"menu-entry.sh": HERE / "menu-entry.sh", "README.txt": HERE / "portable-readme.txt"}
        with (
            program.open("wb") as packed,
            subprocess.Popen(["xz", "-T2", "-3"], stdin=subprocess.PIPE, stdout=packed) as xz,
        ):
            assert xz.stdin is not None
            with xz.stdin, tarfile.open(fileobj=xz.stdin, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for name, path in _members(sources, texts):
                    _add(archive, f"{top}/{name}", path, epoch)
        if xz.returncode:
            raise subprocess.CalledProcessError(xz.returncode, "xz")
        starter = folder / f"seamount-starter-{version()}.tar"
        model, _ = starter_file()
        with tarfile.open(starter, "w", format=tarfile.PAX_FORMAT) as archive:
            _add(archive, f"{top}/starter/{model.name}", model, epoch)
        return [program, starter]
    finally:
        shutil.rmtree(STAGE, ignore_errors=True)


def _members(sources: dict[str, Path], texts: dict[str, Path]) -> list[tuple[str, Path]]:
    found = list(texts.items())
    for prefix, folder in sources.items():
        files = [path for path in folder.rglob("*") if path.is_symlink() or path.is_file()]
        found += [((Path(prefix) / path.relative_to(folder)).as_posix(), path) for path in files]
    return sorted(found)


def _add(archive: tarfile.TarFile, name: str, path: Path, epoch: int) -> None:
    member = tarfile.TarInfo(name)
    member.mtime = epoch
    if path.is_symlink():
        member.type, member.linkname = tarfile.SYMTYPE, str(path.readlink())
        archive.addfile(member)
        return
    data = path.read_bytes()
    member.size = len(data)
    member.mode = 0o755 if name.endswith(("/seamount", ".sh")) and name.count("/") == 1 else 0o644
    archive.addfile(member, io.BytesIO(data))


def main() -> int:
    """The command line; returns the exit status."""
    try:
        for path in make(Path(sys.argv[1]), Path(sys.argv[2])):
            print(path)
    except (LibraryError, subprocess.CalledProcessError) as error:
        print(f"seamount portable: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
