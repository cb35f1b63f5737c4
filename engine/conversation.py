"""What was said, as pure values.

Owns: the message value that prompts are made from, and the cleaning of text that comes from outside.
Does not know how a prompt is rendered (`encoding/`) or where messages are kept (`store/`).
"""

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "�"


@dataclass(frozen=True)
class Message:
    """One message of a conversation, in the order it is put to the model."""

    role: Role
    text: str


def clean_text(text: str) -> tuple[str, int]:
    """`text` with NUL and lone surrogates replaced by U+FFFD, and how many there were.

    Neither can be stored or sent: UTF-8 has no lone surrogates (Unicode 3.9, D92), and NUL ends strings in
    many programs that text is copied to. Everything else, right-to-left marks included, stays as it is.
    """
    return _UNSTORABLE.subn(REPLACEMENT, text)
