"""Links and files from outside: what they may ask for, and the sentences for all else."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BadRequest
from engine.library.repository_names import is_repository, is_revision
from engine.outside_request import LONGEST_LINK, ModelFile, ModelLink, is_request, read_request

COMMIT = "7872f01b1d1fe23eabc4c98b48bffcef5a386062"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("seamount://get/flash-0731", ModelLink("flash-0731")),
        ("SEAMOUNT://GET/flash-0731", ModelLink("flash-0731")),
        (f"seamount://get/flash-0731@{COMMIT}", ModelLink("flash-0731", COMMIT)),
        ("seamount://get/deepseek-ai/DeepSeek-V4-Flash", ModelLink("deepseek-ai/DeepSeek-V4-Flash")),
        ("seamount://get/a/b@refs/pr/1", ModelLink("a/b", "refs/pr/1")),
        ("seamount://get/Owner_1/Name.v2-x@v1.0", ModelLink("Owner_1/Name.v2-x", "v1.0")),
    ],
)
def test_links_to_models(text: str, meant: ModelLink) -> None:
    assert is_request(text)
    assert read_request(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "seamount:", "seamount://", "seamount:get/a", "seamount:///get/a/b", "seamount://get", "seamount://get/",
        "seamount://run/a/b", "seamount://get.evil/a/b", "seamount://user@get/a/b", "seamount://get:80/a/b",
        "seamount://delete/flash-0731", "seamount://get/a/b/c", "seamount://get//a", "seamount://get/a//b",
        "seamount://get/../etc/passwd", "seamount://get/a/..", "seamount://get/..", "seamount://get/./a",
        "seamount://get/a/b/../../c", "seamount://get/%2e%2e/a", "seamount://get/a%2fb", "seamount://get/a/b%00",
        "seamount://get/a/b?token=1", "seamount://get/a/b#x", "seamount://get/a/b?", "seamount://get/a b",
        "seamount://get/a/b\n--data=/x", "seamount://get/a/b\x1b[2J", "seamount://get/a/b\x00", "seamount://get/a\\b",
        "seamount://get/a/b@", "seamount://get/a/b@..", "seamount://get/a/b@../x", "seamount://get/a/b@x//y",
        "seamount://get/a/b@x@y", "seamount://get/-a/b", "seamount://get/--data/b", "seamount://get/a/CON",
        "seamount://get/a/com1.txt", "seamount://get/\u0430/b", "seamount://get/a/b\u202egnp", "seamount://get/FLASH",
        "seamount://get/https://evil.example/x", "seamount://get/file:///etc/passwd", "seamount://get/a/b ",
        "seamount://get/a/" + "b" * 97, "seamount://get/a/b@" + "c" * 201, "seamount://get/" + "a" * LONGEST_LINK,
    ],
)  # fmt: skip
def test_links_that_ask_for_anything_else_are_refused_in_a_sentence(text: str) -> None:
    assert is_request(text)
    with pytest.raises(BadRequest) as refused:
        read_request(text, Path("/"))
    sentence = refused.value.text
    assert sentence.isprintable() and "\u202e" not in sentence and len(sentence) < 400


@pytest.mark.parametrize(
    "text", ["https://a/b", "javascript:alert(1)", "seamountx://get/a", "chat", "--data", ""]
)
def test_what_is_no_link_and_no_model_file_is_none(text: str) -> None:
    assert not is_request(text)
    with pytest.raises(BadRequest):
        read_request(text, Path("/"))


@given(st.text(max_size=60).map("seamount://get/".__add__) | st.text(max_size=80).map("seamount:".__add__))
def test_whatever_is_taken_the_library_could_name(text: str) -> None:
    try:
        found = read_request(text)
    except BadRequest as refused:
        assert refused.text.isprintable()
        return
    assert isinstance(found, ModelLink)
    assert is_repository(found.name) or (found.name.isascii() and "/" not in found.name)
    assert found.revision is None or is_revision(found.revision)


@given(
    st.from_regex(r"\A[A-Za-z0-9._-]{1,8}/[A-Za-z0-9._-]{1,8}\Z"), st.from_regex(r"\A[A-Za-z0-9._/-]{0,9}\Z")
)
def test_what_the_library_calls_a_repository_can_be_linked_to(name: str, revision: str) -> None:
    link = f"seamount://get/{name}" + (f"@{revision}" if revision else "")
    if is_repository(name) and (not revision or is_revision(revision)):
        assert read_request(link) == ModelLink(name, revision or None)
    else:
        with pytest.raises(BadRequest):
            read_request(link)


def test_a_file_by_its_path_and_by_its_address(tmp_path: Path) -> None:
    path = tmp_path / "ein Modell ä 100%.GGUF"
    path.write_bytes(b"")
    assert read_request(str(path)) == ModelFile(path)
    assert read_request(path.as_uri()) == ModelFile(path)
    assert read_request(path.as_uri().replace("file://", "file://localhost")) == ModelFile(path)
    assert read_request(path.name, tmp_path) == ModelFile(path)
    with pytest.raises(BadRequest, match="not a whole one"):
        read_request(path.name)


def test_files_that_cannot_be_opened_are_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "notes.txt").write_text("")
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "loop.gguf").symlink_to(tmp_path / "loop.gguf")
    for text, why in (
        (f"{tmp_path}/gone.gguf", "no such file"),
        (f"{tmp_path}/folder.gguf", "no ordinary file"),
        (f"{tmp_path}/pipe.gguf", "no ordinary file"),
        (f"{tmp_path}/loop.gguf", "was not opened"),
        (f"file://{tmp_path}/notes.txt", "only .gguf files"),
        (f"file://other.example{tmp_path}/x.gguf", "another machine"),
        (f"file://{tmp_path}/x%00.gguf", "no address of a file"),
        (f"file://{tmp_path}/x%0a.gguf", "no path of a file"),
        (f"file://{tmp_path}/x.gguf?y", "no address of a file"),
        (f"{tmp_path}/{'x' * 300}.gguf", "was not opened"),
        ("/" + "x" * 5000 + ".gguf", "too long"),
        ("file://[/x.gguf", "no address of a file"),
    ):
        with pytest.raises(BadRequest) as refused:
            read_request(text, tmp_path)
        assert why in refused.value.text and refused.value.text.isprintable()
