"""Spans: right for known languages, bounded for everything."""

import subprocess
import sys

from app.highlight import LINE_LIMIT_CHARS, SIZE_LIMIT_CHARS, Span, highlight


def test_parts_of_a_line_are_named():
    lines = highlight('def f():  # note\n    return "é" + 1', "python")
    assert Span(0, 3, "keyword") in lines[0]
    assert Span(10, 6, "comment") in lines[0]
    assert {span.kind for span in lines[1]} == {"keyword", "string", "operator", "number"}


def test_a_string_over_several_lines_is_coloured_on_each():
    lines = highlight('x = """a\nb\n"""', "python")
    assert [any(span.kind == "string" for span in line) for line in lines] == [True, True, True]


def test_places_are_counted_in_utf16():
    (line,) = highlight('"\U0001f600" + 1', "python")
    assert Span(7, 1, "number") in line


def test_what_is_not_known_or_too_large_has_no_spans():
    assert highlight("a\nb", "no such language") == [(), ()]
    assert highlight("x = 1", "") == [()]
    assert highlight("x = 1\n" * (SIZE_LIMIT_CHARS // 6 + 1), "python")[0] == ()
    assert highlight("x = " + "1" * LINE_LIMIT_CHARS, "python") == [()]


def test_a_spent_budget_leaves_the_rest_plain():
    lines = highlight("x = 1\n" * 5000, "python", budget_s=0)
    assert lines[0]
    assert lines[-2] == ()


def test_pygments_is_not_loaded_before_the_first_code():
    program = "import sys, app.highlight; sys.exit('pygments' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
