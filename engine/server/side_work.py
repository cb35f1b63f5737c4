"""What takes long of a client's request before it waits in the queue: reading large bodies, looking at hostile schemas.

Owns: how much of it is done at once. The window's own routes have other threads, so that programs which send such
requests by the dozen do not keep a person waiting. Does not know what is done; nothing that waits for the model is.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

AT_ONCE = 2
"""More would not be done sooner: most of it is Python's own work, of which one thread runs at a time."""

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")
_lane: RunVar[CapacityLimiter] = RunVar("side_work")
"""Of each event loop."""


async def beside(call: Callable[_Given, _Found], *given: _Given.args, **named: _Given.kwargs) -> _Found:
    """What `call` returns, from a thread, when its turn has come."""
    lane = _lane.get(None)
    if lane is None:
        lane = CapacityLimiter(AT_ONCE)
        _lane.set(lane)
    return await to_thread.run_sync(partial(call, *given, **named), limiter=lane)
