"""Getting wheels by pip: from a folder, from an index, and what its failures mean."""

import importlib.util
import os
import threading
from pathlib import Path

import pytest

from engine.errors import DiskFull, PartBrokeOff, PartError, PartUnreachable, TaskStopped
from engine.parts.part_lock import Wheel
from engine.parts.wheel_fetch import fetch, trouble
from tests.support.wheel_index import served, wheel_of, write_wheel

TORCH = Wheel(
    name="torch",
    version="2.13.0+cpu",
    file="torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
    sha256="0" * 64,
    size_bytes=1000,
    unpacked_bytes=1000,
)


def never() -> bool:
    return False


def got(wheel: Wheel, into: Path, **more: object) -> tuple[Path, list[int]]:
    told: list[int] = []
    into.mkdir(exist_ok=True)
    asked = {"find_links": None, "tell": told.append, "stopped": never} | more
    return fetch(wheel, into, **asked), told  # type: ignore[arg-type]


def test_from_a_folder_that_pip_is_told_of(wheels: Path, tmp_path: Path) -> None:
    made = write_wheel(wheels, "good")
    path, told = got(wheel_of(made), tmp_path / "into")
    assert path.read_bytes() == made.read_bytes()
    assert told[-1] == made.stat().st_size


def test_from_a_folder_that_is_named_and_only_the_file_of_that_sum(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, "good", files={"good.py": b"another = True\n"})
    made = write_wheel(tmp_path / "named", "good")
    path, _ = got(wheel_of(made), tmp_path / "into", find_links=tmp_path / "named")
    assert path.read_bytes() == made.read_bytes()


def test_another_file_of_that_name_is_refused(wheels: Path, tmp_path: Path) -> None:
    made = wheel_of(write_wheel(wheels, "good"))
    write_wheel(wheels, "good", files={"good.py": b"another = True\n" * 100})
    with pytest.raises(
        PartError, match=r"what (pip found|came) as good 1.0 is not the file that Seamount knows"
    ):
        got(made, tmp_path / "into")
    assert list((tmp_path / "into" / "got").iterdir()) == []


def test_a_download_is_told_as_it_comes_and_stops_in_the_middle(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = write_wheel(tmp_path / "served", "good", files={"good.bin": os.urandom(3_000_000)})
    stopping, told = threading.Event(), list[int]()
    monkeypatch.delenv("PIP_NO_INDEX")
    with served(tmp_path / "served") as index:
        index.hold = True
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")

        def tell(done: int) -> None:
            told.append(done)
            if done > 1_000_000:  # half of it has come, and no more will
                stopping.set()

        with pytest.raises(TaskStopped):
            got(wheel_of(made), tmp_path / "into", tell=tell, stopped=stopping.is_set)
    assert told == sorted(told) and 1_000_000 < told[-1] < made.stat().st_size


def test_a_python_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(PartError, match=r"this Python has no pip; get it with `python -m ensurepip`"):
        got(TORCH, tmp_path / "into")


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            DiskFull,
            "the disk that holds",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError('<x>: Failed to establish "
            "a new connection: [Errno 111] Connection refused')': /simple/torch/\n"
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from versions: none)\n"
            "ERROR: No matching distribution found for torch==2.13.0+cpu\n",
            PartUnreachable,
            "could not be fetched over the network (pip says: Retrying",
        ),
        (
            "WARNING: Retrying after connection broken by 'ProxyError('Cannot connect to proxy.')': /simple/\n"
            "ERROR: No matching distribution found for torch==2.13.0+cpu\n",
            PartUnreachable,
            "check the network, and the index and proxy",
        ),
        (
            "ERROR: Exception:\npip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed out.\n",
            PartBrokeOff,
            "could not be fetched over the network",
        ),
        (
            "Location 'file:///x/' is ignored: it is neither a file nor a directory.\n"
            "ERROR: Could not find a version that satisfies the requirement torch==2.13.0+cpu (from versions: 2.12)\n"
            "ERROR: No matching distribution found for torch==2.13.0+cpu\n",
            PartError,
            "is not on Python's usual index but on PyTorch's own; name that index to pip (PIP_EXTRA_INDEX_URL",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n",
            PartBrokeOff,
            "its sum differs",
        ),
        (
            "ERROR: torch-2.13.0 is not a supported wheel on http://me:secret@mirror/x\n",
            PartError,
            "status 1: torch-2.13.0 is not a supported wheel on http://mirror/x",
        ),
        ("", PartError, "status 1: nothing"),
    ],
)
def test_what_pips_words_mean(tmp_path: Path, said: str, kind: type[Exception], words: str) -> None:
    found = trouble(TORCH, 1, said, tmp_path)
    assert type(found) is kind
    assert words in found.text
    assert "secret" not in found.text


def test_of_a_plain_wheel_no_other_index_is_spoken(tmp_path: Path) -> None:
    plain = TORCH.model_copy(update={"version": "2.13.0"})
    found = trouble(plain, 1, "ERROR: No matching distribution found for torch\n", tmp_path)
    assert "check which index pip is told of" in found.text and "PyTorch's own" not in found.text


def test_a_sum_that_is_wrong_once_all_has_come_is_no_matter_of_the_network(tmp_path: Path) -> None:
    said = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"
    assert type(trouble(TORCH, 1, said, tmp_path, came_bytes=1000)) is PartError
