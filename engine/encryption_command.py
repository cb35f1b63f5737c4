"""`seamount sessions encrypt`: encryption at rest, from a terminal.

Owns: what is printed and read. Does not know how conversations are encrypted (`store/encryption`). Without an engine
a change is made at once, with the data folder locked; with one it is noted down for its next start.
"""

import getpass
import sys
from typing import Literal

from engine.errors import BadRequest
from engine.folder_lock import locked
from engine.launch import running_engine
from engine.paths import DataFolder
from engine.protocol_encryption import ChangeEncryption, EncryptionState
from engine.store.encryption import Encryption
from engine.store.recovery_key import LONGEST_TYPED

Asked = Literal["on", "off", "recover"]


def encrypt(folder: DataFolder, asked: Asked | None, *, remove_plain_files: bool = False) -> int:
    """Turn encryption on or off, take a recovery key from stdin, or (None) say what is so.

    0, or 1 where a change could not be made. Raises SeamountError and its kinds, KeyMissing where all is locked.
    """
    if remove_plain_files and asked != "on":
        raise BadRequest(
            "Nothing was changed", "copies are removed when conversations are encrypted", "add --on"
        )
    folder.create()
    encryption = Encryption(folder)
    if asked == "recover":
        encryption.recover(_typed_key())
        print("The key is kept; the conversations can be opened again.", flush=True)
        if running_engine(folder) is not None:
            print("Restart the engine, which opens them.", flush=True)
        return 0
    if asked is not None:
        on = asked == "on"
        change = encryption.change(ChangeEncryption(on=on, remove_plain_files=remove_plain_files))
        if change.recovery_key is not None:
            _show_key(change.recovery_key, encryption.state().key_place)
        if change.state.pending is not None:
            if running_engine(folder) is not None:
                print("An engine runs, so it is done when the engine starts next: restart it.", flush=True)
                return 0
            what = f"The conversations cannot be {'encrypted' if on else 'decrypted'} now"
            with locked(folder, what, "end that engine, or restart it, which does it"):
                encryption.settle()
    else:
        encryption.opened()  # that their key is missing is what there is to say
    state = encryption.state()
    for line in state_lines(state):
        print(line, flush=True)
    return 1 if state.problem or state.locked else 0


def state_lines(state: EncryptionState) -> list[str]:
    """What is so, as sentences."""
    place = "the system's keyring" if state.key_place == "keyring" else "the file that the environment names"
    lines = [
        f"The conversations are encrypted; their key is in {place}."
        if state.on
        else "The conversations are not encrypted."
    ]
    if state.locked is not None:
        lines = [state.locked.text]
    if state.pending is not None:
        change = "encrypted" if state.pending == "on" else "decrypted"
        lines.append(f"They are {change} when the engine starts next.")
    if state.problem is not None:
        lines.append(state.problem.text)
    if state.on and state.plain_files:
        lines.append(
            f"Older copies are not encrypted: {', '.join(state.plain_files)}; "
            "`seamount sessions encrypt --on --remove-plain-files` deletes them."
        )
    return lines


def _show_key(key: str, place: str) -> None:
    where = "the keyring" if place == "keyring" else "the file"
    print("The recovery key, which is shown this once. Write it down and keep it apart from this machine:")
    print(f"\n    {key}\n")
    print(f"Without it the conversations are lost when {where} is lost. Nobody else has it.", flush=True)


def _typed_key() -> str:
    """From a terminal without showing it, else a line of stdin. Raises BadRequest for none."""
    try:
        typed = (
            getpass.getpass("Recovery key: ") if sys.stdin.isatty() else sys.stdin.readline(LONGEST_TYPED + 1)
        )
    except (EOFError, UnicodeDecodeError):
        typed = ""
    if not typed.strip():
        raise BadRequest("No recovery key was given", "the line is empty", "type the one you wrote down")
    return typed
