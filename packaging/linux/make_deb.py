"""Makes the Debian packages of a bundle: seamount, and seamount-starter with the small model.

    .venv-bundle/bin/python packaging/linux/make_deb.py BUNDLE FOLDER     writes both into FOLDER, prints their paths

Owns: what lies where on the system, and the packages' own files. There are no maintainer scripts: menu, icon and type
caches are refreshed by the triggers of the packages that keep them. Compressed with xz, which the dpkg of every Debian
and Ubuntu reads (zstd: Debian's only since 12). Runs in `.venv-bundle`.
"""

import gzip
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from email.utils import formatdate
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "bundle")]

import debian_packages  # noqa: E402
import licences  # noqa: E402
import man_page  # noqa: E402
from make_bundle import source_date  # noqa: E402
from shared_libraries import LibraryError  # noqa: E402

MAINTAINER = "Seamount developers <developers@seamount.invalid>"
COMPONENT = "invalid.seamount.seamount"
"""AppStream's name of the program: of a domain that is nobody's (RFC 2606)."""
STAGE = ROOT / "build" / "deb"

DESCRIPTION = """\
 Seamount runs DeepSeek-V4, and any other GGUF model that llama.cpp can run,
 on this machine: a window to talk in, an engine that other programs can talk
 to as well, and conversations that are still there tomorrow. Nothing is sent
 anywhere.
 .
 Python, Qt and llama.cpp are inside. llama.cpp chooses the code for this
 processor when it starts, and a graphics card by Vulkan where there is a
 driver."""
STARTER_DESCRIPTION = """\
 SmolLM2-135M-Instruct, which Seamount finds by itself: a conversation before
 the first download. It is there to show that everything works; it is small,
 quick, and often wrong."""


def version() -> str:
    """Seamount's, from pyproject.toml."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def make(bundle: Path, folder: Path) -> list[Path]:
    """Write both packages into `folder`. Raises LibraryError, LicenceError, CalledProcessError."""
    shutil.rmtree(STAGE, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    epoch = int(source_date())
    try:
        return [_program(bundle, folder, epoch), _starter(folder, epoch)]
    finally:
        shutil.rmtree(STAGE, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """A file or folder to a place beneath the stage, by a link where the file system has them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link)
    else:
        shutil.copyfile(source, target)


def write(target: Path, text: str, *, packed: bool = False) -> None:
    """A text file beneath the stage; `packed`: by gzip, the same for the same text."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    target.write_bytes(gzip.compress(data, 9, mtime=0) if packed else data)


def starter_file() -> tuple[Path, metadata.Distribution]:
    """The small model and the Python package that it comes in. Raises LibraryError where it is not installed."""
    catalogue = tomllib.loads((ROOT / "assets" / "catalogue.toml").read_text(encoding="utf-8"))["starter"]
    spec = importlib.util.find_spec(catalogue["package"])
    if spec is None or not spec.submodule_search_locations:
        raise LibraryError(
            f"{catalogue['package']} is not installed: `packaging/environment.py dist` does it"
        )
    return Path(spec.submodule_search_locations[0]) / catalogue["file"], metadata.distribution(
        catalogue["package"]
    )


def menu_files(share: Path, epoch: int) -> None:
    """Menu entry, icons, file type and AppStream's description beneath a `share` folder."""
    place(HERE / "seamount.desktop", share / "applications" / "seamount.desktop")
    place(HERE / "seamount-mime.xml", share / "mime" / "packages" / "seamount.xml")
    day = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    text = (HERE / "seamount.metainfo.xml").read_text(encoding="utf-8")
    text = text.replace("@VERSION@", version()).replace("@DATE@", day)
    write(share / "metainfo" / f"{COMPONENT}.metainfo.xml", text)
    # A process of its own: Qt's application object would stay.
    subprocess.run([sys.executable, str(HERE / "icons.py"), str(share / "icons")], check=True)


