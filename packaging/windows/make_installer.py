"""Makes the installer for Windows from a bundle.

    python packaging/windows/make_installer.py BUNDLE PICTURES OUTPUT [--target amd64-unicode]

BUNDLE is the folder that PyInstaller made, PICTURES one with what packaging/program_icon.py made, seamount.ico and
seamount.bmp, OUTPUT the installer to write. NSIS's own program, makensis, does the work by seamount.nsi; it runs on
Windows and on Linux. `--target` chooses another stub than the 32-bit one, which starts on every Windows; Debian's
nsis has `amd64-unicode`.

Owns: the two lists of files that the script includes, one to install and one to remove, and the numbers it is told.
Does not know what is in a bundle beyond the two programs that start it. Uses the standard library only.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("seamount.nsi")
EXECUTABLES = ("seamount.exe", "seamount-cli.exe")
LONGEST_PATH = 170
"""Characters of a path in the bundle: with the folder it is installed into, Windows allows 259."""
CLUSTER_BYTES = 4096
"""What NTFS gives a file at a time."""


class InstallerError(Exception):
    """There is no installer; the text says why and what to do."""


def project_version() -> str:
    """The version that pyproject.toml names."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def version_numbers(version: str) -> str:
    """Four numbers for the file's resource: "0.2.0rc1" → "0.2.0.0"."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    if numbers is None:
        raise InstallerError(
            f"{version} is no version that Windows can be told; it has to begin with a number"
        )
    return ".".join([*numbers.group().split("."), "0", "0", "0"][:4])


def bundle_files(bundle: Path) -> list[Path]:
    """Every file of the bundle, relative to it, in order. Raises InstallerError for one that cannot be installed."""
    if missing := [name for name in EXECUTABLES if not (bundle / name).is_file()]:
        raise InstallerError(
            f"{bundle} is no bundle for Windows, because {missing[0]} is not in it; build one first"
        )
    files = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if not path.is_dir())
    for file in files:
        if len(str(file)) > LONGEST_PATH:
            raise InstallerError(
                f"{file} cannot be installed, because its path is longer than {LONGEST_PATH}"
            )
        if (bundle / file).is_symlink():
            raise InstallerError(
                f"{file} cannot be installed, because it is a link; Windows has none for everybody"
            )
    return files


def disk_kib(bundle: Path, files: list[Path]) -> int:
    """What the files take on an NTFS disk, in KiB."""
    clusters = sum(-(-(bundle / file).stat().st_size // CLUSTER_BYTES) for file in files)
    return clusters * CLUSTER_BYTES // 1024


def quoted(text: str) -> str:
    """A string of an NSIS script that stands for `text` as it is."""
    # A quote cannot stand in a name on Windows; a $ means a variable in some places of a script, not in others.
    if re.search(r'["$\r\n]', text):
        raise InstallerError(
            f"{text!r} cannot be installed, because such a name cannot be told to NSIS; rename it"
        )
    return f'"{text}"'


def _installed(path: Path) -> str:
    """Where a path of the bundle lies when installed, as a string of a script."""
    inside = str(path).replace("/", "\\")
    return '"$INSTDIR"' if inside == "." else '"$INSTDIR\\' + quoted(inside)[1:]


def install_list(bundle: Path, files: list[Path]) -> str:
    """The lines that put every file in its place."""
    lines: list[str] = []
    folder: Path | None = None
    for file in sorted(files, key=lambda file: (file.parent, file.name)):
        if file.parent != folder:
            folder = file.parent
            lines.append(f"SetOutPath {_installed(folder)}")
        lines.append(f"File {quoted(str(bundle / file))}")
    return "\n".join(lines) + "\n"


def remove_list(files: list[Path]) -> str:
    """The lines that take every file away again, and each folder that is empty then, the innermost first."""
    folders = {parent for file in files for parent in file.parents} - {Path()}
    inward = sorted(folders, key=lambda folder: (-len(folder.parts), folder))
    lines = [f"Delete {_installed(file)}" for file in files]
    lines += [f"RMDir {_installed(folder)}" for folder in inward]
    return "\n".join(lines) + "\n"


def make_installer(
    bundle: Path, pictures: Path, output: Path, *, version: str | None = None, target: str | None = None
) -> None:
    """Write `output`. Raises InstallerError."""
    makensis = shutil.which("makensis")
    if makensis is None:
        raise InstallerError(
            "the installer cannot be made, because makensis is not on the path; install NSIS (Debian: nsis)"
        )
    bundle, output = bundle.resolve(), output.resolve()
    files = bundle_files(bundle)
    version = version or project_version()
    # On Windows its options begin with a slash; a dash is understood everywhere.
    options = ["-V2", "-WX", "-INPUTCHARSET", "UTF8"]
    if target is not None:
        options.append(f"-XTarget {target}")
    with tempfile.TemporaryDirectory(prefix="seamount-nsis-") as lists:
        (Path(lists) / "install.nsh").write_text(install_list(bundle, files), encoding="utf-8")
        (Path(lists) / "remove.nsh").write_text(remove_list(files), encoding="utf-8")
        told = {
            "VERSION": version,
            "VERSION_NUMBERS": version_numbers(version),
            "ICON": pictures.resolve() / "seamount.ico",
            "PICTURE": pictures.resolve() / "seamount.bmp",
            "LISTS": lists,
            "SIZE_KIB": disk_kib(bundle, files),
            "OUTPUT": output,
        }
        command = [makensis, *options, *(f"-D{name}={value}" for name, value in told.items()), str(SCRIPT)]
        output.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        output.unlink(missing_ok=True)
        raise InstallerError(f"{(done.stdout + done.stderr).strip()}\nmakensis failed (see above)")


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Makes the installer for Windows from a bundle.")
    parser.add_argument("bundle", type=Path, help="the folder that PyInstaller made")
    parser.add_argument("pictures", type=Path, help="the folder with seamount.ico and seamount.bmp")
    parser.add_argument("output", type=Path, help="the installer to write")
    parser.add_argument("--target", help="another stub than NSIS's usual one, amd64-unicode for one")
    options = parser.parse_args()
    try:
        make_installer(options.bundle, options.pictures, options.output, target=options.target)
    except (InstallerError, OSError) as error:
        print(f"seamount installer: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
