"""Wheels taken apart: good ones as they are, hostile ones not at all."""

import errno
import hashlib
import os
import stat
import zipfile
from pathlib import Path
from zipfile import ZipInfo

import pytest

from engine import fault_points
from engine.errors import PartError, TaskStopped
from engine.parts.wheel_file import unpack
from tests.support.wheel_index import record_line, write_wheel

PLENTY = 1 << 20


def unpacked(wheel: Path, into: Path, most_bytes: int = PLENTY) -> dict[str, bytes]:
    written: dict[str, bytes] = {}
    into.mkdir(exist_ok=True)
    unpack(wheel, into, most_bytes=most_bytes, written=written)
    return written


def test_every_file_as_it_is_and_what_goes_elsewhere_not(tmp_path: Path) -> None:
    tool = ZipInfo("good/bin/assemble")
    tool.external_attr = (stat.S_IFREG | 0o4755) << 16
    files = {
        "good/__init__.py": b"x = 1\n",
        "good/empty.py": b"",
        "good/déjà.txt": "né".encode(),
        "good-1.0.data/purelib/beside.py": b"y = 2\n",
        "good-1.0.data/platlib/lib.so": b"\x7fELF",
        "good-1.0.data/scripts/good": b"#!python\n",
        "good-1.0.data/data/share/man/good.1": b".TH",
    }
    wheel = write_wheel(tmp_path, "good", files=files, infos=[(tool, b"binary")])
    written = unpacked(wheel, tmp_path / "into")
    found = {
        p.relative_to(tmp_path / "into").as_posix() for p in (tmp_path / "into").rglob("*") if p.is_file()
    }
    info = {f"good-1.0.dist-info/{each}" for each in ("METADATA", "WHEEL", "RECORD")}
    assert found == info | {
        "good/__init__.py",
        "good/empty.py",
        "good/déjà.txt",
        "good/bin/assemble",
        "beside.py",
        "lib.so",
    }
    assert (tmp_path / "into" / "good" / "déjà.txt").read_text("utf-8") == "né"
    assert written["good/__init__.py"] == hashlib.sha256(b"x = 1\n").digest()
    if os.name != "nt":
        modes = {
            each: (tmp_path / "into" / "good" / each).stat().st_mode & 0o7111
            for each in ("bin/assemble", "empty.py")
        }
        umask = os.umask(0)
        os.umask(umask)
        assert modes == {"bin/assemble": 0o111 & ~umask, "empty.py": 0}


def named(name: str) -> ZipInfo:
    info = ZipInfo("x")
    info.filename = name  # as it is: the constructor would mend it
    return info