def _program(bundle: Path, folder: Path, epoch: int) -> Path:
    stage = STAGE / "seamount"
    place(bundle, stage / "usr" / "lib" / "seamount")
    (stage / "usr" / "bin").mkdir(parents=True)
    (stage / "usr" / "bin" / "seamount").symlink_to("../lib/seamount/seamount")
    share = stage / "usr" / "share"
    menu_files(share, epoch)
    write(share / "man" / "man1" / "seamount.1.gz", man_page.page(version(), epoch), packed=True)
    place(HERE / "lintian-overrides", share / "lintian" / "overrides" / "seamount")
    _documents(share / "doc" / "seamount", "seamount", epoch, _copyright(bundle))
    write(
        share / "doc" / "seamount" / "NEWS.gz",
        (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        packed=True,
    )
    depends, recommends = debian_packages.dependencies(bundle)
    fields = {
        "Package": "seamount",
        "Architecture": "amd64",
        "Section": "science",
        "Depends": ", ".join(depends),
        "Recommends": ", ".join(recommends),
        "Suggests": ", ".join(debian_packages.SUGGESTED),
        "Description": f"talk to DeepSeek-V4 on your own machine\n{DESCRIPTION}",
    }
    return _built(stage, folder, fields, epoch)


def _starter(folder: Path, epoch: int) -> Path:
    stage = STAGE / "seamount-starter"
    model, package = starter_file()
    place(model, stage / "usr" / "share" / "seamount" / "starter" / model.name)
    copyright_text = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: SmolLM2-135M-Instruct\n"
        f"Comment: as the Python package {package.metadata['Name']} {package.version} brings it\n\n"
        "Files: *\nCopyright: 2024 Hugging Face, the makers of SmolLM2\nLicense: Apache-2.0\n"
        " On Debian systems the whole text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
    _documents(
        stage / "usr" / "share" / "doc" / "seamount-starter", "seamount-starter", epoch, copyright_text
    )
    fields = {
        "Package": "seamount-starter",
        "Architecture": "all",
        "Section": "science",
        "Enhances": "seamount",
        "Description": f"small language model to begin with in Seamount\n{STARTER_DESCRIPTION}",
    }
    return _built(stage, folder, fields, epoch)


def _documents(folder: Path, package: str, epoch: int, copyright_text: str) -> None:
    entry = (
        f"{package} ({version()}) unstable; urgency=medium\n\n"
        f"  * Release {version()}.\n\n -- {MAINTAINER}  {formatdate(epoch)}\n"
    )
    write(folder / "changelog.gz", entry, packed=True)
    write(folder / "copyright", copyright_text)


def _copyright(bundle: Path) -> str:
    index = json.loads((bundle / "_internal" / "licences" / licences.INDEX).read_text(encoding="utf-8"))
    own = (ROOT / "LICENSE").read_text(encoding="utf-8").strip().splitlines()
    holder = next(line for line in own if line.startswith("Copyright"))
    text = [f" {line}" if line.strip() else " ." for line in own[own.index(holder) + 2 :]]
    others = [f"  {each['name']} {each['version']}: {each['licence']}" for each in index]
    return "\n".join(
        (
            "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
            "Upstream-Name: Seamount",
            "",
            "Files: *",
            f"Copyright: {holder.removeprefix('Copyright (c) ')}",
            "License: Expat",
            *text,
            "",
            "Files: usr/lib/seamount/_internal/*",
            "Copyright: the authors of the packages below, as their licence texts name them",
            "License: each-its-own",
            " The whole text of each is in /usr/lib/seamount/_internal/licences/.",
            " .",
            *others,
            "",
        )
    )


def _built(stage: Path, folder: Path, fields: dict[str, str], epoch: int) -> Path:
    files = [path for path in sorted(stage.rglob("*")) if path.is_file() and not path.is_symlink()]
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files]
    write(stage / "DEBIAN" / "md5sums", "".join(sums))
    size = sum(-(-path.lstat().st_size // 1024) for path in stage.rglob("*"))
    description = fields.pop("Description")
    control = {
        **fields,
        "Version": version(),
        "Maintainer": MAINTAINER,
        "Installed-Size": str(size),
        "Priority": "optional",
    }
    text = "".join(f"{key}: {value}\n" for key, value in control.items()) + f"Description: {description}\n"
    write(stage / "DEBIAN" / "control", text)
    for path in [stage, *stage.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        elif not path.is_symlink() and path.name != "seamount":
            path.chmod(0o644)
    # Little is gained with the model; it takes half a minute with xz.
    compression = ["-Zxz", "-z3"] if fields["Architecture"] == "amd64" else ["-Zgzip", "-z1"]
    target = folder / f"{fields['Package']}_{version()}_{fields['Architecture']}.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", *compression, "--build", str(stage), str(target)],
        env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def main() -> int:
    """The command line; returns the exit status."""
    try:
        for path in make(Path(sys.argv[1]), Path(sys.argv[2])):
            print(path)
    except (LibraryError, licences.LicenceError, subprocess.CalledProcessError) as error:
        print(f"seamount package: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
