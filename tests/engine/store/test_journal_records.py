"""Every byte of a journal is accounted for: what was cut, zeroed or changed is never taken for a record."""

import io

import pytest

from engine.store.journal_records import (
    FRAME_HEAD_BYTES,
    HEADER_BYTES,
    MOST_PAYLOAD_BYTES,
    SUM_BYTES,
    Form,
    JournalUnreadable,
    Kind,
    Piece,
    Reading,
    Record,
)
from engine.store.sealing import AesCipher, Cipher, MasterKey

PAYLOADS = (
    (Kind.BEGUN, b'{"answer_id":"a"}'),
    (Kind.TOKENS, Piece(0, 0, "text", (1, 2, 70_000), "né 你好 \U0001f469").packed()),
    (Kind.RELAY, b""),
    (Kind.ENDED, b'{"status":"complete"}' * 3),
)


def journal(cipher: Cipher | None = None) -> tuple[bytes, list[int], list[Record]]:
    """A file, where each of its records ends (the header first), and the records."""
    form = Form.new(cipher)
    content, ends, records = form.header(), [HEADER_BYTES], list[Record]()
    for sequence, (kind, payload) in enumerate(PAYLOADS, 1):
        content += form.frame(kind, sequence, 1, payload)
        ends.append(len(content))
        records.append(Record(kind, sequence, 1, payload))
    return content, ends, records


def read(content: bytes, cipher: Cipher | None = None) -> tuple[list[Record], Reading]:
    reading = Reading(io.BytesIO(content), len(content), cipher)
    return list(reading), reading


def test_what_was_written_is_read() -> None:
    content, _, records = journal()
    found, reading = read(content)
    assert found == records
    assert (reading.good_bytes, reading.is_torn, reading.is_damaged) == (len(content), False, False)


def test_a_file_cut_anywhere_gives_the_records_before_the_cut() -> None:
    content, ends, records = journal()
    for length in range(HEADER_BYTES, len(content)):
        found, reading = read(content[:length])
        whole = sum(end <= length for end in ends) - 1
        assert found == records[:whole], length
        assert reading.good_bytes == ends[whole]
        assert reading.is_torn == (length != ends[whole])
        assert not reading.is_damaged


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_file_whose_end_is_zeros_gives_the_records_before_them(shift: int) -> None:
    content, ends, records = journal()
    for number, end in enumerate(ends):
        start = end + shift
        if not HEADER_BYTES <= start < len(content):
            continue
        found, reading = read(content[:start] + bytes(len(content) - start))
        whole = number if shift >= 0 else number - 1
        # The byte that was lost may have been a zero before.
        if content[start:end].count(0) < end - start or shift >= 0:
            assert found == records[:whole], (number, shift)
            assert reading.good_bytes == ends[whole]
            assert not reading.is_damaged


def test_zeros_behind_the_last_record_are_a_write_that_was_broken_off() -> None:
    content, _, records = journal()
    for count in (1, FRAME_HEAD_BYTES + SUM_BYTES, 5000):
        found, reading = read(content + bytes(count))
        assert found == records
        assert (reading.is_torn, reading.is_damaged) == (True, False)


@pytest.mark.parametrize("sealed", [False, True])
def test_no_changed_byte_goes_unnoticed(sealed: bool) -> None:
    cipher = AesCipher(MasterKey.new(), "journals") if sealed else None
    content, ends, records = journal(cipher)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        if place < HEADER_BYTES:
            with pytest.raises(JournalUnreadable):
                read(bytes(changed), cipher)
            continue
        found, reading = read(bytes(changed), cipher)
        before = sum(end <= place for end in ends) - 1
        assert found == records[:before], place
        assert reading.is_torn or reading.is_damaged
        if before < len(records) - 1:
            # Whole records stand behind it: that is no torn write.
            assert reading.is_damaged, place


def test_records_of_an_earlier_file_are_not_taken_for_this_ones() -> None:
    content, ends, _ = journal()
    other, _, _ = journal()
    found, reading = read(content[: ends[2]] + other[ends[2] :])
    assert len(found) == 2
    assert not reading.is_damaged or reading.good_bytes == ends[2]


def test_a_length_beyond_the_file_is_not_believed() -> None:
    form = Form.new(None)
    frame = bytearray(form.frame(Kind.RELAY, 1, 1, b"{}"))
    frame[:4] = (MOST_PAYLOAD_BYTES + 1).to_bytes(4, "little")
    found, reading = read(form.header() + bytes(frame))
    assert (found, reading.good_bytes) == ([], HEADER_BYTES)
    with pytest.raises(ValueError, match="too large"):
        form.frame(Kind.RELAY, 1, 1, bytes(MOST_PAYLOAD_BYTES + 1))


def test_a_file_of_a_newer_program_is_left_alone() -> None:
    content, _, _ = journal()
    form = Form(content[16:32])
    newer = bytearray(content[: HEADER_BYTES - SUM_BYTES])
    newer[8] = 2
    with pytest.raises(JournalUnreadable, match="newer"):
        read(bytes(newer) + form.sum_of(bytes(newer)) + content[HEADER_BYTES:])
    strange = bytearray(content)
    body = bytearray(strange[HEADER_BYTES : HEADER_BYTES + FRAME_HEAD_BYTES + len(PAYLOADS[0][1])])
    body[4] = 99
    with pytest.raises(JournalUnreadable, match="kind 99"):
        read(content[:HEADER_BYTES] + bytes(body) + form.sum_of(bytes(body)))


def test_a_sealed_file_is_read_with_its_key_alone_and_shows_nothing() -> None:
    cipher = AesCipher(MasterKey.new(), "journals")
    content, _, records = journal(cipher)
    assert read(content, cipher)[0] == records
    assert b"answer_id" not in content and "你好".encode() not in content
    with pytest.raises(JournalUnreadable, match="key is not here"):
        read(content)
    with pytest.raises(JournalUnreadable, match="another key"):
        read(content, AesCipher(MasterKey.new(), "journals"))


def test_a_piece_is_read_as_it_was_written_and_nothing_else_is() -> None:
    for piece in (
        Piece(0, 0, "text", (), ""),
        Piece(7, 12, "reasoning", (0, 2**32 - 1), "é"),
        Piece(2**32 - 1, 5, "call", (9,), '{"a": 1}'),
    ):
        packed = piece.packed()
        assert Piece.unpacked(packed) == piece
    for broken in (
        b"",
        packed[:15],
        packed[:12] + b"\x03" + packed[13:],
        packed[:8] + b"\xff" * 4 + packed[12:],
    ):
        with pytest.raises(ValueError, match=r"piece|utf-8"):
            Piece.unpacked(broken)
