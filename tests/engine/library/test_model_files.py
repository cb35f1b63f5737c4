"""What a model file says of itself, and what is said of one that cannot be used."""

import json
import os
import struct
from pathlib import Path

import pytest

from engine.library import model_files
from engine.library.model_files import ModelFiles, is_later_part, parts_of

UINT32, FLOAT32, STRING = 4, 6, 8


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(tensors: int = 1, **entries: str | int | float) -> bytes:
    """A tiny GGUF: keys with `__` for `.`, one F32 tensor of one number each."""
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(entries))
    for key, value in entries.items():
        head += text(key.replace("__", "."))
        if isinstance(value, str):
            head += struct.pack("<I", STRING) + text(value)
        elif isinstance(value, int):
            head += struct.pack("<II", UINT32, value)
        else:
            head += struct.pack("<If", FLOAT32, value)
    for index in range(tensors):
        head += text(f"t{index}") + struct.pack("<IQIQ", 1, 1, 0, 32 * index)
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32 * tensors


def test_the_facts_of_a_model(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(
        gguf(
            general__architecture="llama",
            general__name="A\nname\x1b",
            llama__context_length=4096,
            general__sampling__temp=0.5,
            general__sampling__top_p=0.25,
        )
    )
    facts = ModelFiles().facts(path)
    assert (facts.name, facts.architecture, facts.context_train_tokens) == ("A name", "llama", 4096)
    assert facts.sampling == {"temperature": 0.5, "top_p": 0.25}
    assert facts.size_bytes == path.stat().st_size and facts.problem is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gguf(general__architecture="llama")[:-30], "truncated: it holds"),
        (b"<html>not found</html>", "web page"),
        (b"", "empty"),
        (gguf(general__name="x"), "general.architecture"),
        (gguf(general__architecture="clip"), "picture part"),
        (gguf(general__architecture="llama", general__type="mmproj"), "picture part"),
        (gguf(general__architecture="llama", general__type="adapter"), "adapter"),
        (gguf(0, general__architecture="llama"), "only a vocabulary"),
        (gguf(general__architecture="llama", general__type="vocab"), "only a vocabulary"),
    ],
)
def test_why_it_cannot_be_used(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(content)
    facts = ModelFiles().facts(path)
    assert facts.problem is not None and facts.problem.code == "model_file"
    assert facts.problem.text.startswith("file.gguf cannot be used as a model: ")
    assert why in facts.problem.text
    assert facts.problem.remedy


def test_a_folder_is_told_what_becomes_a_model(tmp_path: Path) -> None:
    problem = ModelFiles().facts(tmp_path).problem
    assert problem is not None
    assert (
        "it is a folder; choose a .gguf file; a checkpoint becomes one by `seamount convert" in problem.text
    )


def test_a_new_architecture_is_no_problem_here(tmp_path: Path) -> None:
    (tmp_path / "new.gguf").write_bytes(gguf(general__architecture="from-the-future"))
    assert ModelFiles().facts(tmp_path / "new.gguf").problem is None


def test_a_header_is_read_again_only_when_the_file_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.gguf"
    path.write_bytes(gguf(general__architecture="llama", general__name="one"))
    read: list[Path] = []
    real = model_files.read_gguf_header
    monkeypatch.setattr(model_files, "read_gguf_header", lambda each: read.append(each) or real(each))
    files = ModelFiles()
    assert files.facts(path) is files.facts(path)
    assert read == [path]
    path.write_bytes(gguf(general__architecture="llama", general__name="two"))
    os.utime(path, ns=(1, 1))
    assert files.facts(path).name == "two"
    files.keep_only([])
    assert files.facts(path).name == "two"
    assert read == [path] * 3
    path.unlink()
    problem = files.facts(path).problem
    assert problem is not None and "no such file" in problem.text
    path.write_bytes(gguf(general__architecture="llama", general__name="back"))
    assert files.facts(path).problem is None


def test_a_split_model_is_its_first_part(tmp_path: Path) -> None:
    names = [f"big-{part:05}-of-00003.gguf" for part in (1, 2, 3)]
    (tmp_path / names[0]).write_bytes(gguf(0, general__architecture="llama", split__count=3))
    (tmp_path / names[1]).write_bytes(gguf())
    assert parts_of(tmp_path / names[0]) == [tmp_path / name for name in names]
    assert [is_later_part(tmp_path / name) for name in names] == [False, True, True]
    files = ModelFiles()
    problem = files.facts(tmp_path / names[0]).problem
    assert problem is not None and names[2] in problem.text and "missing" in problem.text
    (tmp_path / names[2]).write_bytes(gguf())
    facts = files.facts(tmp_path / names[0])
    assert facts.problem is None
    assert facts.size_bytes == sum((tmp_path / name).stat().st_size for name in names)
    (tmp_path / names[2]).write_bytes(gguf()[:-30])
    problem = files.facts(tmp_path / names[0]).problem
    assert problem is not None and "truncated" in problem.text
    problem = files.facts(tmp_path / names[1]).problem
    assert problem is not None and "choose the first" in problem.text


def test_a_script_has_to_be_json(tmp_path: Path) -> None:
    path = tmp_path / "talk.script.json"
    path.write_text(json.dumps({"anything": 1}))
    files = ModelFiles()
    facts = files.facts(path)
    assert (facts.name, facts.architecture, facts.problem) == ("talk", "scripted", None)
    path.write_text("[" * 100_000)
    problem = files.facts(path).problem
    assert problem is not None and "script" in problem.text
