"""The engine does what its description says: schemathesis asks it what it thinks of, with and without sense.

The plugin of schemathesis is not used (see pyproject.toml): operations are asked one by one here.
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.utils import get_openapi

from engine.server import auth, openapi
from tests.integration.live_door import LiveDoor, chat
from tests.integration.live_engine import SCRIPT_MODEL

EXAMPLES = 60
OPERATIONS = [f"{each.method.upper()} {each.path}" for each in openapi.OPERATIONS]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDoor]:
    live = LiveDoor(tmp_path_factory.mktemp("described"))
    yield live
    live.close()


@pytest.fixture(scope="module")
def schema(door: LiveDoor) -> Any:
    import schemathesis

    status, _, document = door.ask("/openapi.json", key=door.local_key)
    assert status == 200
    return schemathesis.openapi.from_dict(document)


def check(door: LiveDoor, schema: Any, name: str, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask `name` so many times; half of them with the model that is served, so that they get past its name."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    async def at_once(_seconds: float) -> None:
        """Wrong keys are tried on purpose here."""

    monkeypatch.setattr(auth, "pause", at_once)
    (operation,) = [each.ok() for each in schema.get_all_operations() if each.ok().label == name]
    asked = [0]

    @seed(int(os.environ.get("SEAMOUNT_FUZZ_SEED", "1")))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def run(case: Any) -> None:
        asked[0] += 1
        if isinstance(case.body, dict) and asked[0] % 2:
            case.body["model"] = SCRIPT_MODEL
            # A long answer finds nothing that a short one does not.
            for limit in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
                if isinstance(case.body.get(limit), int):
                    case.body[limit] = min(case.body[limit], 20)
        case.call_and_validate(
            base_url=f"http://127.0.0.1:{door.port}",
            headers={"Authorization": f"Bearer {door.local_key}"},
            # What a schema lets through may still make no sense (a result of no call); it is refused in a sentence.
            excluded_checks=[positive_data_acceptance],
        )

    run()
    assert asked[0] >= examples


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_does_what_it_says_for_long(
    door: LiveDoor, schema: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(door, schema, name, EXAMPLES, monkeypatch)


REAL = {
    "/v1/chat/completions": chat("Hello", logprobs=True, top_logprobs=2),
    "/v1/completions": {"model": SCRIPT_MODEL, "prompt": "Hello", "logprobs": 2},
    "/v1/responses": {"model": SCRIPT_MODEL, "input": "Hello"},
    "/v1/messages": {**chat("Hello"), "max_tokens": 20},
    "/v1/messages/count_tokens": chat("Hello"),
}


def test_real_replies_are_what_is_described(door: LiveDoor) -> None:
    """The answers to what makes sense, held against the schemas; random requests seldom get that far."""
    from jsonschema import Draft202012Validator

    components = openapi.document()["components"]
    for operation in openapi.OPERATIONS:
        path = operation.path.replace("{named}", SCRIPT_MODEL)
        for headers in ("", "anthropic-version: 2023-06-01\r\n"):
            status, _, body = door.ask(
                path,
                method=operation.method.upper(),
                key=door.local_key,
                body=REAL.get(operation.path),
                headers=headers,
            )
            assert status == 200, body
            fitting = [
                name
                for name in operation.replies
                if Draft202012Validator(
                    {"$ref": f"#/components/schemas/{name}", "components": components}
                ).is_valid(body)
            ]
            assert len(fitting) == 1, (operation.path, fitting, body)


def test_all_routes_of_the_dialects_are_described(door: LiveDoor) -> None:
    found = get_openapi(title="", version="", routes=door.server._app.routes)["paths"]
    routes = {
        (method, path.replace(":path", ""))
        for path, each in found.items()
        for method in each
        if path.startswith("/v1/")
    }
    assert routes == {(each.method, each.path) for each in openapi.OPERATIONS}
