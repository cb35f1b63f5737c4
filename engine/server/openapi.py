"""The description of what other programs can ask: `GET /openapi.json`.

Owns: that document (OpenAPI 3.1): the dialects' routes, their requests as the shapes that they are read into, replies,
errors, and keys. It is made here and not by FastAPI, whose routes know neither: bodies are read at the door, replies
are bytes. A test sees to it that no route of the dialects is missing, and schemathesis holds the engine to it.
Seamount's own routes under /api are not in it: no client's key opens them, and they change with the window.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from engine.server.anthropic_shapes import Conversation, MessagesRequest
from engine.server.openai_chat import ChatRequest
from engine.server.openai_completions import TextRequest
from engine.server.openai_responses import ResponseRequest
from engine.server.openapi_replies import SCHEMAS, Schema
from engine.server.replies import is_anthropic
from engine.version import version

router = APIRouter()
_REF = "#/components/schemas/{model}"
_EVENT: Schema = {
    "type": "object",
    "description": "One of the server-sent events, in the dialect's own order. Between them come comment lines with "
    "how far the answer is (`: queued 3`, `: reading 4096/100000`), which clients pass over.",
    "required": ["data"],
    "properties": {"data": {"type": "string"}, "event": {"type": "string"}},
}


@dataclass(frozen=True)
class Operation:
    """One route. `replies`: names in `SCHEMAS`, of which one is the answer."""

    method: str
    path: str
    summary: str
    replies: tuple[str, ...]
    request: type[BaseModel] | None = None
    streams: bool = False
    parameters: tuple[Schema, ...] = ()


_VERSION: Schema = {
    "name": "anthropic-version",
    "in": "header",
    "required": False,
    "description": "Who sends it gets Anthropic's shape.",
    "schema": {"type": "string", "pattern": "^[!-~]{0,40}$"},
}
_NAMED: Schema = {
    "name": "named",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
}

OPERATIONS = (
    Operation(
        "get",
        "/v1/models",
        "The model that is served",
        ("ModelList", "MessagesModelList"),
        parameters=(_VERSION,),
    ),
    Operation(
        "get",
        "/v1/models/{named}",
        "That model, if it is served",
        ("Model", "MessagesModel"),
        parameters=(_NAMED, _VERSION),
    ),
    Operation(
        "post",
        "/v1/chat/completions",
        "An answer, in OpenAI's chat dialect",
        ("ChatCompletion",),
        ChatRequest,
        streams=True,
    ),
    Operation("post", "/v1/completions", "A text that goes on", ("Completion",), TextRequest, streams=True),
    Operation(
        "post",
        "/v1/responses",
        "An answer, in OpenAI's responses dialect",
        ("Response",),
        ResponseRequest,
        streams=True,
    ),
    Operation(
        "post",
        "/v1/messages",
        "An answer, in Anthropic's dialect",
        ("Message",),
        MessagesRequest,
        streams=True,
    ),
    Operation(
        "post",
        "/v1/messages/count_tokens",
        "How many tokens a conversation takes",
        ("TokenCount",),
        Conversation,
    ),
)

_ERRORS = {
    "400": "What was asked cannot be done as it is written",
    "401": "No key, or none that counts here",
    "403": "A foreign Host or Origin, or a path that the key does not open",
    "404": "A model that is not served",
    "408": "The request did not arrive in time",
    "413": "The body or the prompt is too large",
    "429": "More requests than the key may have waiting",
    "431": "The head is too large",
    "default": "It failed, or the engine is not ready; the message says what to do",
}


@router.get("/openapi.json")
async def described() -> Response:
    """The OpenAPI document."""
    return JSONResponse(document())


@cache
def document() -> dict[str, Any]:
    """The whole description."""
    shapes = [each.request for each in OPERATIONS if each.request is not None]
    _, defined = models_json_schema([(each, "validation") for each in shapes], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for each in OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Seamount",
            "version": version(),
            "description": "The dialects by which other programs talk to the model that Seamount runs.",
        },
        "paths": paths,
        "security": [{"bearer": []}, {"apiKey": []}],
        "components": {
            "schemas": {**SCHEMAS, **defined["$defs"]},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(each: Operation) -> dict[str, Any]:
    answer = [_named(name) for name in each.replies]
    content: dict[str, Any] = {
        "application/json": {"schema": answer[0] if len(answer) == 1 else {"anyOf": answer}}
    }
    if each.streams:
        content["text/event-stream"] = {"schema": _EVENT}
    error = {"application/json": {"schema": _named("MessagesError" if is_anthropic(each.path) else "Error")}}
    if _VERSION in each.parameters:
        error = {"application/json": {"schema": {"anyOf": [_named("Error"), _named("MessagesError")]}}}
    told: dict[str, Any] = {
        "operationId": f"{each.method}{each.path.replace('{named}', 'named').replace('/', '_')}",
        "summary": each.summary,
        "responses": {
            "200": {"description": each.summary, "content": content},
            **{status: {"description": words, "content": error} for status, words in _ERRORS.items()},
        },
    }
    if each.parameters:
        told["parameters"] = list(each.parameters)
    if each.request is not None:
        told["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _named(each.request.__name__)}},
        }
    return told


def _named(name: str) -> Schema:
    return {"$ref": _REF.format(model=name)}
