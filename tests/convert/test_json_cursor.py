"""JSON member by member: what is read, what is refused, and across which buffers."""

import hashlib
import io
import json
import tracemalloc
from typing import Any

import pytest

from convert import json_cursor
from convert.json_cursor import JsonCursor, JsonError, read_json_object


def cursor(text: str | bytes) -> JsonCursor:
    raw = text.encode() if isinstance(text, str) else text
    return JsonCursor(io.BytesIO(raw), len(raw))


def read(text: str | bytes, limit: int = 1000) -> dict[str, Any]:
    """An object whose texts are read as texts and whose other values are read whole."""
    at = cursor(text)
    found: dict[str, Any] = {}
    for key in at.members(100, 1000):
        found[key] = at.text(limit) if key.startswith("text") else at.value(limit)
    at.end()
    return found


@pytest.mark.parametrize("buffer_bytes", [1, 3, 64, 1 << 18])
def test_it_reads_what_python_reads(monkeypatch: pytest.MonkeyPatch, buffer_bytes: int) -> None:
    monkeypatch.setattr(json_cursor, "_BUFFER_BYTES", buffer_bytes)
    content = {
        "text one": 'a "quoted" \\ text \n with 海 and \U0001f600',
        "text\u00e9": "",
        "number": 2**62,
        "list": [1, [2, {"a": None}], True, -1.5],
        "": {},
    }
    for indent, ascii_only in ((None, True), (2, False), (1, True)):
        text = " \t\r\n" + json.dumps(content, indent=indent, ensure_ascii=ascii_only) + " " * 100
        assert read(text) == content
    assert read(" {  } ") == {}


def test_the_digest_is_that_of_the_whole_text() -> None:
    raw = b'{"a": 1}      '
    at = cursor(raw)
    for _ in at.members(10, 10):
        at.value(10)
    assert at.end() == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "“{” is missing"),
        ("[]", "“{” is missing"),
        ("{", "a text is missing"),
        ("{1: 2}", "a text is missing"),
        ('{"a" 1}', "“:” is missing"),
        ('{"a": 1', "comma"),
        ('{"a": 1 "b": 2}', "comma"),
        ('{"a": 1,}', "a text is missing"),
        ('{"a": 1}}', "behind its end"),
        ('{"a": 1} x', "behind its end"),
        ('{"a": 1, "a": 2}', "twice"),
        ('{"a": 1, "\\u0061": 2}', "twice"),
        ('{"a": {"b": 1, "b": 2}}', "twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": }', "broken"),
        ('{"a": 01}', "comma"),
        ('{"text": 1}', "a text is missing"),
        ('{"text": "abc', "broken"),
        ('{"text": "a\nb"}', "broken"),
        ('{"text": "\\x"}', "not Unicode"),
        ('{"text": "\\ud800"}', "not Unicode"),
        (b'{"text": "\xff"}', "not Unicode"),
        ('{"text": "' + "x" * 2000 + '"}', "longer than 1,000 bytes"),
        ('{"' + "k" * 200 + '": 1}', "longer than 100 bytes"),
        ('{"a": [' + "1," * 2000 + "1]}", "longer than 1,000 bytes"),
        ('{"a": ' + "9" * 2000 + "}", "longer than 1,000 bytes"),
        ('{"a": ' + "[" * 900 + "}", "broken"),
        (json.dumps(dict.fromkeys(map(str, range(1001)), 1)), "more than 1,000 entries"),
    ],
)
def test_what_is_not_expected_is_refused(text: str | bytes, why: str) -> None:
    with pytest.raises(JsonError, match=why):
        read(text)


def test_values_nested_beyond_all_bounds_are_refused() -> None:
    with pytest.raises(JsonError, match="broken"):
        read('{"a": ' + "[" * 200_000 + "}", limit=100_000)
    with pytest.raises(JsonError, match="nested too deep"):
        read_json_object(b'{"a":' + b"[" * 200_000)


def test_a_file_that_ends_early_is_noticed() -> None:
    at = JsonCursor(io.BytesIO(b'{"a": 1'), 100)
    with pytest.raises(JsonError, match="became shorter"):
        list(at.members(10, 10))


@pytest.mark.parametrize(
    "text",
    [
        b'{"text": "' + b"\\\\" * 4_000_000 + b'"}',
        b'{"text": "' + b"x" * 8_000_000,
        b" " * 8_000_000,
        b'{"a":' + b"[]," * 2_000_000,
        b'{"a":{"b":' * 800_000,
    ],
)
def test_a_hostile_text_takes_little_memory_and_time(text: bytes) -> None:
    file = io.BytesIO(text)
    tracemalloc.start()
    try:
        with pytest.raises(JsonError):
            at = JsonCursor(file, len(text))
            for key in at.members(4096, 10):
                if key == "text":
                    at.text()
                else:
                    at.value(4096)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20


def test_a_short_object() -> None:
    assert read_json_object('{"a": {"b": [1.5, "海"]}}'.encode()) == {"a": {"b": [1.5, "海"]}}
    for raw, why in (
        (b"", "not JSON"),
        (b"[1]", "not an object"),
        (b"\xff", "not JSON"),
        (b'{"a":1,"a":2}', "twice"),
    ):
        with pytest.raises(JsonError, match=why):
            read_json_object(raw)
    with pytest.raises(JsonError, match="not JSON"):
        read_json_object(b'{"a": ' + b"9" * 5000 + b"}")  # beyond what Python converts
