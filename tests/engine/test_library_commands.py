"""Which item a name means, and asking before anything goes."""

from pathlib import Path
from typing import Any

import pytest

from engine import library_commands
from engine.errors import BadRequest, NotFound
from engine.library_commands import remove
from engine.paths import DataFolder
from engine.protocol_library import LibraryItem, Removed
from tests.engine.test_job_commands import Answers

ITEMS = [
    LibraryItem(id="folder:a.gguf", kind="model", name="Flash", path="/m/a.gguf", size_bytes=5 * 10**9),
    LibraryItem(id="folder:b.gguf", kind="model", name="Flash", path="/m/b.gguf", size_bytes=1),
    LibraryItem(
        id="checkpoint:/m/c", kind="checkpoint", name="Pro", path="/m/c", size_bytes=1, repository="d/Pro"
    ),
    LibraryItem(id="folder:f.gguf", kind="model", name="F", path="/m/f.gguf", size_bytes=1, repository="d/F"),
    LibraryItem(
        id="checkpoint:/m/f",
        kind="checkpoint",
        name="F as it came",
        path="/m/f",
        size_bytes=1,
        repository="d/F",
    ),
]


class Library(Answers):
    """Answers with the items, and notes what is asked to be removed."""

    removed = Removed(size_bytes=5 * 10**9, in_trash=True)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        self.asked.append((method, path, body))
        if path == "/api/library/remove":
            return self.removed.model_dump()
        return {
            "items": [item.model_dump() for item in ITEMS],
            "offers": [],
            "rooms": [],
            "hub": {"endpoint": "https://huggingface.co"},
            "machine": {"processor": "", "cores": 1, "memory_bytes": 1},
        }


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    answers = Library()
    monkeypatch.setattr(library_commands, "connected", answers)
    return answers


@pytest.mark.parametrize(
    ("named", "item_id"),
    [
        ("folder:b.gguf", "folder:b.gguf"),
        ("pro", "checkpoint:/m/c"),
        ("d/Pro", "checkpoint:/m/c"),
        ("/m/a.gguf", "folder:a.gguf"),
    ],
)
def test_a_name_an_id_or_a_path(library: Library, tmp_path: Path, named: str, item_id: str) -> None:
    assert remove(DataFolder(tmp_path), named, for_good=True, sure=True) == 0
    assert library.asked[-1][2] == {"item_id": item_id, "for_good": True}


def test_a_name_of_two_or_none_is_told(library: Library, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"2 bear that name; say folder:a\.gguf or folder:b\.gguf instead"):
        remove(DataFolder(tmp_path), "Flash", for_good=False, sure=True)
    # A checkpoint and the model that was made of it: neither is the one that is meant.
    with pytest.raises(BadRequest, match=r"2 bear that name; say folder:f\.gguf or checkpoint:/m/f instead"):
        remove(DataFolder(tmp_path), "d/F", for_good=True, sure=True)
    assert not [path for _, path, _ in library.asked if path == "/api/library/remove"]
    with pytest.raises(NotFound, match="nothing of that name here"):
        remove(DataFolder(tmp_path), "x", for_good=False, sure=True)


def test_a_person_is_asked(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DataFolder(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    questions: list[str] = []

    def answer(question: str) -> str:
        questions.append(question)
        return "n" if len(questions) == 1 else "Y"

    monkeypatch.setattr("builtins.input", answer)
    assert remove(folder, "/m/a.gguf", for_good=False, sure=False) == 1
    assert not [path for _, path, _ in library.asked if path == "/api/library/remove"]
    assert remove(folder, "/m/a.gguf", for_good=False, sure=False) == 0
    assert questions == ["Remove it to the trash? [y/N] "] * 2
    assert "Flash is in the trash; its 5.0 GB are free once that is emptied." in capsys.readouterr().out
    library.removed = Removed(size_bytes=5 * 10**9, in_trash=False)
    remove(folder, "/m/a.gguf", for_good=True, sure=True)
    assert capsys.readouterr().out == "Flash is deleted; 5.0 GB are free.\n"
    library.removed = Removed(size_bytes=0, in_trash=False)
    remove(folder, "/m/a.gguf", for_good=True, sure=True)
    assert capsys.readouterr().out == "Flash is off the list; its file stays where it lies.\n"


def test_no_answer_is_no(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", leave)
    assert remove(DataFolder(tmp_path), "/m/a.gguf", for_good=False, sure=False) == 1
