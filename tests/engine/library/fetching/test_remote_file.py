"""Names of files at the hub: what may become a file here, and what must not."""

import hashlib
from pathlib import Path

import pytest

from engine.errors import FetchFailed
from engine.library.fetching.remote_file import RemoteFile, check_names, place_of


@pytest.mark.parametrize(
    "path",
    [
        "config.json",
        "model-00001-of-00048.safetensors",
        "encoding/README.md",
        "Modèle/日本語.json",
        ".gitattributes",
        "a" * 200,
        "..a/b..c",
        "con_fig.json",
    ],
)
def test_ordinary_names_are_taken(path: str, tmp_path: Path) -> None:
    check_names([path], "some/one")
    assert place_of(tmp_path, path).is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../evil", "outside"),
        ("a/../../evil", "outside"),
        ("/etc/passwd", "outside"),
        ("a//b", "outside"),
        ("./a", "outside"),
        ("a/", "outside"),
        ("", "no name"),
        ("..\\evil", "character"),
        ("C:evil", "character"),
        ("C:/evil", "character"),
        ("\\\\host\\share\\x", "character"),
        ("file:stream", "character"),
        ("what?", "character"),
        ("a\nb", "shown"),
        ("a\x00b", "shown"),
        ("a\u202eb", "shown"),
        ("NUL", "Windows"),
        ("sub/aux.json", "Windows"),
        ("Com1.txt", "Windows"),
        ("name.", "Windows"),
        ("name ", "Windows"),
        ("a./b", "Windows"),
        ("a" * 256, "too long"),
        ("é" * 130, "too long"),
        ("a/" * 600 + "b", "too long"),
        (".cache/seamount/fetch.json", "notes"),
        (".CACHE/huggingface/x", "notes"),
        ("\ud800", "shown"),
    ],
)
def test_hostile_names_are_refused_with_a_sentence(path: str, why: str) -> None:
    with pytest.raises(FetchFailed) as refused:
        check_names(["config.json", path], "some/one")
    assert why in refused.value.why
    assert refused.value.text.isprintable()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("README.md", "readme.md"),
        ("straße.json", "STRASSE.json"),
        ("caf\u00e9.json", "cafe\u0301.json"),
        ("a/b.json", "A/B.json"),
        ("same.json", "same.json"),
    ],
)
def test_names_that_some_disks_hold_for_the_same_are_refused(one: str, other: str) -> None:
    with pytest.raises(FetchFailed, match="one file on many disks"):
        check_names([one, other], "some/one")


def test_a_file_in_the_place_of_a_folder_is_refused() -> None:
    with pytest.raises(FetchFailed, match="a folder in the name"):
        check_names(["weights/a.bin", "Weights"], "some/one")


def test_digests_are_those_of_the_hub() -> None:
    content = b"hello"
    git = hashlib.sha1(b"blob 5\0hello").hexdigest()
    for file in (
        RemoteFile("a", 5, hashlib.sha256(content).hexdigest()),
        RemoteFile("a", 5, None, git),
    ):
        digest = file.hasher()
        digest.update(content)
        assert digest.hexdigest() == file.digest
    assert RemoteFile("a", 5).digest == ""
