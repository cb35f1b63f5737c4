"""Which columns of the store hold conversations, and how they are sealed one by one.

Owns: the list of those columns, the SQL functions `seal`, `unseal` and `unseal_or_null`, and the table `sealing`,
which says of an encrypted store with which key it is sealed. Does not know the ciphers (`sealing`), where keys lie
(`keys`), or how a store comes from one form to the other (`encryption`).

    seal(value, 'message.text', <row>)      what is to be stored in that column of that row
    unseal(stored, 'message.text', <row>)   what was sealed there; an error for a value that does not open
    unseal_or_null(...)                     the same, and NULL for one that does not open, which is logged

<row> names the row by what never changes: ids, and for a piece of an answer its number too. It is bound to the value
as associated data, with the column's name, so that a value that was moved to another row or column does not open.
NULL and what is empty are stored as they are. Text is stored as Base64 (RFC 4648) of what was sealed, because the
tables are STRICT; blobs as they are. In a store that is not encrypted all three give back what they are given.
"""

import base64
import binascii
import logging
import sqlite3
from collections.abc import Mapping
from typing import TypeAlias

from engine.errors import DataFolderError, KeyMissing, SealBroken
from engine.store.sealing import Cipher, seal_broken

Value: TypeAlias = str | bytes | None

_MESSAGE = "(SELECT m.id FROM {schema}.message m WHERE m.number = t.message)"
SEALED: Mapping[str, Mapping[str, str]] = {
    "session": dict.fromkeys(("title", "tools"), "t.id"),
    "message": dict.fromkeys(
        ("text", "reasoning", "call_text", "tool_calls", "notices", "error_text", "token_ids"), "t.id"
    ),
    "chunk": dict.fromkeys(("text", "token_ids"), _MESSAGE + " || '/' || t.number"),
    "search_text": {"folded": _MESSAGE},
    "written_call": dict.fromkeys(("reasoning", "token_ids"), "t.id"),
}
"""Table → column → the SQL that names its row, the table being `t` in a database named {schema}."""

PROOF = b"the key of this store"
_PROOF_ABOUT = b"sealing.proof"
SEALING_TABLE = """
    CREATE TABLE sealing (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        key_id TEXT NOT NULL,
        proof BLOB NOT NULL
    ) STRICT"""

_logger = logging.getLogger(__name__)


class SealedColumns:
    """The SQL functions of one connection, for a cipher or for none."""

    def __init__(self, cipher: Cipher | None) -> None:
        self._cipher = cipher
        self._broken: SealBroken | None = None

    @property
    def cipher(self) -> Cipher | None:
        """That of an encrypted store."""
        return self._cipher

    def add_to(self, connection: sqlite3.Connection) -> None:
        """Register the functions. What SQLite sorts of an encrypted store it sorts in memory, never in a file."""
        if self._cipher is not None:
            connection.execute("PRAGMA temp_store = MEMORY")
        connection.create_function("seal", 3, self.seal)
        connection.create_function("unseal", 3, self.unseal_told)
        connection.create_function("unseal_or_null", 3, self._unseal_or_none)

    def check_new(self) -> None:
        """Refuse to begin a store without encryption where an encrypted one is expected. DataFolderError."""
        if self._cipher is not None:
            raise DataFolderError(
                "The conversations cannot be opened",
                "they are expected to be encrypted and are not",
                "restore a backup of the data folder; what is here was left untouched",
            )

    def check(self, connection: sqlite3.Connection) -> None:
        """Refuse a cipher that is not the store's. Reads only. Raises KeyMissing, DataFolderError."""
        key_id = sealed_with(connection)
        if key_id is None:
            self.check_new()
            return
        if self._cipher is None:
            raise key_missing(key_id, "their key is not in the keyring")
        try:
            self._cipher.open(connection.execute("SELECT proof FROM sealing").fetchone()[0], _PROOF_ABOUT)
        except SealBroken:
            raise key_missing(key_id, "the key that was found is not theirs") from None

    def seal(self, value: Value, column: str, row: str) -> Value:
        """`value` as it is stored in `column` of `row`."""
        if self._cipher is None or not value:
            return value
        if isinstance(value, str):
            return base64.b64encode(self._cipher.seal(value.encode(), _about(column, row))).decode()
        return self._cipher.seal(value, _about(column, row))

    def unseal(self, stored: Value, column: str, row: str) -> Value:
        """What was sealed there. Raises SealBroken."""
        if self._cipher is None or not stored:
            return stored
        if isinstance(stored, bytes):
            return self._cipher.open(stored, _about(column, row))
        try:
            sealed = base64.b64decode(stored.encode(), validate=True)
        except binascii.Error:
            raise seal_broken("it has not the form of one") from None
        return self._cipher.open(sealed, _about(column, row)).decode()

    def taken_failure(self) -> SealBroken | None:
        """Why a statement failed in `unseal`, once: SQLite itself only says that a function did."""
        broken, self._broken = self._broken, None
        return broken

    def unseal_told(self, stored: Value, column: str, row: str) -> Value:
        """`unseal`, and a failure is kept for `taken_failure`."""
        try:
            return self.unseal(stored, column, row)
        except SealBroken as error:
            self._broken = error
            raise

    def _unseal_or_none(self, stored: Value, column: str, row: str) -> Value:
        try:
            return self.unseal(stored, column, row)
        except SealBroken as error:
            _logger.error("%s of a row in the session store: %s", column, error.text)
            return None


def mark_sealed(connection: sqlite3.Connection, key_id: str, cipher: Cipher) -> None:
    """Say in the store that it is sealed, and with which key."""
    connection.execute(SEALING_TABLE)
    connection.execute("INSERT INTO sealing VALUES (1, ?, ?)", (key_id, cipher.seal(PROOF, _PROOF_ABOUT)))


def sealed_with(connection: sqlite3.Connection) -> str | None:
    """The id of the key that the store is sealed with; None for one that is not encrypted."""
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'sealing'").fetchone() is None:
        return None
    return str(connection.execute("SELECT key_id FROM sealing").fetchone()[0])


def key_missing(key_id: str, why: str) -> KeyMissing:
    """The error for encrypted conversations without their key."""
    return KeyMissing(
        "The conversations stay locked",
        f"they are encrypted and {why} (key {key_id})",
        "unlock the keyring and restart, or give the recovery key with `seamount sessions encrypt --recover`; "
        "nothing was changed",
    )


def _about(column: str, row: str) -> bytes:
    return f"{column}\0{row}".encode()
