"""The key of a data folder as a person keeps it: written down, shown once, typed in again.

Owns: its form. 56 characters of Base32 (RFC 4648, A-Z and 2-7) in 14 groups of four, which are the key's 32 bytes
and 3 bytes of their BLAKE2b: a slip of the pen is noticed with all but one chance in 16 million. Does not know
what the key is for.
"""

import base64
import hashlib
import hmac

from engine.errors import BadRequest
from engine.store.sealing import KEY_BYTES, MasterKey

CHARACTERS = 56
LONGEST_TYPED = 500
_GROUP = 4
_SUM_BYTES = 3
_ALIKE = str.maketrans({"0": "O", "1": "I", "8": "B"})
"""Digits that Base32 has not, and the letters that they are read for."""


def written(key: MasterKey) -> str:
    """`key` as it is shown: ABCD-EFGH-..."""
    text = base64.b32encode(key.secret + _sum(key.secret)).decode()
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def read(typed: str) -> MasterKey:
    """The key that a person typed, in small letters or capitals, with any spaces and hyphens between them.

    Raises BadRequest; what was typed is not in it.
    """
    text = "".join(typed[: LONGEST_TYPED + 1].split()).replace("-", "").upper().translate(_ALIKE)
    if len(typed) > LONGEST_TYPED or len(text) != CHARACTERS:
        raise _no_key(f"a recovery key has {CHARACTERS} letters and digits, in 14 groups of four")
    try:
        whole = base64.b32decode(text.encode("ascii"))
    except (ValueError, UnicodeEncodeError):
        raise _no_key("a recovery key has only the letters A to Z and the digits 2 to 7") from None
    secret, total = whole[:KEY_BYTES], whole[KEY_BYTES:]
    if not hmac.compare_digest(total, _sum(secret)):
        raise _no_key("a letter of it is wrong or at another place")
    return MasterKey(secret)


def _sum(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=_SUM_BYTES, person=b"seamount-recover").digest()


def _no_key(why: str) -> BadRequest:
    return BadRequest("This is not a recovery key", why, "compare it with what you wrote down, and try again")
