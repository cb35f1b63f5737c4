"""How many values a JSON text holds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.server import body_values
from engine.server.body_values import holds_more_than

VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('a\\",:[]{}é\n\u2028')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('k\\",{')), inner),
    max_leaves=30,
)


def values_in(value: Any) -> int:
    """Keys and values, itself among them."""
    if isinstance(value, dict):
        return 1 + sum(1 + values_in(each) for each in value.values())
    return 1 + sum(map(values_in, value)) if isinstance(value, list) else 1


@given(VALUES, st.booleans(), st.sampled_from([1, 2, 3, 7, 1 << 18]))
def test_marks_within_texts_do_not_count(value: Any, is_ascii: bool, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_values, "_PIECE", piece)
        data = json.dumps(value, ensure_ascii=is_ascii).encode()
        count = values_in(value)
        assert holds_more_than(data, count - 1)
        # Brackets count beside what is in them.
        assert not holds_more_than(data, 2 * count)


@pytest.mark.parametrize("text", ["[],{}:" * 100_000, '"' * 100_000, "\\" * 99_999, '\\"' * 200_000])
def test_a_long_text_is_one_value(text: str) -> None:
    assert not holds_more_than(json.dumps({"content": text}).encode(), 8)


@pytest.mark.parametrize("body", [b"[" * 900_000, b'"' * 900_000, b'"\\', b"\\" * 900_001, b"", b"[,,,"])
def test_what_is_no_json_is_counted_as_well(body: bytes) -> None:
    assert isinstance(holds_more_than(body, 100), bool)
