"""Which names and addresses stand for a repository, and which are refused."""

import pytest

from engine.errors import BadRequest
from engine.library.repository_names import Place, is_commit, is_repository, is_revision, read_place

HUB = "https://huggingface.co"
COMMIT = "7872f01b1d1fe23eabc4c98b48bffcef5a386062"


@pytest.mark.parametrize("name", ["a/b", "deepseek-ai/DeepSeek-V4-Flash", "o_1/n.1-x", "1/2"])
def test_repositories(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "a/",
        "/a",
        "a/b/c",
        "../b",
        "a/..",
        "a/b..c",
        "a/--b",
        "a/b--c",
        ".a/b",
        "a/b.",
        "a/b-",
        "a/con",
        "NUL.txt/b",
        "a/b c",
        "a/b\\c",
        "a/b:c",
        "a/bé",
        "a/" + "b" * 97,
        "a/b\n",
    ],
)
def test_what_is_no_repository(name: str) -> None:
    assert not is_repository(name)


def test_revisions() -> None:
    assert is_commit(COMMIT)
    assert not is_commit(COMMIT[:8])
    assert not is_commit(COMMIT.upper())
    assert all(is_revision(each) for each in (COMMIT, "main", "v1.0", "refs/pr/1", "a-b_c"))
    assert not any(
        is_revision(each) for each in ("", "-x", "/x", "a..b", "a//b", "a b", "x" * 201, "x\n", "a@b")
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a/b", Place("a/b")),
        (" a/b@v1 ", Place("a/b", "v1")),
        ("https://huggingface.co/a/b", Place("a/b")),
        ("https://hf.co/a/b/", Place("a/b")),
        ("https://huggingface.co/a/b/tree/v1", Place("a/b", "v1")),
        ("https://huggingface.co/a/b/blob/main/sub/x.gguf?download=true", Place("a/b", "main", "sub/x.gguf")),
        (f"https://huggingface.co/a/b/resolve/{COMMIT}/x%20y.gguf", Place("a/b", COMMIT, "x y.gguf")),
        ("http://127.0.0.1:9/a/b/commit/" + COMMIT, Place("a/b", COMMIT)),
        ("https://huggingface.co/a/b/discussions", Place("a/b")),
    ],
)
def test_what_stands_for_a_place(text: str, place: Place) -> None:
    assert read_place(text, "http://127.0.0.1:9") == place


@pytest.mark.parametrize(
    "text",
    [
        "flash",
        "a/b@",
        "a/b@-x",
        "https://example.com/a/b",
        "https://huggingface.co.evil.com/a/b",
        "https://huggingface.co@evil.com/a/b",
        "https://huggingface.co/",
        "https://huggingface.co/a",
        "https://huggingface.co/datasets/a/b",
        "https://huggingface.co/spaces/a",
        "https://huggingface.co/../b",
        "https://huggingface.co/%2e%2e/b",
        "file:///a/b",
        "https://[::1/a/b",
        "a/b\x1b[2J",
    ],
)
def test_what_does_not(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_place(text, HUB)
    assert caught.value.text.isprintable()
