"""How a route gets at the engine it serves.

Owns: that one dependency. Does not know routes.
"""

from typing import Annotated, cast

from fastapi import Depends, Request

from engine.engine import Engine


async def _engine_of(request: Request) -> Engine:
    return cast(Engine, request.app.state.engine)


EngineOf = Annotated[Engine, Depends(_engine_of)]
