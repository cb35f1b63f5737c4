"""Web pages that may call the engine from a browser.

Owns: which origins are let in, the answer to a browser that asks beforehand (preflight), and the headers that let a
page read an answer. Nobody is let in who is not named in the settings, and nobody is let in everywhere: a page has the
dialects' paths alone, and needs a client's key. Does not know keys.
"""

import re
from collections.abc import Iterable

from engine.errors import NotAllowed

PREFLIGHT_S = 600
LONGEST_ORIGIN = 300
MOST_HEADER_NAMES = 64
_ORIGIN = re.compile(
    r"(https?|[a-z][a-z0-9+.-]{0,40}-extension|app|tauri|vscode-webview)://[a-z0-9.\-_\[\]:]{1,255}"
)
_NAMES = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64})*")
_METHODS = b"GET, POST, OPTIONS"
_EXPOSED = b"request-id, x-request-id, retry-after, seamount-steady, seamount-sent-to"

Headers = list[tuple[bytes, bytes]]


def named_origins(settings: Iterable[str]) -> set[bytes]:
    """Those of the settings that are an origin: no path, no `*`, not `null`, which many pages share."""
    wanted = (each.strip().rstrip("/").lower() for each in settings)
    return {each.encode() for each in wanted if _ORIGIN.fullmatch(each)}


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser asks what a page may do."""
    return method == "OPTIONS" and any(name == b"access-control-request-method" for name, _ in headers)


def preflight_headers(origin: bytes, headers: Headers) -> Headers:
    """The answer to a browser that asks for a page that is let in. Raises NotAllowed for what it may not."""
    asked = {name: value for name, value in headers if name.startswith(b"access-control-request-")}
    if asked.get(b"access-control-request-method", b"").upper() not in (b"GET", b"POST"):
        raise NotAllowed("The request was refused", "a page may only get and post", "use one of these")
    names = asked.get(b"access-control-request-headers", b"")
    answer = [
        *page_headers(origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-max-age", b"%d" % PREFLIGHT_S),
    ]
    if names:
        if not _NAMES.fullmatch(names) or names.count(b",") >= MOST_HEADER_NAMES:
            raise NotAllowed("The request was refused", "it names headers that are none", "name fewer")
        # What a client's library sends beside the key differs with each; none of it opens anything.
        answer.append((b"access-control-allow-headers", names))
    if asked.get(b"access-control-request-private-network", b"").lower() == b"true":
        # A page of the internet that a person has named may reach this machine: that is what naming it is for.
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer


def page_headers(origin: bytes) -> Headers:
    """What lets a page of that origin read an answer. No cookies are ever looked at, so none are let through."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]
