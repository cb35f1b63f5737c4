"""A recovery key survives how people write, and no slip of the pen goes unnoticed."""

import pytest

from engine.errors import BadRequest
from engine.store.recovery_key import read, written
from engine.store.sealing import MasterKey

KEY = MasterKey(bytes(range(32)))
# Base32 (RFC 4648) of 00 01 … 1f, then of 3 bytes of the sum.
BEGINNING = "AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B4IB-CEQT-CQKR-MFYY-DENB-WHA5-D"


def test_it_is_written_in_groups_of_base32() -> None:
    assert written(KEY).startswith(BEGINNING)
    assert [len(group) for group in written(KEY).split("-")] == [4] * 14
    key = MasterKey.new()
    assert read(written(key)) == key


def test_it_is_read_as_people_write() -> None:
    text = written(KEY)
    for typed in (
        text.lower(),
        text.replace("-", " "),
        f"  {text.replace('-', '')}\n",
        text.replace("O", "0"),
    ):
        assert read(typed) == KEY
    assert read(text.replace("I", "1").replace("B", "8")) == KEY


def test_a_slip_of_the_pen_is_noticed() -> None:
    text = written(KEY).replace("-", "")
    for at in range(len(text)):
        wrong = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(BadRequest):
            read(wrong)
    for at in range(len(text) - 1):
        if text[at] != text[at + 1]:
            with pytest.raises(BadRequest, match="another place"):
                read(text[:at] + text[at + 1] + text[at] + text[at + 2 :])


@pytest.mark.parametrize("typed", ["", "ABCD", "é" * 56, "9" * 56, "A" * 57, "A" * 1000, "=" * 56])
def test_what_is_no_key_is_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(typed)
    assert not typed or typed not in caught.value.text
