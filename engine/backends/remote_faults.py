"""What is said of a machine that was to compute an answer and did not.

Owns: where a request goes and within which limits (`Target`), and the sentence for each way in which it can fail,
sorted by whether the request can have been begun: RemoteUnreachable and RemoteBusy are those that can be asked again.
What a server says of itself is quoted short, cleaned, and without the key. Does not know httpx (`remote_wire`).
"""

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from engine.backends.remote_address import Address
from engine.conversation import clean_text
from engine.errors import (
    RemoteBrokeOff,
    RemoteBusy,
    RemoteChanged,
    RemoteError,
    RemoteKeyRefused,
    RemoteUnreachable,
)

LONGEST_QUOTE = 300
_ERROR_NAMES = ("error", "message", "detail", "msg", "text")


@dataclass(frozen=True)
class Limits:
    """How long each step may take, in seconds, and how much may come, in bytes."""

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    """A long conversation is read before the first word comes."""
    idle_s: float = 120.0
    body_bytes: int = 8 << 20
    """Of a reply that is read as a whole."""
    stream_bytes: int = 512 << 20


LIMITS = Limits()


@dataclass(frozen=True)
class Target:
    """Where a request goes. `socket_path`: that of a tunnel, whose other end `address` names. `name`: what a person
    calls it, where that is not its address; `host`: what it is to be told that it is called, likewise."""

    address: Address
    fingerprint: str | None = None
    key: str | None = field(default=None, repr=False)
    socket_path: str | None = None
    limits: Limits = LIMITS
    name: str | None = None
    host: str | None = None

    @property
    def place(self) -> str:
        """As a person is told it."""
        return self.name or self.address.place


@dataclass(frozen=True)
class Reply:
    """A whole reply. `json` None: it is none."""

    status: int
    headers: Mapping[str, str]
    json: Any


class CertificateChanged(RemoteChanged):
    """The certificate is not the one that was agreed to; `fingerprint` is the one that was shown instead."""

    def __init__(self, place: str, fingerprint: str) -> None:
        super().__init__(
            f"{place} was not asked",
            f"its certificate is another one than was agreed to (SHA-256 {fingerprint})",
            "ask who runs it, and agree to the new one only if it is theirs",
        )
        self.place = place
        self.fingerprint = fingerprint


class OtherCertificate(ssl.SSLError):
    """A handshake showed another certificate than the pinned one: `found` is its fingerprint."""

    def __init__(self, found: str) -> None:
        super().__init__("another certificate")
        self.found = found


class CertificateUnknown(RemoteUnreachable):
    """Nobody vouches for the certificate."""


class Busy(RemoteBusy):
    """`after_s`: when the server wants to be asked again, if it says."""

    def __init__(self, place: str, status: int, said: str, after_s: float | None) -> None:
        wait = "" if after_s is None else f", and asks to wait {after_s:.0f} s"
        super().__init__(
            f"{place} did not take the question",
            f"it takes no more now (status {status}{wait}){said}",
            "try again later",
        )
        self.after_s = after_s


def refusal(target: Target, reply: Reply) -> RemoteError:
    """The error that a reply without an answer stands for."""
    status, place = reply.status, target.place
    said = f": “{words}”" if (words := quoted(target, reply)) else ""
    if status in (429, 503):
        return Busy(place, status, said, _retry_after(reply.headers.get("retry-after")))
    if status in (401, 403):
        remedy = "give it another key in the settings" if target.key else "give it a key in the settings"
        return RemoteKeyRefused(f"{place} did not let the request in", f"it answered {status}{said}", remedy)
    if status == 402:
        return RemoteKeyRefused(
            f"{place} did not take the question", f"the account has no balance{said}", "see to it there"
        )
    if status == 404:
        return RemoteError(
            f"{place} has no such model",
            f"it answered 404{said}",
            "check the address, and the model's name there",
        )
    if 300 <= status < 400:
        return RemoteError(
            f"{place} gave no answer",
            f"it sends requests on to another place{_host_of(reply.headers.get('location', ''))}, "
            "and a conversation is not sent where nobody agreed to",
            "put the address that is meant into the settings",
        )
    if status >= 500:
        return RemoteBrokeOff(
            f"{place} gave no answer",
            f"it failed (status {status}){said}; the question may have been computed and charged",
            "look there before you ask again",
        )
    if status == 413 or ("context" in said.lower() and "length" in said.lower()):
        return RemoteError(
            f"{place} refused the question",
            f"the conversation is too long for it (status {status}){said}",
            "begin a new one, or shorten it",
        )
    return RemoteError(
        f"{place} refused the question", f"it answered {status}{said}", "see what it does not like about it"
    )


