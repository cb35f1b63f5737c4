from engine.completion_news import LoggedText, LoggedToken, News, Progress, Reasoning, joined
from engine.errors import BadRequest, SeamountError


def test_neighbours_of_one_kind_are_joined() -> None:
    a, b = LoggedToken(b"a", -1.0), LoggedToken(b"b", -2.0)
    error = BadRequest("a", "b", "c")
    news: list[News | SeamountError] = [
        Progress("queued", 2),
        Progress("reading", done=1, total=2),
        Reasoning("x"),
        Reasoning("y"),
        "a",
        "b",
        LoggedText("a", (a,)),
        LoggedText("b", (b,)),
        "c",
        error,
    ]
    assert joined(news) == [
        Progress("reading", done=1, total=2),
        Reasoning("xy"),
        "ab",
        LoggedText("ab", (a, b)),
        "c",
        error,
    ]


def test_a_piece_of_a_character_has_a_text() -> None:
    assert LoggedToken("é".encode()[:1], 0.0).text == "�"
