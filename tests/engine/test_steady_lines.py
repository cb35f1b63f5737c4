"""Lines that differ from one request to the next: found, taken back, told, and nothing else of a text touched."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.steady_lines as module
from engine.steady_lines import FIGURE, applied, changes_of, told, without_figures

LINES = st.lists(
    st.one_of(
        st.sampled_from(
            ["", "You write code.", "Today is 5 August 2026.", "Today is 6 August 2026.", "cch=a1b2c;"]
        ),
        st.sampled_from(
            [" M a.py", " M b.py", "Rules:", "Use the tools.", "Tokens left: 12,345", "Tokens left: 9"]
        ),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    ),
    max_size=14,
)
BODY = "\n".join(
    f"Rule {word}: keep it short, say what you did, and ask when in doubt." for word in "abcdefgh"
)


def text(lines: list[str]) -> str:
    return "\n".join([*lines, BODY])


@given(LINES, LINES)
def test_all_changes_of_a_text_make_the_other_one(one: list[str], other: list[str]) -> None:
    before, after = text(one), text(other)
    found = changes_of(before, after)
    if found is not None:
        assert applied(before, found) == after
        assert applied(before, ()) == before


@given(LINES, LINES)
def test_taking_figures_back_changes_nothing_but_figures(one: list[str], other: list[str]) -> None:
    """What a pinned text says is the new text, but for lines that the old one had there with other figures."""
    before, after = text(one), text(other)
    found = changes_of(before, after) or ()
    pinned = applied(before, [change for change in found if not change.in_figures])
    if found:
        assert list(map(without_figures, pinned.split("\n"))) == list(map(without_figures, after.split("\n")))
        taken = set(pinned.split("\n")) - set(after.split("\n"))
        assert taken <= set(before.split("\n"))


@given(LINES, LINES)
def test_what_is_told_names_every_line_that_came_and_went(one: list[str], other: list[str]) -> None:
    before, after = text(one), text(other)
    found = changes_of(before, after)
    if not found:
        return
    said = Counter(told(found).split("\n"))
    came = Counter(after.split("\n")) - Counter(before.split("\n"))
    went = Counter(before.split("\n")) - Counter(after.split("\n"))
    for line, times in (came + went).items():
        assert not line.strip() or said[line] >= times


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80))
def test_without_figures_a_line_keeps_all_its_words(line: str) -> None:
    shape = without_figures(line)
    assert without_figures(shape) == shape
    if FIGURE not in shape:
        assert shape == line


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Today is Tuesday, 5 August 2026.", "Today is Wednesday, 16 September 2026."),
        ("The time is 09:05 AM CEST", "The time is 11:59 PM CET"),
        ("Tue Aug  5 14:03:22 UTC 2026", "Wed Aug 26 04:03:22 UTC 2026"),
        ("x-bill: cc_version=2.1.3.abc; by=cli; cch=fffab;", "x-bill: cc_version=2.1.3.0fe; by=cli; cch=01a2b;"),
        ("Token usage: 12,345/200,000; 3.4MB in 7s", "Token usage: 9/200,000; 311kB in 45ms"),
        ("Date: 2026-08-05T14:03:22.123Z", "Date: 2026-12-31T00:00:00+02:00"),
        ("Session 123e4567-e89b-12d3-a456-426614174000", "Session 00000000-e89b-12d3-a456-426614174999"),
        ("(commit 4f9ddb4)", "(commit a0b1c2d)"),
        ("Request req_011CSHoEeqs5C35K2UUqR7Fy", "Request req_9988CSHoEeqs5C35K2UUq0Aa"),
        ("seed:17 left:3%", "seed:4711 left:98%"),
    ],
)  # fmt: skip
def test_figures(one: str, other: str) -> None:
    assert without_figures(one) == without_figures(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Edit file2.py", "Edit file3.py"),
        ("cwd: /tmp/run-12", "cwd: /tmp/run-13"),
        ("cwd: /1234", "cwd: /1235"),
        ("Model: claude-4-5", "Model: claude-4-6"),
        ("Open http://localhost:8123/", "Open http://localhost:9123/"),
        ("You may go on", "You March on"),
        ("mode=fast", "mode=slow"),
        ("Delete 5 files", "Keep 5 files"),
        ("Answer in March.", "Answer in April."),
        ("a decade added", "a facade added"),
    ],
)
def test_words_are_no_figures(one: str, other: str) -> None:
    assert without_figures(one) != without_figures(other)


def test_a_git_status_that_grows_is_one_change_and_the_date_above_another() -> None:
    before = text(["Today is 5 May 2026.", "Rules follow.", "Status:", " M a.py", "End."])
    after = text(["Today is 6 May 2026.", "Rules follow.", "Status:", " M a.py", "?? new.py", "End."])
    found = changes_of(before, after)
    assert found is not None
    assert [(c.first, c.before, c.after, c.in_figures) for c in found] == [
        (0, ("Today is 5 May 2026.",), ("Today is 6 May 2026.",), True),
        (4, (), ("?? new.py",), False),
    ]
    assert told(found).split("\n")[2:] == [
        "Today is 6 May 2026.",
        "?? new.py",
        "These are no longer in it:",
        "Today is 5 May 2026.",
    ]


def test_lines_put_in_where_the_next_one_changed_too_come_before_it() -> None:
    before, after = text(["a", "n=1", "n=1"]), text(["a", "new", "n=2", "n=3"])
    found = changes_of(before, after)
    assert found is not None
    assert applied(before, found) == after


@pytest.mark.parametrize(
    "other",
    [
        "You name conversations.",
        BODY.replace("Rule", "Law"),
        text([f"line {word * 3}" for word in map(chr, range(200, 900))]),
    ],
)
def test_another_text_is_another_text(other: str) -> None:
    assert changes_of(text(["Today is 5 May 2026."]), other) is None


@pytest.mark.timeout(60)
def test_comparing_takes_no_longer_than_the_texts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts made to be slow to compare: all lines alike, all in another order, one long word. A way whose time grows
    with the square of them does not come to its end here."""
    monkeypatch.setattr(module, "MOST_LINES", 1_000_000)
    alike, rising = "\n".join(["1 a"] * 100_000), "\n".join(f"x{n}" for n in range(60_000))
    assert changes_of(alike, "\n".join(["2 a"] * 100_001)) is None
    assert changes_of(rising, "\n".join(reversed(rising.split("\n")))) is None
    assert changes_of("1" * 400_000, "1" * 400_000 + "2") is None


def test_a_text_of_very_many_lines_is_not_compared() -> None:
    lines = [f"line {number}" for number in range(module.MOST_LINES)]
    assert changes_of("\n".join(lines), "\n".join([*lines[:-1], "line 1"])) is not None
    assert changes_of("\n".join([*lines, "more"]), "\n".join(lines)) is None
