"""The certificate that the network's socket shows.

Owns: making one that signs itself (ECDSA on P-256, a year, for the machine's names and addresses), keeping it and
its key in the data folder, reading one that a person has, and its fingerprint. A file that is named is not trusted: its
size is bounded, a key that wants a password is refused instead of asked for. Does not know sockets. Not for the event
loop's thread.
"""

import contextlib
import datetime
import ipaddress
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.access import machine_names
from engine.atomic_file import write_atomically
from engine.errors import CertificateRefused, DataFolderError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, GeneralName

LIFETIME = datetime.timedelta(days=365)
RENEWED_BEFORE_S = 30 * 86_400.0
MAX_BYTES = 1 << 20
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Shown:
    """A certificate that is used. `fingerprint`: SHA-256, hexadecimal in pairs with colons; times are Unix seconds.

    `names`: what it is for, DNS names and addresses.
    """

    certificate_path: Path
    key_path: Path
    kind: Literal["generated", "own"]
    fingerprint: str
    expires_at: float
    names: tuple[str, ...]

    def lacks(self, wanted: Sequence[str]) -> list[str]:
        """Those of `wanted` that it is not for."""
        return [each for each in wanted if each not in self.names]


def wanted_names() -> list[str]:
    """What a certificate of this machine has to be for."""
    found = [*machine_names.names(), "localhost", *map(str, machine_names.addresses())]
    return list(dict.fromkeys([*found, "127.0.0.1"]))


def own(certificate_path: Path, key_path: Path, clock: Callable[[], float] = time.time) -> Shown:
    """A person's own. Raises CertificateRefused."""
    shown = _read(certificate_path, key_path, "own", clock)
    context(shown)  # whether its key is its key
    return shown


def generated(
    certificate_path: Path,
    key_path: Path,
    names: Sequence[str],
    clock: Callable[[], float] = time.time,
    *,
    for_all: bool = True,
) -> Shown:
    """The kept one where it counts for another month and for `names`, else a new one, kept from now on.

    `for_all` False: also a kept one that is not for all of them; others may have been told its fingerprint.
    Raises CertificateRefused, DataFolderError.
    """
    with contextlib.suppress(CertificateRefused):
        kept = _read(certificate_path, key_path, "generated", clock)
        if kept.expires_at - clock() > RENEWED_BEFORE_S and not (for_all and kept.lacks(names)):
            context(kept)
            return kept
    _make(certificate_path, key_path, names, clock)
    return _read(certificate_path, key_path, "generated", clock)


def context(shown: Shown) -> ssl.SSLContext:
    """What a socket that shows it speaks: TLS 1.2 and later. Raises CertificateRefused."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["http/1.1"])
    made.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION

    def no_password() -> bytes:
        raise _refused(
            f"the key in {shown.key_path} wants a password", "name a file with the key without one"
        )

    try:
        made.load_cert_chain(shown.certificate_path, shown.key_path, no_password)
    except CertificateRefused:
        raise
    except ssl.SSLError as error:
        why = f"{shown.key_path} does not hold the key of {shown.certificate_path}"
        if error.reason not in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            why = f"{shown.certificate_path} and {shown.key_path} cannot be used ({error.reason or 'TLS'})"
        raise _refused(why, "name a certificate and its own key, both PEM") from error
    except OSError as error:
        raise _unreadable(shown.key_path, error) from error
    return made


def _read(
    certificate_path: Path, key_path: Path, kind: Literal["generated", "own"], clock: Callable[[], float]
) -> Shown:
    """Raises CertificateRefused, also for one that does not count now."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    content = _content(certificate_path)
    _content(key_path)
    try:
        certificate = x509.load_pem_x509_certificate(content)
        names = _names(certificate)
        fingerprint = certificate.fingerprint(SHA256()).hex(":").upper()
        begins_at = certificate.not_valid_before_utc.timestamp()
        expires_at = certificate.not_valid_after_utc.timestamp()
    except (ValueError, OverflowError) as error:
        raise _refused(f"{certificate_path} holds no certificate", "name a certificate in PEM") from error
    now = clock()
    if now >= expires_at:
        day = datetime.datetime.fromtimestamp(expires_at, datetime.UTC).date()
        raise _refused(
            f"the certificate in {certificate_path} counted until {day}", "name one that still counts"
        )
    if now < begins_at:
        day = datetime.datetime.fromtimestamp(begins_at, datetime.UTC).date()
        raise _refused(
            f"the certificate in {certificate_path} counts from {day} on",
            "look whether this machine's clock is right",
        )
    return Shown(certificate_path, key_path, kind, fingerprint, expires_at, names)


def _names(certificate: "Certificate") -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(each) for each in found.get_values_for_type(x509.IPAddress)]
    return (*(name.lower() for name in found.get_values_for_type(x509.DNSName)), *addresses)


def _make(certificate_path: Path, key_path: Path, names: Sequence[str], clock: Callable[[], float]) -> None:
    """Raises DataFolderError."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.fromtimestamp(clock(), datetime.UTC)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Seamount")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        # It is trusted by itself and may vouch for no other.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        # Never both of an old pair and a new one: who reads a certificate without its key makes a new pair.
        with contextlib.suppress(FileNotFoundError):
            certificate_path.unlink()
        write_atomically(key_path, secret)
        write_atomically(certificate_path, certificate.public_bytes(Encoding.PEM))
    except OSError as error:
        raise DataFolderError(
            "The network's socket is not open",
            f"its certificate cannot be kept in {certificate_path.parent} ({error.strerror or error})",
            "give yourself permission to write there",
        ) from error


def _general(name: str) -> "GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _content(path: Path) -> bytes:
    """Raises CertificateRefused."""
    try:
        if not path.is_file():
            raise _refused(f"{path} is no file", "name one")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(content) > MAX_BYTES:
        raise _refused(f"{path} is too large for a certificate or key", "name another file")
    return content


def _unreadable(path: Path, error: OSError) -> CertificateRefused:
    return _refused(
        f"{path} cannot be read ({error.strerror or error})", "give yourself permission to read it"
    )


def _refused(why: str, remedy: str) -> CertificateRefused:
    return CertificateRefused("The network's socket is not open", why, remedy)
