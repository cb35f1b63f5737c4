"""Of a failure, the log says where and of which kind, never what it was about."""

import io
import logging
from collections.abc import Iterator

import pytest

from engine.discreet_log import say_less


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The root logger's only handler, with the engine's own form of lines."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    before, root.handlers = root.handlers, [handler]
    yield stream
    root.handlers = before


def fail() -> None:
    try:
        try:
            raise ValueError("a quixotic cause")
        except ValueError as error:
            raise RuntimeError("a quixotic thought") from error
    except RuntimeError:
        logging.getLogger("engine.x").exception("an answer failed")


def test_the_words_of_an_exception_are_left_out(log: io.StringIO) -> None:
    fail()
    assert log.getvalue().count("quixotic") >= 2
    log.truncate(0)
    say_less()
    fail()
    said = log.getvalue()
    # What stands in a line of code is no conversation; here it is the test's own.
    assert "RuntimeError: a quixotic" not in said
    assert "ValueError: a quixotic" not in said
    assert said.index("builtins.ValueError (") < said.index("builtins.RuntimeError (")
    assert "ERROR engine.x: an answer failed" in said
    assert "in fail" in said
