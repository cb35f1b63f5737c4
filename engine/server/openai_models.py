"""The OpenAI dialect's list of models.

Owns: `/v1/models` and `/v1/models/{id}`. Does not know how a model is found or loaded.
"""

from typing import Any

from fastapi import APIRouter

from engine.engine import Engine
from engine.server.answers import UnknownModel
from engine.server.room import EngineOf

router = APIRouter(prefix="/v1")


@router.get("/models")
async def models(engine: EngineOf) -> dict[str, Any]:
    """The model that is loaded or being loaded; none otherwise."""
    model_id = engine.thread.model_id
    return {"object": "list", "data": [_shape(engine, model_id)] if model_id else []}


@router.get("/models/{named:path}")
async def model(named: str, engine: EngineOf) -> dict[str, Any]:
    """That one, if it is the one that is served."""
    model_id = engine.thread.model_id
    if model_id is None or named != model_id:
        raise UnknownModel(named, model_id)
    return _shape(engine, model_id)


def _shape(engine: Engine, model_id: str) -> dict[str, Any]:
    shape = {
        "id": model_id,
        "object": "model",
        "created": int(engine.status().started_at),
        "owned_by": "seamount",
    }
    loaded = engine.host.loaded
    if loaded is not None and loaded.id == model_id:
        # As vLLM calls it; clients that know it need not be told how long a prompt may be.
        shape["max_model_len"] = loaded.context_tokens
    return shape
