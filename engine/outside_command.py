"""A link or a model's file in the place of a command: what a desktop calls `seamount` with.

Owns: finding it among the arguments, and whether it goes to the window or is told in the terminal. What such a request
may be is `outside_request`'s. Does not know the window.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import BadRequest
from engine.outside_request import LONGEST_REQUEST, ModelFile, is_request, read_request


def taken(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments without what stands in the place of a command, and that; None where it is a command, or nothing.

    A desktop may hand over several files at once. The first is taken, for one question is asked at a time; of the
    others a line on standard error says that they are not.
    """
    given = list(arguments)
    for place, each in enumerate(given):
        if place and given[place - 1] == "--data":
            continue
        if not each.startswith("-"):
            if not is_request(each):
                return given, None
            rest = [other for other in given[place + 1 :] if not is_request(other)]
            left = len(given) - place - 1 - len(rest)
            if left:
                print(
                    f"seamount: one is opened at a time; {left} more are left.", file=sys.stderr, flush=True
                )
            return given[:place] + rest, each
    return given, None


def open_request(request: str, open_window: Callable[[str], int] | None) -> int:
    """Have the window open it; the exit status. `open_window` None: there is no display, so what to do instead is said.

    Raises BadRequest.
    """
    try:
        meant = read_request(request, Path.cwd())
    except BadRequest:
        # Nobody sees a terminal after a click on a link: there the window says what is wrong with it.
        if open_window is not None and not sys.stderr.isatty():
            return open_window(request[:LONGEST_REQUEST])
        raise
    if open_window is not None:
        return open_window(str(meant.path) if isinstance(meant, ModelFile) else request)
    if isinstance(meant, ModelFile):
        remedy = f'`seamount chat --model "{meant.path}"` talks to it in a terminal'
    else:
        remedy = f"`seamount get {meant.text}` fetches that model in a terminal"
    raise BadRequest("The window was not opened", "there is no display", remedy)
