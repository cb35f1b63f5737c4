"""Whose certificates are trusted when a model on another machine is asked.

Owns: the two ways: the authorities of httpx and of this system, or one certificate by its fingerprint and no other.
Does not know what is sent afterwards (`remote_wire`).
"""

import hashlib
import socket
import ssl

from engine.backends.remote_address import shown_fingerprint
from engine.backends.remote_faults import OtherCertificate, Target


def trusting() -> ssl.SSLContext:
    """The authorities that httpx brings, and those of this system: a firm's own is among the latter."""
    import httpx

    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def pinned(fingerprint: str) -> ssl.SSLContext:
    """Trusts one certificate and no other, before anything is sent."""

    class Pinned(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            found = shown_fingerprint(hashlib.sha256(self.getpeercert(binary_form=True) or b"").digest())
            if found != fingerprint:
                raise OtherCertificate(found)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = Pinned
    return context


def shown_certificate(target: Target) -> str | None:
    """The fingerprint of the certificate that the target shows; nothing is sent to it. None: it shows none."""
    address = target.address
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address.host, address.port or 443), target.limits.connect_s) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as wrapped,
        ):
            found = wrapped.getpeercert(binary_form=True)
    except OSError:
        return None
    return None if not found else shown_fingerprint(hashlib.sha256(found).digest())