@pytest.mark.parametrize(
    "name",
    [
        "../out.py",
        "good/../../out.py",
        "/out.py",
        "good\\..\\out.py",
        "C:/out.py",
        "good//out.py",
        "./out.py",
        "a\x01b",
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    wheel = write_wheel(tmp_path / "wheels", "good", infos=[(named(name), b"bad")])
    with pytest.raises(PartError, match="a name in it leads elsewhere"):
        unpacked(wheel, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []
    assert not (tmp_path / "out.py").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices(tmp_path: Path, kind: int) -> None:
    link = ZipInfo("good/link")
    link.external_attr = (kind | 0o777) << 16
    wheel = write_wheel(tmp_path, "good", infos=[(link, b"/etc/passwd")])
    with pytest.raises(PartError, match="good/link is a link or device"):
        unpacked(wheel, tmp_path / "into")


def test_the_list_of_files_is_exactly_what_is_there(tmp_path: Path) -> None:
    more = write_wheel(tmp_path / "a", "good", unlisted={"good_extra.pth": b"import os"})
    with pytest.raises(PartError, match=r"good_extra.pth is not in the list of its files"):
        unpacked(more, tmp_path / "into")
    fewer = write_wheel(tmp_path / "b", "good", listed_only=[record_line("gone.py", b"")])
    with pytest.raises(PartError, match=r"gone.py is in the list of its files only"):
        unpacked(fewer, tmp_path / "into")
    none = write_wheel(tmp_path / "c", "good", record="good.py,,\n")
    with pytest.raises(PartError, match=r"the list of its files cannot be read \(good.py has no SHA-256\)"):
        unpacked(none, tmp_path / "into")
    odd = write_wheel(tmp_path / "d", "good", record="only one column\n")
    with pytest.raises(PartError, match="the list of its files cannot be read"):
        unpacked(odd, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def test_a_file_that_is_not_what_the_list_says(tmp_path: Path) -> None:
    info = "good-1.0.dist-info"
    rows = [f"{info}/RECORD,,", record_line("good.py", b"VERSION = '2.0'\n")]
    whole = write_wheel(tmp_path / "whole", "good")
    with zipfile.ZipFile(whole) as archive:
        rows += [
            record_line(n, archive.read(n))
            for n in archive.namelist()
            if n.startswith(info) and "RECORD" not in n
        ]
    other = write_wheel(tmp_path / "a", "good", record="\n".join(rows))
    with pytest.raises(PartError, match=r"good.py has another sum than its list says"):
        unpacked(other, tmp_path / "into")
    longer = write_wheel(
        tmp_path / "b", "good", record="\n".join(rows).replace("'2.0'", "").replace(",16", ",17")
    )
    with pytest.raises(PartError, match=r"good.py has another size than its list says"):
        unpacked(longer, tmp_path / "into")


def test_more_than_is_known_of_it_is_not_unpacked(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "good", files={"good.bin": bytes(1 << 20)})
    assert wheel.stat().st_size < 10_000
    with pytest.raises(PartError, match="unpacked it is larger than the 100,000 bytes"):
        unpacked(wheel, tmp_path / "into", most_bytes=100_000)
    assert not (tmp_path / "into" / "good.bin").exists()


def test_a_torn_archive(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "good", files={"good.bin": os.urandom(50_000)})
    content = wheel.read_bytes()
    for torn in (content[:20_000], b"", b"<html>", content[:1000] + bytes(1000) + content[2000:]):
        wheel.write_bytes(torn)
        with pytest.raises(PartError, match="it is not a whole archive"):
            unpacked(wheel, tmp_path / "into")


def test_two_wheels_may_bring_the_same_file_and_not_another_of_its_name(tmp_path: Path) -> None:
    written: dict[str, bytes] = {}
    into = tmp_path / "into"
    into.mkdir()
    for name in ("one", "two"):
        wheel = write_wheel(tmp_path / name, name, files={"shared/__init__.py": b"# both\n"})
        unpack(wheel, into, most_bytes=PLENTY, written=written)
    other = write_wheel(tmp_path / "three", "three", files={"shared/__init__.py": b"# its own\n"})
    with pytest.raises(
        PartError, match=r"another wheel of the part has already brought another shared/__init__.py"
    ):
        unpack(other, into, most_bytes=PLENTY, written=written)
    assert (into / "shared" / "__init__.py").read_bytes() == b"# both\n"


def test_it_stops_between_two_files_and_says_that_a_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(tmp_path, "good")
    asked: list[int] = []

    def second() -> bool:
        asked.append(1)
        return len(asked) > 1

    (tmp_path / "into").mkdir()
    with pytest.raises(TaskStopped):
        unpack(wheel, tmp_path / "into", most_bytes=PLENTY, written={}, stopped=second)
    assert len(list((tmp_path / "into").iterdir())) == 1
    monkeypatch.setattr(fault_points, "_spec", "part-unpacking:1:enospc")
    monkeypatch.setattr(fault_points, "_passes", 0)
    with pytest.raises(OSError, match="space") as full:
        unpacked(wheel, tmp_path / "elsewhere")
    assert full.value.errno == errno.ENOSPC
