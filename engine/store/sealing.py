"""Sealing what is kept: AES-256-GCM, with a key of its own for each use.

Owns: how bytes are sealed and opened, how the keys for the different uses come from the one key of a data folder,
and names that tell nothing. Does not know where the key lies (`keys`), what is sealed (`sealed_columns`, the
journal, the snapshots), or how a data folder is turned from one form to the other (`encryption`).

Everything cryptographic is the package `cryptography`: AES-GCM (NIST SP 800-38D) and HKDF-SHA-256 (RFC 5869); names
are keyed BLAKE2b (RFC 7693) of the standard library. Nonces are random, 96 bits: SP 800-38D allows 2^32 sealed
values under one key, and each use has its own.
"""

import hashlib
import os
import secrets
from dataclasses import dataclass, field
from typing import Protocol

from engine.errors import SealBroken

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES
"""A sealed value is this much longer than what it holds."""
NAME_BYTES = 32
_KEY_ID_BYTES = 8


class Cipher(Protocol):
    """Seals values for one use. Any thread may call it."""

    def seal(self, data: bytes, about: bytes) -> bytes:
        """`data` sealed, OVERHEAD_BYTES longer: nonce, ciphertext, tag. `about` says what and where it is; it is
        not stored, and the value opens only for the same `about`."""
        ...

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """What was sealed. Raises SealBroken for another key, another `about`, or any changed byte."""
        ...

    def name(self, data: bytes) -> str:
        """A name for `data`, 64 hexadecimal digits: always the same, and of no use without the key."""
        ...


@dataclass(frozen=True)
class MasterKey:
    """The one key of a data folder, from which the others come."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(self.secret)}")

    def __reduce__(self) -> str:
        raise TypeError("a key stays in its process")

    @classmethod
    def new(cls) -> "MasterKey":
        """A random one."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def id(self) -> str:
        """Which key it is, 16 hexadecimal digits; tells nothing of the key."""
        return self.derived("id")[:_KEY_ID_BYTES].hex()

    def derived(self, use: str) -> bytes:
        """The key for `use`: HKDF-SHA-256, KEY_BYTES long."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"seamount 1 {use}".encode()).derive(self.secret)


class AesCipher:
    """AES-256-GCM with random nonces, under the keys that `master` has for `use`."""

    def __init__(self, master: MasterKey, use: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aes = AESGCM(master.derived(f"{use} seal"))
        self._name_key = master.derived(f"{use} name")
        self._use = use

    def __repr__(self) -> str:
        return f"AesCipher({self._use!r})"

    def seal(self, data: bytes, about: bytes) -> bytes:
        """`Cipher.seal`."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._aes.encrypt(nonce, data, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """`Cipher.open`."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) < OVERHEAD_BYTES:
            raise seal_broken("it is shorter than anything that was sealed")
        try:
            return self._aes.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about)
        except InvalidTag:
            raise seal_broken("it was changed, moved, or sealed with another key") from None

    def name(self, data: bytes) -> str:
        """`Cipher.name`."""
        return hashlib.blake2b(data, digest_size=NAME_BYTES, key=self._name_key).hexdigest()


@dataclass(frozen=True)
class Ciphers:
    """A data folder's ciphers, one for each place where conversations lie."""

    rows: Cipher
    journals: Cipher
    snapshots: Cipher

    @classmethod
    def of(cls, master: MasterKey) -> "Ciphers":
        """Those of a key."""
        return cls(*(AesCipher(master, use) for use in ("rows", "journals", "snapshots")))


def seal_broken(why: str) -> SealBroken:
    """The error for a sealed value that does not open."""
    return SealBroken(
        "An encrypted value cannot be read",
        why,
        "restore a backup of the data folder; what is here was left untouched",
    )
