"""The words of a model that the native engine computes: its tokeniser, and what its files call it.

Owns: `Vocabulary`, from a GGUF (through llama.cpp, which reads the vocabulary alone) or from a checkpoint's
tokenizer.json. Does not know weights (`engine.model`) or contexts (`native`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from convert.gguf_header import GgufError, read_gguf_header
from engine.encoding.tokenizer import OfficialTokenizer, Tokenizer
from engine.errors import ModelFileError
from engine.library.model_files import REMEDIES

_LARGEST_CONFIG_BYTES = 4 << 20
_TOKENIZER, _CONFIG, _GENERATION = "tokenizer.json", "config.json", "generation_config.json"


@dataclass(frozen=True)
class Vocabulary:
    """`begin_id`: put before every prompt, None: the model wants none. `close` lets go of what the tokeniser holds."""

    tokenizer: Tokenizer
    size: int
    end_ids: frozenset[int]
    begin_id: int | None
    begin_text: str
    end_text: str
    template: str | None
    release_names: tuple[str, ...]
    close: Callable[[], None]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Of every token that is not ordinary text."""
        return frozenset(self.tokenizer.control.values())

    def token_bytes(self, token_id: int) -> bytes:
        """What a token stands for in text; empty for control tokens."""
        return b"" if token_id in self.control_ids else self.tokenizer.token_bytes(token_id)


def vocabulary_of_gguf(path: Path) -> Vocabulary:
    """That of the file at `path`, the first part of a split one. Raises ModelFileError."""
    # Imported here: it loads llama.cpp.
    from engine.backends.llama_vocabulary import GgufVocabulary

    try:
        header = read_gguf_header(path)
    except GgufError as error:
        raise ModelFileError(error.what, error.why, REMEDIES[error.problem]) from error
    found = GgufVocabulary.open(path)
    return Vocabulary(
        tokenizer=found,
        size=found.size,
        end_ids=found.end_ids,
        begin_id=found.begin_id if found.wants_begin else None,
        begin_text=found.text(found.begin_id),
        end_text=found.text(found.end_id),
        template=header.chat_template,
        release_names=tuple(filter(None, (header.text("seamount.release"), header.name))),
        close=found.close,
    )


def vocabulary_of_checkpoint(folder: Path, size: int) -> Vocabulary:
    """That of a checkpoint's folder; `size`: rows of its embedding. Raises ModelFileError."""
    # Imported here: it knows all that a checkpoint may be.
    from engine.inspect_command import release_names

    tokenizer = OfficialTokenizer(folder / _TOKENIZER)
    if tokenizer.vocabulary_size > size:
        raise ModelFileError(
            f"The tokeniser of {folder.name} could not be used",
            f"it has {tokenizer.vocabulary_size:,} tokens and the model {size:,}",
            "fetch the checkpoint again",
        )
    named = _json(folder / _CONFIG) | _json(folder / _GENERATION)
    ends = frozenset(each for each in _whole_numbers(named.get("eos_token_id")) if each < size)
    begins = [each for each in _whole_numbers(named.get("bos_token_id")) if each < size]
    texts = {token_id: text for text, token_id in tokenizer.control.items()}
    return Vocabulary(
        tokenizer=tokenizer,
        size=size,
        end_ids=ends,
        # The release's prompts begin with it as text (DeepSeek-V4's tokenizer_config.json: add_bos_token false).
        begin_id=None,
        begin_text=texts.get(begins[0], "") if begins else "",
        end_text=texts.get(min(ends), "") if ends else "",
        template=None,
        release_names=tuple(release_names(folder)),
        close=_nothing,
    )


def _whole_numbers(value: object) -> list[int]:
    """A number or a list of them as JSON has it; what is neither is left out."""
    values = cast(list[object], value) if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, int) and not isinstance(each, bool) and each >= 0]


def _json(path: Path) -> dict[str, Any]:
    """A small table of settings; nothing where there is none. Raises ModelFileError."""
    what = f"{path.name} of {path.parent.name} could not be used"
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelFileError(what, error.strerror or str(error), "look whether the disk is well") from error
    if len(data) > _LARGEST_CONFIG_BYTES:
        raise ModelFileError(what, f"it is larger than {_LARGEST_CONFIG_BYTES:,} bytes", "fetch it again")
    try:
        table: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(what, f"it is not JSON ({error})", "fetch it again") from error
    return cast(dict[str, Any], table) if isinstance(table, dict) else {}


def _nothing() -> None:
    """There is nothing to let go of."""


def vocabulary_of(path: Path, size: int) -> Vocabulary:
    """The vocabulary beside the weights at `path`, of a model with `size` rows of embedding.

    Raises ModelFileError where there is none, or one of another model.
    """
    if path.is_dir():
        return vocabulary_of_checkpoint(path, size)
    found = vocabulary_of_gguf(path)
    if found.size > size:
        found.close()
        raise ModelFileError(
            f"{path.name} cannot be used",
            f"its vocabulary has {found.size:,} tokens and its embedding {size:,}",
            "get the file again, or convert the checkpoint again",
        )
    return found
