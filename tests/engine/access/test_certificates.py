"""Certificates for the network's socket: made, kept, renewed; and a person's own, in order and not."""

import os
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from engine.access import certificates
from engine.access.certificates import RENEWED_BEFORE_S, Shown
from engine.errors import CertificateRefused, DataFolderError

NAMES = ["desk", "desk.local", "localhost", "192.168.1.5", "fd00::2"]
NOW = 1_800_000_000.0


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "certificate.pem", tmp_path / "key.pem"


def made(paths: tuple[Path, Path], names: list[str] = NAMES, now: float = NOW) -> Shown:
    return certificates.generated(*paths, names, lambda: now)


def test_one_is_made_for_a_year_on_p256_and_kept(paths: tuple[Path, Path]) -> None:
    shown = made(paths)
    assert set(shown.names) == set(NAMES)
    assert shown.kind == "generated"
    assert 364 * 86_400 < shown.expires_at - NOW <= 365 * 86_400
    certificate = x509.load_pem_x509_certificate(paths[0].read_bytes())
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    if os.name == "posix":
        assert paths[1].stat().st_mode & 0o777 == 0o600
    assert made(paths) == shown
    assert shown.fingerprint.count(":") == 31


def test_it_is_made_anew_before_it_ends_and_for_new_names(paths: tuple[Path, Path]) -> None:
    first = made(paths)
    assert made(paths, now=first.expires_at - RENEWED_BEFORE_S - 1) == first
    later = made(paths, now=first.expires_at - RENEWED_BEFORE_S + 1)
    assert later.fingerprint != first.fingerprint
    other = made(paths, [*NAMES, "10.0.0.7"], now=first.expires_at)
    assert other.fingerprint != later.fingerprint
    assert other.lacks(["10.0.0.7"]) == []
    assert first.lacks(["10.0.0.7", "desk"]) == ["10.0.0.7"]


@pytest.mark.parametrize("damage", [b"", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"])
def test_a_kept_pair_that_is_damaged_is_made_anew(paths: tuple[Path, Path], damage: bytes) -> None:
    first = made(paths)
    paths[0].write_bytes(damage)
    second = made(paths)
    assert second.fingerprint != first.fingerprint
    paths[1].write_bytes(b"")
    assert made(paths).fingerprint != second.fingerprint


def test_it_speaks_tls_1_2_and_later(paths: tuple[Path, Path]) -> None:
    context = certificates.context(made(paths))
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.protocol == ssl.PROTOCOL_TLS_SERVER


def test_ones_own_is_taken(paths: tuple[Path, Path]) -> None:
    shown = made(paths)
    own = certificates.own(*paths, lambda: NOW)
    assert (own.kind, own.fingerprint, own.names) == ("own", shown.fingerprint, shown.names)


def refused(certificate: Path, key: Path, now: float = NOW) -> str:
    with pytest.raises(CertificateRefused) as raised:
        certificates.own(certificate, key, lambda: now)
    assert raised.value.text.count(";") == 1
    return raised.value.why


def test_ones_own_that_cannot_be_used_is_said(paths: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = paths
    shown = made(paths)
    other = tmp_path / "other"
    other.mkdir()
    stranger = made((other / "certificate.pem", other / "key.pem"))
    assert "does not hold the key of" in refused(certificate, stranger.key_path)
    assert "counted until" in refused(certificate, key, shown.expires_at)
    assert "counts from" in refused(certificate, key, NOW - 86_400)
    assert "is no file" in refused(tmp_path, key)
    assert "is no file" in refused(certificate, tmp_path / "nowhere")
    text = tmp_path / "text"
    text.write_text("no certificate")
    assert "holds no certificate" in refused(text, key)
    assert "cannot be used" in refused(certificate, text)
    text.write_bytes(b"x" * (certificates.MAX_BYTES + 1))
    assert "too large" in refused(text, key)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked(paths: tuple[Path, Path]) -> None:
    made(paths)
    key = load_pem_private_key(paths[1].read_bytes(), None)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    paths[1].write_bytes(secret)
    assert "wants a password" in refused(*paths)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_not_waited_for(paths: tuple[Path, Path], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is no file" in refused(pipe, pipe)


def test_a_folder_that_takes_nothing_is_said(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(DataFolderError, match="cannot be kept"):
        made((nowhere / "certificate.pem", nowhere / "key.pem"))
