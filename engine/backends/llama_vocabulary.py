"""A GGUF's own vocabulary, through llama.cpp.

Owns: text to ids and back, and which tokens are control tokens. The same interface as
`encoding.tokenizer.Tokenizer`; with V4's vocabulary it gives the same ids. Importing this module loads
llama_cpp. Does not know models' contexts (`llamacpp`).

llama.cpp finds user-defined tokens in any text, also when asked for plain text, and V4's `<｜User｜>` is one.
So each literal in a text is cut in two where the tokeniser would cut it anyway, between a letter or digit and
the sign after it: no piece then holds the literal, and the ids are those of plain text.

The ids are the official tokeniser's for every text but one that holds characters of Unicode 16 (2024; mostly
Egyptian hieroglyphs and signs of old computers): llama.cpp's table of letters and signs is older, and such a
character may be joined to the space or letter beside it differently. The bytes are the same.
"""

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.backends.llama_library import llama
from engine.encoding.release import ARCHITECTURES
from engine.errors import GenerationError, ModelFileError

_CUT = re.compile(r"(?<=[^\W_])(?=[^\w\s]|_)")
"""Between a letter or digit and a sign: every pre-tokeniser that tells words from signs ends a piece here."""
_ARCHITECTURE = b"general.architecture"


class GgufVocabulary:
    """The vocabulary of a llama.cpp model. Any thread may use it while the model is open."""

    def __init__(self, model: Any, template: str | None = None, *, owned: bool = False) -> None:
        """`template`: what it writes of the user-defined tokens are control tokens. `owned`: free it."""
        self._model, self._owned = model, owned
        self._vocabulary: Any = llama.llama_model_get_vocab(model)
        self.size = int(llama.llama_vocab_n_tokens(self._vocabulary))
        self.begin_id = int(llama.llama_vocab_bos(self._vocabulary))
        self.end_id = int(llama.llama_vocab_eos(self._vocabulary))
        self.wants_begin = bool(llama.llama_vocab_get_add_bos(self._vocabulary)) and self.begin_id >= 0
        self.end_ids = frozenset(i for i in range(self.size) if llama.llama_vocab_is_eog(self._vocabulary, i))
        # Of V4's user-defined tokens none is ordinary text.
        self._all_markers = _metadata(model, _ARCHITECTURE) in ARCHITECTURES
        self._control, self._plain_ids, literals = self._read_control(template)
        self._cuttable = _any_of([text for text in literals if _CUT.search(text)])
        self._pieces: list[bytes | None] = [None] * self.size

    @classmethod
    def open(cls, path: Path) -> "GgufVocabulary":
        """The vocabulary alone, without the weights. Raises ModelFileError."""
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.vocab_only = True
        llama.llama_log_set(_quiet, ctypes.c_void_p(0))
        model = llama.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), parameters)
        if not model:
            raise ModelFileError(
                f"The vocabulary of {path.name} could not be read",
                "llama.cpp refused it",
                "choose another file",
            )
        template = llama.llama_model_chat_template(model, None)
        return cls(model, None if template is None else template.decode("utf-8", "replace"), owned=True)

    def close(self) -> None:
        """Free the model that `open` loaded. Calling it again does nothing."""
        if self._owned and self._model is not None:
            llama.llama_model_free(self._model)
        self._model = self._vocabulary = None

    @property
    def control(self) -> Mapping[str, int]:
        """Id of each control token's literal."""
        return self._control

    def encode(self, text: str) -> list[int]:
        """Ids of `text` as plain text; a lone surrogate becomes "?".

        A SentencePiece model that was made with `add_space_prefix` gets its space before every such piece, not
        only before the first, as llama.cpp does between two control tokens.
        """
        ids: list[int] = []
        for piece in self._pieces_of(text):
            ids += self._tokenize(piece, special=False)
        if self._plain_ids and not self._plain_ids.keys().isdisjoint(ids):
            return [plain for id_ in ids for plain in self._plain_ids.get(id_, (id_,))]
        return ids

    def encode_parsing(self, text: str) -> list[int]:
        """Ids of `text` with control literals parsed."""
        return self._tokenize(text, special=True)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token; empty for unknown tokens and those that llama.cpp takes for control."""
        piece = self._pieces[token_id]
        if piece is None:
            piece = self._pieces[token_id] = self._piece(token_id)
        return piece

    def text(self, token_id: int) -> str:
        """The literal of a token; "" for a negative id, which stands for none."""
        if token_id < 0:
            return ""
        return (llama.llama_vocab_get_text(self._vocabulary, token_id) or b"").decode("utf-8", "replace")

    def _read_control(self, template: str | None) -> tuple[dict[str, int], dict[int, list[int]], list[str]]:
        """(control tokens, how those that llama.cpp finds anyway are spelled, literals it finds in any text)."""
        control: dict[str, int] = {}
        spelled: dict[int, list[int]] = {}
        literals: list[str] = []
        for token_id in range(self.size):
            attributes = int(llama.llama_vocab_get_attr(self._vocabulary, token_id))
            text = self.text(token_id)
            if attributes & llama.LLAMA_TOKEN_ATTR_CONTROL:
                control[text] = token_id
            elif attributes & llama.LLAMA_TOKEN_ATTR_USER_DEFINED and (
                self._all_markers or is_marker(text, template)
            ):
                control[text] = token_id
                literals.append(text)
                spelled[token_id] = [
                    id_ for character in text for id_ in self._tokenize(character, special=False)
                ]
        control.pop("", None)
        return control, spelled, literals

    def _pieces_of(self, text: str) -> list[str]:
        """`text` cut within each literal."""
        if self._cuttable is None:
            return [text]
        pieces: list[str] = []
        start = 0
        while literal := self._cuttable.search(text, start):
            cut = _CUT.search(text, literal.start() + 1, literal.end())
            if cut is None:
                break
            # What stands before the cut holds no literal: this was the first.
            pieces.append(text[start : cut.start()])
            start = cut.start()
        return [*pieces, text[start:]]

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        data = text.encode("utf-8", "replace")
        room = len(data) + 16  # a token is at least a byte, but for an added space
        buffer = (ctypes.c_int32 * room)()
        count = int(llama.llama_tokenize(self._vocabulary, data, len(data), buffer, room, False, special))
        if count < 0:
            raise GenerationError(
                "The text could not be split into tokens", f"llama.cpp reported {count}", "shorten the text"
            )
        return buffer[:count]

    def _piece(self, token_id: int) -> bytes:
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            length = int(llama.llama_token_to_piece(self._vocabulary, token_id, buffer, room, 0, False))
            if length >= 0:
                return buffer.raw[:length]
            room = -length


def _metadata(model: Any, key: bytes) -> str:
    buffer: Any = ctypes.create_string_buffer(64)
    length = int(llama.llama_model_meta_val_str(model, key, buffer, len(buffer)))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else ""


def is_marker(text: str, template: str | None) -> bool:
    """Whether a user-defined token is a mark like <think> rather than ordinary text.

    Models define runs of spaces or HTML tags this way too (Gemma), and llama.cpp finds those in any text.
    What a template writes has a meaning to the model, and so has what is written with V4's full-width bars;
    the rest is text.
    """
    if len(text) < 2 or text.isspace():
        return False
    if "｜" in text:
        return True
    return text in ("<think>", "</think>") or (template is not None and text in template)


def _any_of(literals: list[str]) -> re.Pattern[str] | None:
    ordered = sorted(literals, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


@llama.llama_log_callback
def _quiet(_level: int, _text: bytes, _data: object) -> None:
    """What llama.cpp says while a vocabulary is read is of no use to anybody."""
