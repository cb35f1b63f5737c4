"""Heights: right after every change, against plain addition."""

from hypothesis import given
from hypothesis import strategies as st

from app.views.transcript_layout import Heights, text_height

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 50), st.just(0)),
        st.tuples(st.just("change"), st.integers(0, 30), st.integers(0, 50)),
        st.tuples(st.just("truncate"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("ask"), st.integers(0, 30), st.just(0)),
    ),
    max_size=60,
)


@given(CHANGES)
def test_tops_are_the_sums_of_what_stands_above(changes):
    heights, plain = Heights(), list[int]()
    for what, value, height in changes:
        if what == "append":
            heights.append(value)
            plain.append(value)
        elif what == "change" and plain:
            index = value % len(plain)
            assert heights.change(index, height) == (plain[index] != height)
            plain[index] = height
        elif what == "truncate":
            heights.truncate(min(value, len(plain)))
            del plain[value:]
        else:
            index = value % (len(plain) + 1)
            assert heights.top(index) == sum(plain[:index])
    assert heights.total == sum(plain)
    assert [heights[i] for i in range(len(heights))] == plain


@given(st.lists(st.integers(1, 50), min_size=1, max_size=20), st.integers(-10, 1200))
def test_at_finds_what_covers_a_place(values, y):
    heights = Heights()
    for value in values:
        heights.append(value)
    index = heights.at(y)
    if 0 <= y < heights.total:
        assert heights.top(index) <= y < heights.top(index + 1)
    else:
        assert index == (0 if y < 0 else len(values) - 1)


def test_guesses_grow_with_the_text_and_shrink_with_the_width():
    assert text_height("x" * 1000, 700, 15, 23) < text_height("x" * 2000, 700, 15, 23)
    assert text_height("x" * 1000, 700, 15, 23) < text_height("x" * 1000, 350, 15, 23)
