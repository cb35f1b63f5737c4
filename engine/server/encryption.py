"""The routes of encryption at rest.

Owns: `/api/encryption`. Does not know how conversations are encrypted (`store/encryption`). The routes are plain
functions: the framework runs them in its threads, because a keyring may take its time.
"""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from engine.protocol_encryption import ChangeEncryption, RecoveryKey
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api/encryption")


@router.get("")
def state(engine: EngineOf) -> Response:
    """The EncryptionState."""
    return reply(engine.encryption.state())


@router.put("")
def change(
    asked: Annotated[ChangeEncryption, Depends(body_of(ChangeEncryption))], engine: EngineOf
) -> Response:
    """Encrypt the conversations at the next start, or take that back: the EncryptionChange."""
    return reply(engine.encryption.change(asked))


@router.post("/recover")
def recover(asked: Annotated[RecoveryKey, Depends(body_of(RecoveryKey))], engine: EngineOf) -> Response:
    """Give the key of locked conversations, which a restart then opens: the EncryptionState."""
    return reply(engine.encryption.recover(asked.recovery_key))
