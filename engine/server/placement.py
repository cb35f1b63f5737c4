"""The routes of placement: how a model lies on this machine, what is chosen for it, and measuring the machine.

Owns: `/api/models/{id}/placement`, `/api/library/offers/{name}/placement` and `/api/hardware`. Does not know how any of
it is reckoned (`placement_desk`, `measuring`). Handlers read files' headers and ask the system, so they run in the
thread pool.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response

from engine.engine import Engine
from engine.protocol_placement import Choices, HardwareState
from engine.server.replies import body_of, reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/api")


class Asked(Choices):
    """A query. `exact`: the load is rehearsed, which takes a second or two."""

    exact: bool = False

    def choices(self) -> Choices | None:
        """What is asked for; None: what was chosen."""
        named = self.model_fields_set - {"exact"}
        return Choices.model_validate(self.model_dump(include=named)) if named else None


AskedOf = Annotated[Asked, Query()]


# The names of models have slashes in them, so `path` stands for everything between.
@router.get("/models/{model_id:path}/placement")
def placement(model_id: str, asked: AskedOf, engine: EngineOf) -> Response:
    """The Placement, by what was chosen for the model; by the query, where that names anything."""
    return reply(engine.placements.of_model(model_id, asked.choices(), exact=asked.exact))


@router.put("/models/{model_id:path}/placement")
def choose(model_id: str, asked: Annotated[Choices, Depends(body_of(Choices))], engine: EngineOf) -> Response:
    """Keep the Choices: the Placement. The loaded model is loaded again where they change it."""
    return reply(engine.choose(model_id, asked))


@router.get("/library/offers/{name:path}/placement")
def offer_placement(name: str, asked: AskedOf, engine: EngineOf) -> Response:
    """The Placement of a model of the catalogue, on this machine when little else runs."""
    return reply(engine.placements.of_offer(name, asked.choices() or Choices()))


@router.get("/hardware")
def hardware(engine: EngineOf) -> Response:
    """The HardwareState."""
    return reply(_state(engine))


@router.post("/hardware/measure")
def measure(engine: EngineOf) -> Response:
    """Measure this machine, which takes a minute at most: 202 with the HardwareState."""
    engine.measuring.start()
    return reply(_state(engine), 202)


@router.delete("/hardware/measure")
def stop(engine: EngineOf) -> Response:
    """Break a measurement off: the HardwareState."""
    engine.measuring.stop()
    return reply(_state(engine))


def _state(engine: Engine) -> HardwareState:
    record = engine.placements.record()
    state = engine.measuring.state()
    return state.model_copy(update={"measured_at": record.measured_at if record else None})
