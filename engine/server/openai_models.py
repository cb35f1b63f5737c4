"""The list of models, in the shape of the dialect that asks.

Owns: `/v1/models` and `/v1/models/{id}`: both dialects have them at the same address, and Anthropic's clients send
`anthropic-version`. Does not know how a model is found or loaded.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse, Response

from engine.engine import Engine
from engine.server.answers import REMOTE, UnknownModel
from engine.server.replies import ANTHROPIC_PATH, error_reply
from engine.server.room import EngineOf

router = APIRouter(prefix="/v1")


AnthropicVersion = Annotated[str | None, Header()]


@router.get("/models")
async def models(engine: EngineOf, anthropic_version: AnthropicVersion = None) -> dict[str, Any]:
    """The model that is loaded or being loaded; none otherwise."""
    model_id = engine.thread.model_id
    if anthropic_version is None:
        return {"object": "list", "data": [_shape(engine, model_id)] if model_id else []}
    data = [_anthropics_shape(engine, model_id)] if model_id else []
    return {"data": data, "has_more": False, "first_id": model_id, "last_id": model_id}


@router.get("/models/{named:path}")
async def model(named: str, engine: EngineOf, anthropic_version: AnthropicVersion = None) -> Response:
    """That one, if it is the one that is served."""
    model_id = engine.thread.model_id
    if model_id is None or named != model_id:
        error = UnknownModel(named, model_id)
        if anthropic_version is None:
            raise error
        return error_reply(ANTHROPIC_PATH, error)
    shape = _shape if anthropic_version is None else _anthropics_shape
    return JSONResponse(shape(engine, model_id))


def _shape(engine: Engine, model_id: str) -> dict[str, Any]:
    shape: dict[str, Any] = {
        "id": model_id,
        "object": "model",
        "created": int(engine.status().started_at),
        "owned_by": "seamount",
    }
    loaded = engine.host.loaded
    shape |= _place(engine, model_id)
    if loaded is not None and loaded.id == model_id and loaded.context_tokens:
        # As vLLM calls it; clients that know it need not be told how long a prompt may be.
        shape["max_model_len"] = loaded.context_tokens
    return shape


def _anthropics_shape(engine: Engine, model_id: str) -> dict[str, Any]:
    loaded = engine.host.loaded
    if loaded is not None and loaded.id != model_id:
        loaded = None
    room = (loaded.context_tokens or None) if loaded else None
    since = datetime.fromtimestamp(int(engine.status().started_at), UTC)
    return {
        "type": "model",
        "id": model_id,
        "display_name": loaded.name if loaded else model_id,
        "created_at": since.isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "max_input_tokens": room,
        "max_tokens": room,
        **_place(engine, model_id),
    }


def _place(engine: Engine, model_id: str) -> dict[str, Any]:
    """Where requests go, of a model that another machine computes."""
    if not model_id.startswith(REMOTE):
        return {}
    place = engine.remotes.entry(model_id).remote
    return {} if place is None else {"seamount": {"sent_to": place.host, "whereabouts": place.whereabouts}}
