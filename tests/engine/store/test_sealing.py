"""Sealed values open only for who has the key, and only where they belong."""

import pickle

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import SealBroken
from engine.store.sealing import KEY_BYTES, NONCE_BYTES, OVERHEAD_BYTES, AesCipher, Ciphers, MasterKey

KEY = MasterKey(bytes(range(KEY_BYTES)))


@pytest.mark.parametrize("data", [b"", b"a", "Grüße".encode(), bytes(100_000)])
def test_what_is_sealed_opens_again(data: bytes) -> None:
    cipher = AesCipher(KEY, "rows")
    sealed = cipher.seal(data, b"here")
    assert len(sealed) == len(data) + OVERHEAD_BYTES
    assert cipher.open(sealed, b"here") == data
    assert AesCipher(KEY, "rows").open(sealed, b"here") == data


def test_it_is_aes_gcm_with_the_nonce_in_front() -> None:
    sealed = AesCipher(KEY, "rows").seal(b"text", b"here")
    plain = AESGCM(KEY.derived("rows seal")).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], b"here")
    assert plain == b"text"


def test_equal_values_look_different() -> None:
    cipher = AesCipher(KEY, "rows")
    assert len({cipher.seal(b"same", b"") for _ in range(50)}) == 50


def test_every_changed_byte_is_noticed() -> None:
    cipher = AesCipher(KEY, "rows")
    sealed = cipher.seal(b"some text", b"here")
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(SealBroken):
            cipher.open(bytes(changed), b"here")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            cipher.open(sealed[:length], b"here")


def test_it_opens_only_where_it_belongs_and_only_for_its_use() -> None:
    ciphers, other = Ciphers.of(KEY), Ciphers.of(MasterKey.new())
    sealed = ciphers.rows.seal(b"text", b"title of a")
    for cipher, about in (
        (ciphers.rows, b"title of b"),
        (ciphers.journals, b"title of a"),
        (ciphers.snapshots, b"title of a"),
        (other.rows, b"title of a"),
    ):
        with pytest.raises(SealBroken) as caught:
            cipher.open(sealed, about)
        assert "text" not in caught.value.text


def test_names_tell_nothing_and_stay_the_same() -> None:
    one, two = AesCipher(KEY, "snapshots"), AesCipher(KEY, "journals")
    assert one.name(b"x") == AesCipher(KEY, "snapshots").name(b"x")
    assert (
        len({one.name(b"x"), one.name(b"y"), two.name(b"x"), AesCipher(MasterKey.new(), "s").name(b"x")}) == 4
    )
    assert len(one.name(b"x")) == 64


def test_a_key_is_never_shown_and_stays_in_its_process() -> None:
    assert KEY.secret.hex() not in repr(KEY) + repr(Ciphers.of(KEY)) + KEY.id
    assert repr(KEY.secret) not in repr(KEY)
    assert KEY.id == MasterKey(KEY.secret).id != MasterKey.new().id
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
    with pytest.raises(ValueError, match="32 bytes"):
        MasterKey(b"short")
