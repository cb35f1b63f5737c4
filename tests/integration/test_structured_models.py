"""Answers of a given form by models that compute: the starter model, and V4s of random numbers in both engines.

A random V4 says nothing of its own accord, so what has the form has it by the mask alone.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from convert.conversion import convert
from engine.answer_form import AnswerForm
from engine.contexts.context import BareContext
from engine.encoding.answer_mask import answer_mask
from engine.encoding.tool_schemas import check_calls
from engine.encoding.v4_chat import v4_chat
from engine.generation import GenerationRequest, Outcome, generate
from engine.paths import DataFolder
from engine.protocol import Sampling
from tests.benchmarks.against_sweep import starter
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import LiveEngine
from tests.integration.openai_sdk import sdk
from tests.integration.state_process import opened

pytestmark = pytest.mark.slow

FISH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "depth": {"type": "integer", "minimum": 0, "maximum": 11_000},
        "kind": {"enum": ["bony", "cartilaginous"]},
        "seen": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "depth", "kind", "seen"],
    "additionalProperties": False,
}
FUNCTIONS: list[dict[str, Any]] = [
    {"name": "find", "parameters": FISH},
    {"name": "stop", "parameters": {"type": "object", "properties": {}}},
]


@pytest.fixture(scope="module", params=["starter", "V4", "native V4"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    native = request.param.startswith("native")
    if native:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    if request.param == "starter":
        path = starter()
    else:
        root = tmp_path_factory.mktemp("v4")
        source = checkpoint(root / "source", "0731", layers=4, seed=8)
        (path,) = convert(job(source, root / f"{source.name}.gguf", draft="skip"))
    with contextlib.closing(opened(path, backend="native" if native else "llamacpp")) as made:
        yield made


def answer(backend: Any, form: AnswerForm, functions: Any, seed: int) -> tuple[Outcome, list[int]]:
    mask = answer_mask(backend, v4_chat(backend), form, functions, thinking=False)
    ids: list[int] = []
    request = GenerationRequest(
        prompt=tuple(backend.tokenize("A fish of the deep sea:")),
        sampling=Sampling(temperature=1.0, top_p=1.0, min_p=0.0, seed=seed),
        max_tokens=800,
        mask=mask,
    )
    keep: Callable[[Any], None] = lambda event: ids.extend(getattr(event, "token_ids", ()))  # noqa: E731
    return generate(BareContext(backend), request, keep, lambda: False), ids


def test_json_by_a_schema(backend: Any) -> None:
    form = AnswerForm(json_schema=json.dumps(FISH))
    outcome, ids = answer(backend, form, (), 3)
    assert outcome.reason == "stop"
    text = b"".join(map(backend.token_bytes, ids)).decode()
    Draft202012Validator(FISH).validate(json.loads(text))
    assert answer(backend, form, (), 3)[1] == ids


def test_a_call_by_its_functions_schema(backend: Any) -> None:
    chat = v4_chat(backend)
    if chat is None:
        pytest.skip("only V4 has an agreed way to call")
    outcome, ids = answer(backend, AnswerForm(calls="required", parallel=False), FUNCTIONS, 3)
    assert outcome.reason == "stop"
    parser = chat.parser(thinking=False)
    parser.feed(chat.text_of(ids) + chat.release.tokens.end)
    whole = parser.finish()
    check_calls(whole.calls, FUNCTIONS)
    assert [call.status for call in whole.calls] == ["exact"]
    assert whole.problems == ()


def test_the_starter_model_through_the_engine_always_answers_by_the_schema(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("starter")
    data = DataFolder(root)
    data.create()
    data.settings.write_text("format = 1\ncontext_tokens = 1024\nthreads = 1\nmodel_titles = false\n")
    live = LiveEngine(root, "--model", "starter")
    try:
        live.wait_model()
        form: Any = {"type": "json_schema", "json_schema": {"name": "fish", "schema": FISH}}
        with sdk(live) as client:
            for seed, question in enumerate(("Tell me of a fish.", "Write a poem.")):
                reply = client.chat.completions.create(
                    model="starter",
                    messages=[{"role": "user", "content": question}],
                    response_format=form,
                    seed=seed,
                    temperature=0.3 + 1.2 * seed,
                )
                assert reply.choices[0].finish_reason == "stop"
                Draft202012Validator(FISH).validate(json.loads(reply.choices[0].message.content or ""))
    finally:
        live.close()
