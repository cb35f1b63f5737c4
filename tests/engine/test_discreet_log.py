"""Of a failure, the log says where and of which kind, never what it was about."""

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.discreet_log import say_less

ROOT = Path(__file__).resolve().parents[2]


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


PROGRAM = """
import asyncio, gc, logging, sys, threading
from engine.discreet_log import say_less

class Dying:
    def __del__(self):
        raise ValueError(WORDS)

async def task():
    raise ValueError(WORDS)

async def forgotten():
    asyncio.create_task(task())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()

def fail():
    raise ValueError(WORDS)

WORDS = "quixotic " + "words"
logging.basicConfig(stream=sys.stderr)
if sys.argv[1] == "discreet":
    say_less()
Dying()
asyncio.run(forgotten())
thread = threading.Thread(target=fail, name="some thread")
thread.start()
thread.join()
fail()
"""


@pytest.mark.parametrize("discreet", [False, True])
def test_what_nobody_caught_is_not_printed_with_its_words(discreet: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "discreet" if discreet else "plain"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("quixotic words") == (0 if discreet else 5), done.stderr
    assert done.stderr.count("ValueError") >= 4
    assert "some thread" in done.stderr
    assert "Task exception was never retrieved" in done.stderr
