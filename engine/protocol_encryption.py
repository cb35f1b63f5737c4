"""What crosses the wire about encryption at rest.

Owns: the shapes of `/api/encryption`. Does not know how it is done. A recovery key is in two of them, once each way.
"""

from typing import Annotated, Literal

from pydantic import Field

from engine.protocol_base import ErrorBody, Wire


class EncryptionState(Wire):
    """`GET /api/encryption`."""

    on: bool
    """The conversations are encrypted."""
    locked: ErrorBody | None = None
    """Why they cannot be opened: their key is not here. No session is shown then."""
    pending: Literal["on", "off"] | None = None
    """What is done when the engine starts next."""
    problem: ErrorBody | None = None
    """Why that was not done at the last start."""
    restart_needed: bool = False
    """A change waits, or the key has been given: a restart of the engine does the rest."""
    key_place: Literal["keyring", "file"] = "keyring"
    """Where the key lies or would lie."""
    plain_files: list[str] = Field(default_factory=list)
    """Older copies of the store, in the data folder, that are not encrypted: names of files."""


class ChangeEncryption(Wire):
    """`PUT /api/encryption`: at the next start, encrypt the conversations or take that back.

    What is asked for already is asked for again, with a new key; asking for what is so takes a change back.
    """

    on: bool
    remove_plain_files: bool = False
    """Delete EncryptionState.plain_files once the conversations are encrypted."""


class EncryptionChange(Wire):
    """The reply to ChangeEncryption. `recovery_key`: of a change to on; it is shown here and never again."""

    state: EncryptionState
    recovery_key: str | None = None


class RecoveryKey(Wire):
    """`POST /api/encryption/recover`: the key of locked conversations, as it was written down."""

    recovery_key: Annotated[str, Field(max_length=500)]
