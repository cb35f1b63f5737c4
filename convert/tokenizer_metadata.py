"""The vocabulary of a checkpoint as the keys that llama.cpp reads.

Owns: turning tokenizer.json and tokenizer_config.json into `tokenizer.ggml.*` (byte-level BPE, pre-tokeniser
"deepseek-v3"; V4.md 1.5). Does not tokenise, and does not know chat templates: V4 has none.

Types are those of llama.cpp's own converter: an added token is CONTROL if it is special or looks like one
(`<｜…｜>`), else USER_DEFINED (`<think>`, `｜DSML｜`). BOS is never added: it is part of the prompt's text.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

from convert.conversion_error import ConversionError
from convert.gguf_writer import Metadata

MAX_TOKENS = 1 << 20
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""llama_token_type in llama.h."""
_SPACE = "▁"


def add_tokenizer(
    metadata: Metadata, tokenizer_json: bytes, tokenizer_config_json: bytes | None, vocabulary_size: int
) -> None:
    """Add the vocabulary to `metadata`: `vocabulary_size` tokens, as many as the embedding has rows.

    Raises ConversionError for a file that is not such a tokeniser, or holds an id beyond the embedding.
    """
    table = _table("tokenizer.json", tokenizer_json)
    config = {} if tokenizer_config_json is None else _table("tokenizer_config.json", tokenizer_config_json)
    try:
        tokens, types = _tokens(table, vocabulary_size)
        merges = _merges(table["model"]["merges"])
        ids = {text: number for number, text in enumerate(tokens)}
        bos = _special(config, "bos_token", ids, 0)
        eos = _special(config, "eos_token", ids, 1)
        pad = _special(config, "pad_token", ids, eos)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable("tokenizer.json", f"it is not laid out as expected ({str(error)[:100]})") from error
    metadata.text("tokenizer.ggml.model", "gpt2")
    metadata.text("tokenizer.ggml.pre", "deepseek-v3")
    metadata.texts("tokenizer.ggml.tokens", tokens)
    metadata.integers("tokenizer.ggml.token_type", types)
    metadata.texts("tokenizer.ggml.merges", merges)
    metadata.count("tokenizer.ggml.bos_token_id", bos)
    metadata.count("tokenizer.ggml.eos_token_id", eos)
    metadata.count("tokenizer.ggml.padding_token_id", pad)
    metadata.flag("tokenizer.ggml.add_bos_token", False)
    metadata.flag("tokenizer.ggml.add_eos_token", False)


def _tokens(table: Mapping[str, Any], vocabulary_size: int) -> tuple[list[str], list[int]]:
    """The text and the type of each id."""
    if not 0 < vocabulary_size <= MAX_TOKENS:
        raise _unusable("config.json", f"its vocabulary has {vocabulary_size:,} tokens")
    if table["model"]["type"] != "BPE":
        raise _unusable("tokenizer.json", "it is not a byte-level BPE")
    vocabulary = cast(dict[str, int], table["model"]["vocab"])
    added = cast(list[dict[str, Any]], table.get("added_tokens") or [])
    tokens = [f"[PAD{number}]" for number in range(vocabulary_size)]
    types = [UNUSED] * vocabulary_size
    for text, number in vocabulary.items():
        _check_id(number, vocabulary_size)
        tokens[number], types[number] = text, NORMAL
    for token in added:
        text, number = str(token["content"]), int(token["id"])
        _check_id(number, vocabulary_size)
        if token.get("special") or _looks_special(text):
            tokens[number], types[number] = text, CONTROL
        else:
            tokens[number], types[number] = text.replace(_SPACE, " "), USER_DEFINED
    if len(set(tokens)) < len(tokens):
        raise _unusable("tokenizer.json", "two of its tokens are the same")
    return tokens, types


def _check_id(number: int, vocabulary_size: int) -> None:
    if not 0 <= number < vocabulary_size:
        raise _unusable(
            "tokenizer.json", f"its token {number:,} lies outside the {vocabulary_size:,} of the model"
        )


def _merges(merges: list[Any]) -> list[str]:
    """Each merge as its two parts with a space between; parts never hold one, the vocabulary writes it Ġ."""
    pairs = [merge if isinstance(merge, str) else " ".join(cast(list[str], merge)) for merge in merges]
    if any(pair.count(" ") != 1 for pair in pairs):
        raise ValueError("a merge of other than two parts")
    return pairs


def _special(config: Mapping[str, Any], key: str, ids: Mapping[str, int], otherwise: int) -> int:
    named: Any = config.get(key)
    text: Any = cast(dict[str, Any], named).get("content") if isinstance(named, dict) else named
    return ids.get(text, otherwise) if isinstance(text, str) else otherwise


def _looks_special(text: str) -> bool:
    return text.startswith(("<|", "<｜")) and text.endswith(("|>", "｜>"))


def _table(name: str, content: bytes) -> dict[str, Any]:
    try:
        table: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _unusable(name, f"it is not JSON ({str(error)[:100]})") from error
    if not isinstance(table, dict):
        raise _unusable(name, "it is not a JSON object")
    return cast(dict[str, Any], table)


def _unusable(name: str, why: str) -> ConversionError:
    return ConversionError(
        "checkpoint", f"The checkpoint's {name} cannot be used", why, "fetch the checkpoint again"
    )
