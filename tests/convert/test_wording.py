"""What a file says never moves a cursor nor fills a screen."""

from convert.wording import byte_count, listed, printable, quoted, shown


def test_names_from_files_are_bounded_and_printable() -> None:
    assert quoted("a\x1b[31m\n\u202e") == "“a�[31m��”"
    assert len(shown("x" * 1000)) == 80
    assert printable("ä海\0") == "ä海�"


def test_counts_and_lists() -> None:
    assert byte_count(1234567) == "1,234,567 bytes"
    assert listed(["a", "b"]) == "“a”, “b”"
    assert listed([str(number) for number in range(2005)], limit=2) == "“0”, “1” and 2,003 more"