def quoted(target: Target, reply: Reply) -> str:
    """What a server says of its error, short, without the key that some repeat."""
    return words_of(reply.json, target.key)


def words_of(found: Any, key: str | None) -> str:
    """The message of an error in any of the usual shapes, on one line; "" where there is none."""
    for _ in range(4):
        if isinstance(found, list):
            found = next(iter(cast("list[Any]", found)), None)
        if not isinstance(found, dict):
            break
        fields = cast("dict[str, Any]", found)
        found = next((fields[name] for name in _ERROR_NAMES if fields.get(name)), None)
    if not isinstance(found, str):
        return ""
    if key:
        found = found.replace(key, "…")
    line = " ".join(each for each in clean_text(found[: 4 * LONGEST_QUOTE])[0].split())
    line = "".join(each if each.isprintable() else " " for each in line).replace("“", "'").replace("”", "'")
    return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]}…"


def unreachable(target: Target, error: BaseException) -> RemoteError:
    place = target.place
    for cause in _causes(error):
        if isinstance(cause, OtherCertificate):
            return CertificateChanged(place, cause.found)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateUnknown(
                f"{place} was not asked",
                f"its certificate is not trusted ({cause.verify_message})",
                "agree to its fingerprint in the settings, if it is a machine of yours",
            )
        if isinstance(cause, ssl.SSLError):
            return RemoteUnreachable(
                f"{place} was not asked",
                "it does not speak TLS as it should",
                "check the address and its port",
            )
        if isinstance(cause, socket.gaierror):
            return RemoteUnreachable(
                f"{place} was not asked",
                "there is no such name, or no network to ask for it",
                "check the name and the network",
            )
        if isinstance(cause, ConnectionRefusedError):
            return RemoteUnreachable(
                f"{place} was not asked", "nothing listens there", "start the server there, or check the port"
            )
    if any(isinstance(cause, TimeoutError) for cause in _causes(error)):
        why = f"it did not take the connection within {target.limits.connect_s:.0f} s"
    else:
        why = "it cannot be reached"
    return RemoteUnreachable(f"{place} was not asked", why, "check the network and the address")


def _causes(error: BaseException) -> list[BaseException]:
    """It and what led to it, groups of them taken apart."""
    found: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left and len(found) < 32:
        each = left.pop(0)
        if each is None or each in found:
            continue
        found.append(each)
        if isinstance(each, BaseExceptionGroup):
            left += list(each.exceptions)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        left += [each.__cause__, each.__context__]
    return found


def broke_off(target: Target, why: str) -> RemoteBrokeOff:
    return RemoteBrokeOff(
        f"{target.place} stopped answering",
        f"{why} after the question was sent, which may have been computed and charged",
        "what arrived is kept; ask again if you want it anew",
    )


def _host_of(location: str) -> str:
    try:
        host = urlsplit(location).netloc.rpartition("@")[2]
    except ValueError:
        return ""
    return f" ({clean_text(host)[0][:100]})" if host and host.isascii() and host.isprintable() else ""


def _retry_after(text: str | None) -> float | None:
    """Seconds, bounded; a date is not waited for."""
    if text is None or not text.strip().isascii() or not text.strip().isdigit() or len(text) > 9:
        return None
    return float(text.strip())
