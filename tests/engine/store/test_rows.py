"""Token ids as bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.store.rows import packed, unpacked


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_token_ids_come_back(token_ids: list[int]) -> None:
    assert unpacked(packed(token_ids)) == token_ids


def test_the_layout_is_little_endian_uint32() -> None:
    assert packed([1, 0x01020304]) == bytes([1, 0, 0, 0, 4, 3, 2, 1])


def test_what_is_no_token_id_is_refused() -> None:
    for wrong in (-1, 2**32):
        with pytest.raises(struct.error):
            packed([wrong])
