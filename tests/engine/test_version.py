"""Versions and their order."""

import pytest

from engine.version import is_newer, is_version, version

IN_ORDER = [
    "0.1.0.dev1", "0.1.0a1", "0.1.0a2.dev1", "0.1.0a2", "0.1.0b1", "0.1.0rc9", "0.1.0rc10", "0.1", "0.1.1", "0.2.0",
    "0.10.0", "1.0", "10.0",
]  # fmt: skip


def test_the_order_is_that_of_pep_440() -> None:
    packaging = pytest.importorskip("packaging.version")
    assert sorted(IN_ORDER, key=packaging.Version) == IN_ORDER
    for place, one in enumerate(IN_ORDER):
        for other_place, other in enumerate(IN_ORDER):
            assert is_newer(one, other) == (place > other_place), (one, other)


@pytest.mark.parametrize(("one", "other"), [("0.1.0", "0.1"), ("0.1.0+build.7", "0.1.0"), ("0.1", "0.1.0")])
def test_neither_is_newer(one: str, other: str) -> None:
    assert not is_newer(one, other) and not is_newer(other, one)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "v1.0",
        "1.0 ",
        "1.0\n",
        "1.0.0.0",
        "1.x",
        "1.0-1",
        "1.0.0\u0661",
        "0 (not installed)",
        "1." + "9" * 99,
    ],
)
def test_what_is_no_version_is_never_newer(text: str) -> None:
    assert not is_version(text)
    assert not is_newer(text, "0.0.1") and not is_newer("99.0", text)


def test_our_own_is_one() -> None:
    assert is_version(version())
