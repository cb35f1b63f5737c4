"""Drafts, and what is kept aside."""

from app.composer_text import Draft, belongs_aside, draft_of, replaced_sentence


def test_what_is_sent_is_typed_text_then_pasted_texts() -> None:
    assert Draft("Explain:\n", ("AAA", "BBB")).text == "Explain:\n\nAAA\n\nBBB"
    assert Draft("", ("AAA",)).text == "AAA"
    assert Draft("  \n", ("AAA",)).text == "AAA"
    assert Draft("    indented").text == "    indented"


def test_empty_is_what_cannot_be_sent() -> None:
    assert Draft(" \n\t").is_empty
    assert not Draft("", ("x",)).is_empty


def test_large_texts_and_long_lines_belong_aside() -> None:
    assert not belongs_aside("x" * 5000)
    assert belongs_aside("x" * 5001)
    assert not belongs_aside("line\n" * 4000)
    assert belongs_aside("line\n" * 4001)


def test_a_text_comes_back_as_the_draft_it_was() -> None:
    assert draft_of("short") == Draft("short")
    long = "y" * 1_000_000
    assert draft_of(long) == Draft("", (long,))


def test_the_sentence_counts_and_gives_the_reason() -> None:
    assert replaced_sentence(1).startswith("1 character was replaced")
    assert replaced_sentence(1234).startswith("1,234 characters were replaced")
    assert "null" in replaced_sentence(1)
