"""Ctrl-C and the polite kill as a wish: the work ends where it can be gone on with.

Owns: the signal handlers while work is done. Does not know the work.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager

STOPPED = 130
"""Exit status of what was ended by Ctrl-C, as shells have it."""


@contextmanager
def wish_to_stop() -> Generator[Callable[[], bool]]:
    """Whether Ctrl-C or a polite kill came; a second one ends the program where it is."""
    came = False

    def note(_number: int, _frame: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, note) for name in names}
    try:
        yield lambda: came
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
