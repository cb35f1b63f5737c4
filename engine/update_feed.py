"""The feed that tells of the newest version: a small JSON file, fetched with suspicion and never carried out.

Owns: which address may be asked, what is read of its answer and how much of it, and the sentence for each thing that
can be wrong. Does not know when it is asked (`updates`), nor settings. docs/updating.md documents the file.
"""

import ipaddress
import json
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urljoin, urlsplit

from engine.errors import BadRequest, FeedRefused
from engine.protocol_about import UpdateFound
from engine.version import is_version

if TYPE_CHECKING:
    import httpx

RELEASE = Path(__file__).resolve().parents[1] / "assets" / "release.toml"
LARGEST_BYTES = 64 << 10
LONGEST_ADDRESS = 500
MOST_REDIRECTS = 3
PAUSE_S = 10.0
"""The longest the server may be silent."""
WHOLE_S = 30.0
"""The longest all of it may take."""
_WHAT = "Whether there is a newer version is not known"


def built_in_address() -> str | None:
    """The address that this build was given; None without one."""
    try:
        found = tomllib.loads(RELEASE.read_text("utf-8")).get("feed")
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) and found else None


def checked_address(address: str) -> str:
    """`address` as it is. Raises BadRequest unless it is https, or of this very machine, and nothing but a place."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    well = (
        len(address) <= LONGEST_ADDRESS
        and address.isascii()
        and address.isprintable()
        and not any(each in address for each in ' \\"<>')
        and parts.username is None
        and parts.password is None
        and not parts.fragment
        and port != 0
        and (parts.scheme == "https" or (parts.scheme == "http" and _is_this_machine(parts.hostname or "")))
        and bool(parts.hostname)
    )
    if not well:
        raise BadRequest(
            _WHAT, "the address to look at is not one of https", "correct updates_address in settings.toml"
        )
    return address


def fetch(address: str, stopping: Callable[[], bool] = lambda: False) -> UpdateFound:
    """The newest version, as the feed at `address` tells. Raises FeedRefused, BadRequest."""
    import httpx

    at = checked_address(address)
    host = urlsplit(at).netloc.lower()
    until = time.monotonic() + WHOLE_S
    # Neither the machine nor this version is named to anybody.
    headers = {"User-Agent": "seamount", "Accept": "application/json"}
    try:
        with httpx.Client(timeout=PAUSE_S, follow_redirects=False, headers=headers) as client:
            for _ in range(MOST_REDIRECTS + 1):
                with client.stream("GET", at) as answer:
                    if not answer.has_redirect_location:
                        return _read(answer, host, until, stopping)
                    at = checked_address(urljoin(at, answer.headers["Location"]))
                if urlsplit(at).netloc.lower() != host:
                    raise _refused(host, "it leads to another place")
    except BadRequest as error:
        raise _refused(host, "it leads to something that is no address of https") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
        raise _refused(host, _why(error)) from error
    raise _refused(host, "it leads from one place to the next")


def parsed(content: bytes, host: str) -> UpdateFound:
    """What a feed says. Raises FeedRefused."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refused(host, "its answer is not JSON") from error
    said = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    named = said.get("version")
    if not isinstance(named, str) or not is_version(named):
        raise _refused(host, "its answer names no version")
    return UpdateFound(version=named, notes_url=page_of(said.get("notes_url")))


def page_of(address: object) -> str | None:
    """The address of a page that may be opened in a browser; None for anything else."""
    if not isinstance(address, str) or not address.lower().startswith("https://"):
        return None
    try:
        return checked_address(address)
    except BadRequest:
        return None


def _read(answer: "httpx.Response", host: str, until: float, stopping: Callable[[], bool]) -> UpdateFound:
    if answer.status_code != 200:
        raise _refused(host, f"it answered {answer.status_code}")
    content = b""
    for piece in answer.iter_bytes(8192):
        content += piece
        if len(content) > LARGEST_BYTES:
            raise _refused(host, "its answer is larger than any feed")
        if time.monotonic() > until or stopping():
            raise _refused(host, "it did not end in time")
    return parsed(content, host)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "it cannot be reached"
    if isinstance(error, httpx.DecodingError):
        return "its answer is packed in a way that cannot be read"
    return f"speaking with it failed ({type(error).__name__})"


def _refused(host: str, why: str) -> FeedRefused:
    return FeedRefused(_WHAT, f"{host} was asked, and {why}", "it is asked again tomorrow")
