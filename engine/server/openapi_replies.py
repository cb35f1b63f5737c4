"""The schemas of what the dialects answer, for the description of the interface (`openapi`).

Owns: those schemas. The replies themselves are made by the dialects' own modules; a test holds the real ones against
these. What a client need not know to read a reply is left open: more fields may come.
"""

from typing import Any

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number"}
_ANY_OBJECT: Schema = {"type": "object"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {"type": "object", "required": list(required), "properties": {**required, **(optional or {})}}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_USAGE = _object(
    {
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "total_tokens": _COUNT,
        "prompt_tokens_details": _object({"cached_tokens": _COUNT}),
        "completion_tokens_details": _object({"reasoning_tokens": _COUNT}),
    }
)
_TOLD: dict[str, Schema] = {"seamount": _ANY_OBJECT}
"""What Seamount tells beside the dialect: notices, what was kept steady."""
_CALL = _object(
    {
        "id": _TEXT,
        "type": {"const": "function"},
        "function": _object({"name": _TEXT, "arguments": _TEXT}),
    }
)
_FINISH: Schema = {"enum": ["stop", "length", "tool_calls"]}
_MESSAGE_BLOCK: Schema = {
    "oneOf": [
        _object({"type": {"const": "text"}, "text": _TEXT}),
        _object({"type": {"const": "thinking"}, "thinking": _TEXT, "signature": _TEXT}),
        _object({"type": {"const": "tool_use"}, "id": _TEXT, "name": _TEXT, "input": _ANY_OBJECT}),
    ]
}

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        {
            "error": _object(
                {"message": _TEXT, "code": _TEXT}, {"type": _TEXT, "param": _or_null(_TEXT), "text": _TEXT}
            )
        }
    ),
    "MessagesError": _object(
        {
            "type": {"const": "error"},
            "error": _object({"type": _TEXT, "message": _TEXT}, {"details": _ANY_OBJECT}),
            "request_id": _or_null(_TEXT),
        }
    ),
    "Model": _object(
        {"id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT},
        {"max_model_len": _COUNT, **_TOLD},
    ),
    "MessagesModel": _object(
        {
            "id": _TEXT,
            "type": {"const": "model"},
            "display_name": _TEXT,
            "created_at": _TEXT,
            "max_input_tokens": _or_null(_COUNT),
            "max_tokens": _or_null(_COUNT),
        },
        _TOLD,
    ),
    "ModelList": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "MessagesModelList": _object(
        {
            "data": _list(_ref("MessagesModel")),
            "has_more": {"type": "boolean"},
            "first_id": _or_null(_TEXT),
            "last_id": _or_null(_TEXT),
        }
    ),
    "ChatCompletion": _object(
        {
            "id": _TEXT,
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": _list(
                _object(
                    {
                        "index": {"const": 0},
                        "message": _object(
                            {"role": {"const": "assistant"}, "content": _or_null(_TEXT)},
                            {"reasoning_content": _TEXT, "tool_calls": _list(_CALL)},
                        ),
                        "finish_reason": _FINISH,
                        "logprobs": _or_null(_ANY_OBJECT),
                    }
                )
            ),
            "usage": _USAGE,
        },
        _TOLD,
    ),
    "Completion": _object(
        {
            "id": _TEXT,
            "object": {"const": "text_completion"},
            "created": {"type": "integer"},
            "model": _TEXT,
            "choices": _list(
                _object(
                    {
                        "index": {"const": 0},
                        "text": _TEXT,
                        "finish_reason": _FINISH,
                        "logprobs": _or_null(_ANY_OBJECT),
                    }
                )
            ),
            "usage": _USAGE,
        },
        _TOLD,
    ),
    "Response": _object(
        {
            "id": _TEXT,
            "object": {"const": "response"},
            "created_at": _NUMBER,
            "status": {"enum": ["completed", "incomplete"]},
            "model": _TEXT,
            "output": _list(
                _object({"type": {"enum": ["message", "reasoning", "function_call"]}, "id": _TEXT})
            ),
            "incomplete_details": _or_null(_ANY_OBJECT),
            "error": {"type": "null"},
            "store": {"const": False},
            "usage": _object({"input_tokens": _COUNT, "output_tokens": _COUNT, "total_tokens": _COUNT}),
        },
        _TOLD,
    ),
    "Message": _object(
        {
            "id": _TEXT,
            "type": {"const": "message"},
            "role": {"const": "assistant"},
            "model": _TEXT,
            "content": _list(_MESSAGE_BLOCK),
            "stop_reason": _TEXT,
            "stop_sequence": _or_null(_TEXT),
            "usage": _object(
                {"input_tokens": _COUNT, "output_tokens": _COUNT, "cache_read_input_tokens": _COUNT}
            ),
        },
        _TOLD,
    ),
    "TokenCount": _object({"input_tokens": _COUNT}),
}
"""By name: the whole replies and what several of them share. Of streams only the frame of an event is described."""
