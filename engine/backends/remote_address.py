"""Addresses of models on other machines: what one may look like, and what it tells of where a conversation goes.

Owns: reading an address with suspicion, the rule that nothing is sent in the clear beyond this machine and private
networks, and the whereabouts. Pure: it asks no network, so of a name it knows what the name alone tells.
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from engine.errors import BadRequest
from engine.protocol_remote import Whereabouts

LONGEST = 500
_WHAT = "The address was not taken"
_LOCAL_NAMES = (".local", ".lan", ".internal", ".home.arpa", ".localdomain")
_LOCAL_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"),
    )
)
"""RFC 1918, RFC 3927, RFC 4193, RFC 4291."""
_SSH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,253}", re.ASCII)
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252})", re.ASCII)
_ZONE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]{0,30}", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_DIALECT_TAILS = ("/chat/completions", "/completions", "/models")


@dataclass(frozen=True)
class Address:
    """One address. `path` is what stands before /chat/completions, without a slash at its end. `port` None: the usual
    one of its scheme; for ssh, sshd's."""

    scheme: Literal["https", "http", "ssh"]
    host: str
    port: int | None
    path: str = ""
    user: str = ""

    @property
    def base(self) -> str:
        """Where the dialect's paths begin. Not for ssh, whose other end is known only once it is open."""
        return f"{self.scheme}://{self.place}{self.path}"

    @property
    def root(self) -> str:
        """The server itself, for what stands beside its dialect."""
        return f"{self.scheme}://{self.place}"

    @property
    def place(self) -> str:
        """Host and, where one is written, port: as a person is told it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int, str]:
        """Who is spoken to there; paths of one server are one."""
        usual = {"https": 443, "http": 80, "ssh": 22}
        return self.scheme, self.host, self.port or usual[self.scheme], self.user

    @property
    def whereabouts(self) -> Whereabouts:
        """Where what is sent there goes, as far as the address tells."""
        return whereabouts_of(self.host)


def read_address(url: str) -> Address:
    """The address that a person wrote. Raises BadRequest with what is wrong with it."""
    text = url.strip()
    try:
        parts = urlsplit(text)
        port, host, user = parts.port, (parts.hostname or "").lower().rstrip("."), parts.username or ""
        has_password = parts.password is not None
    except ValueError as error:
        raise _refused("it is not an address", "write it as https://HOST/v1") from error
    scheme = parts.scheme.lower()
    if (
        len(text) > LONGEST
        or not text.isascii()
        or not text.isprintable()
        or any(c in text for c in ' \\"<>')
    ):
        raise _refused("it holds characters that no address has", "write it as https://HOST/v1")
    if scheme not in ("https", "http", "ssh") or not host or port == 0 or not _is_host(host):
        raise _refused("it is neither https, http nor ssh to a host", "write it as https://HOST/v1")
    if has_password or parts.query or parts.fragment or (user and scheme != "ssh"):
        raise _refused(
            "it holds more than a place (a name, a password, a question)", "give the key in its own field"
        )
    if scheme == "ssh":
        if (user and not _SSH_PART.fullmatch(user)) or parts.path.strip("/"):
            raise _refused("it is no place to reach by ssh", "write it as ssh://USER@HOST")
        return Address("ssh", host, port, "", user)
    if scheme == "http" and whereabouts_of(host) == "elsewhere":
        raise _refused(
            f"{host} is reached over the open network, where what is sent without encryption can be read",
            "write it with https",
        )
    path = parts.path.rstrip("/")
    for tail in _DIALECT_TAILS:
        path = path.removesuffix(tail)
    return Address("https" if scheme == "https" else "http", host, port, path)


def whereabouts_of(host: str) -> Whereabouts:
    """Where a host is, as far as its name or number tells."""
    try:
        number = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if host == "localhost" or host.endswith(".localhost"):
            return "this machine"
        return "local network" if "." not in host or host.endswith(_LOCAL_NAMES) else "elsewhere"
    mapped = getattr(number, "ipv4_mapped", None)
    number = mapped or number
    if number.is_loopback:
        return "this machine"
    if any(number in network for network in _LOCAL_NETWORKS):
        return "local network"
    return "elsewhere"


def read_fingerprint(text: str) -> str:
    """SHA-256 of a certificate, in the one form that it is kept in: hexadecimal pairs with colons, upper case.

    Raises BadRequest.
    """
    bare = re.sub(r"[:\s]", "", text).lower().removeprefix("sha256")
    if not _FINGERPRINT.fullmatch(bare):
        raise BadRequest(
            "The fingerprint was not taken",
            "it is not the SHA-256 of a certificate (64 hexadecimal digits)",
            "copy it again from the machine that has the certificate",
        )
    return shown_fingerprint(bytes.fromhex(bare))


def shown_fingerprint(digest: bytes) -> str:
    """A digest as people compare it."""
    return digest.hex(":").upper()


def _is_host(host: str) -> bool:
    bare, has_zone, zone = host.partition("%")
    try:
        number = ipaddress.ip_address(bare)
    except ValueError:
        # What ends in a number is one to the network (134744072 is 8.8.8.8), whatever it looks like to people.
        is_name = not _NUMBER.fullmatch(host.rpartition(".")[2])
        return is_name and bool(_HOST.fullmatch(host)) and ".." not in host
    # RFC 4007; a user's own configuration of ssh may hand the host to a shell.
    return not has_zone or (number.version == 6 and bool(_ZONE.fullmatch(zone)))


def _refused(why: str, remedy: str) -> BadRequest:
    return BadRequest(_WHAT, why, remedy)
