"""Answers of a given form, asked for by OpenAI's own client, from a real engine: JSON by schemas, calls on demand."""

import json
from collections.abc import Iterator
from typing import Any, cast

import openai
import pytest
from jsonschema.validators import Draft202012Validator

from engine.paths import DataFolder
from tests.integration.live_engine import SCRIPT, SCRIPT_MODEL, LiveEngine, write_script
from tests.integration.openai_sdk import sdk
from tests.integration.v4_script import TOOLS, V4_MODEL, V4_SCRIPT

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        "home": {"anyOf": [{"$ref": "#/$defs/place"}, {"type": "null"}]},
    },
    "required": ["name", "age", "tags", "home"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"city": {"enum": ["Bern", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    root = tmp_path_factory.mktemp("structured")
    person = json.dumps({"name": "Ada", "age": 36, "tags": ["x"], "home": {"city": "Bern"}}, indent=2)
    reply = {"match": "Ada", "mode": "think", "text": f"She is known to me.</think>{person}"}
    script = {**V4_SCRIPT, "replies": [reply, *V4_SCRIPT["replies"]]}
    write_script(DataFolder(root), script, "v4")
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    with sdk(live) as opened:
        yield opened
    live.close()


def asked(client: openai.OpenAI, text: str, **more: Any) -> Any:
    """The first choice of a chat completion."""
    reply = client.chat.completions.create(
        model=V4_MODEL, messages=[{"role": "user", "content": text}], **more
    )
    return cast(Any, reply).choices[0]


def json_form(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def holds(text: str, schema: Any) -> Any:
    value = json.loads(text)
    Draft202012Validator(schema).validate(value)
    return value


@pytest.mark.parametrize("effort", ["none", "high"])
def test_a_model_that_says_something_else_still_answers_by_the_schema(
    client: openai.OpenAI, effort: str
) -> None:
    choice = asked(client, "Hi", response_format=json_form(PERSON), reasoning_effort=effort)
    holds(choice.message.content, PERSON)
    assert choice.finish_reason == "stop"
    assert getattr(choice.message, "reasoning_content", None) == (
        None if effort == "none" else "First I think."
    )


def test_what_fits_the_schema_is_left_as_the_model_says_it(client: openai.OpenAI) -> None:
    choice = asked(client, "Who is Ada?", response_format=json_form(PERSON))
    assert holds(choice.message.content, PERSON)["name"] == "Ada"
    assert choice.message.content.startswith('{\n  "name": "Ada"')
    assert choice.message.reasoning_content == "She is known to me."


def test_any_object_will_do_where_no_schema_is_given(client: openai.OpenAI) -> None:
    choice = asked(client, "Hi", response_format={"type": "json_object"}, reasoning_effort="none")
    assert isinstance(json.loads(choice.message.content), dict)


def test_the_same_seed_gives_the_same_answer_streamed_or_whole(client: openai.OpenAI) -> None:
    again: Any = {"response_format": json_form(PERSON), "seed": 4, "temperature": 1.5}
    first = asked(client, "Hi", **again).message.content
    chunks = client.chat.completions.create(
        model=V4_MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True, **again
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == first


def test_an_answer_that_is_cut_says_so(client: openai.OpenAI) -> None:
    choice = asked(
        client, "Who is Ada?", response_format=json_form(PERSON), reasoning_effort="none", max_tokens=9
    )
    assert choice.finish_reason == "length"
    assert choice.message.content.startswith("{")


def test_reasoning_that_is_told_to_end_is_followed_by_the_form(client: openai.OpenAI) -> None:
    choice = asked(
        client,
        "ponder",
        response_format=json_form(PERSON),
        extra_body={"thinking": {"type": "enabled", "budget_tokens": 12}},
    )
    assert len(choice.message.reasoning_content) == 12
    holds(choice.message.content, PERSON)


@pytest.mark.parametrize("effort", ["none", "high"])
@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "write_file"}}],
    ids=["required", "named"],
)
def test_a_call_that_must_be_is_made(client: openai.OpenAI, choice: Any, effort: str) -> None:
    made = asked(client, "Hi", tools=TOOLS, tool_choice=choice, reasoning_effort=effort)
    assert made.finish_reason == "tool_calls"
    assert not made.message.content
    for call in made.message.tool_calls:
        function = next(t["function"] for t in TOOLS if t["function"]["name"] == call.function.name)
        holds(call.function.arguments, function["parameters"])
    if choice != "required":
        assert {call.function.name for call in made.message.tool_calls} == {"write_file"}


def test_calls_can_be_held_to_one(client: openai.OpenAI) -> None:
    both = asked(client, "weather in Paris", tools=TOOLS)
    one = asked(client, "weather in Paris", tools=TOOLS, parallel_tool_calls=False)
    assert [len(choice.message.tool_calls) for choice in (both, one)] == [2, 1]
    assert one.message.content == "Looking."
    assert json.loads(one.message.tool_calls[0].function.arguments) == {"city": "Paris"}


def test_strict_functions_are_the_only_ones_that_are_called(client: openai.OpenAI) -> None:
    strict = [{**tool, "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    made = asked(client, "Use an unknown tool", tools=strict)
    assert {call.function.name for call in made.message.tool_calls} <= {"get_weather", "write_file"}
    assert made.message.tool_calls
    plain = asked(client, "Hi", tools=strict)
    assert plain.message.content == "Then I answer."


def test_a_schema_and_tools_leave_the_model_the_choice(client: openai.OpenAI) -> None:
    both: Any = {"tools": TOOLS, "response_format": json_form(PERSON)}
    made = asked(client, "22 degrees", **both)
    assert made.message.tool_calls[0].function.name == "write_file"
    assert not made.message.content
    text = asked(client, "Who is Ada?", **both).message.content
    assert text.startswith("{\n") and holds(text, PERSON)["name"] == "Ada"


def test_an_answer_that_is_begun_goes_on_by_the_schema(client: openai.OpenAI) -> None:
    begun = '{"name": "Grace", "age": '
    messages: Any = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": begun, "prefix": True},
    ]
    form: Any = json_form(PERSON)
    reply = client.chat.completions.create(model=V4_MODEL, messages=messages, response_format=form)
    assert holds(begun + (reply.choices[0].message.content or ""), PERSON)["name"] == "Grace"
    messages[1]["content"] = "Well, "
    with pytest.raises(openai.BadRequestError, match="begins with does not follow"):
        client.chat.completions.create(model=V4_MODEL, messages=messages, response_format=form)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": {"a": {"not": {}}}}, "`not` at /properties/a"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "nothing is fetched"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no value that ends"),
        ({"type": "string", "pattern": "(?=a)b"}, "looks ahead"),
        ({"type": "string", "format": "iri"}, "`format` is iri"),
    ],
)
def test_what_cannot_be_enforced_is_refused_and_named(client: openai.OpenAI, schema: Any, says: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        asked(client, "Hi", response_format=json_form(schema))
    assert says in str(refused.value)
    assert cast(Any, refused.value).code == "form_refused"


@pytest.mark.slow
def test_a_model_with_a_chat_template_answers_by_a_schema_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("template")
    write_script(DataFolder(root), SCRIPT)
    live = LiveEngine(root, "--model", SCRIPT_MODEL)
    try:
        live.wait_model()
        question: Any = {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        form: Any = json_form(PERSON)
        with sdk(live) as client:
            reply = client.chat.completions.create(**question, response_format=form)
            holds(reply.choices[0].message.content or "", PERSON)
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**question, tools=TOOLS, tool_choice="required")
    finally:
        live.close()


def test_stop_strings_end_no_call(client: openai.OpenAI) -> None:
    """They are of the text that a client sees; how V4 writes a call is no business of its."""
    for stop in (["Paris"], ["parameter"], [">"]):
        choice = asked(client, "The weather in Paris?", tools=TOOLS, stop=stop)
        calls = [json.loads(call.function.arguments) for call in choice.message.tool_calls]
        assert (choice.finish_reason, calls) == ("tool_calls", [{"city": "Paris"}, {"city": "Rome"}])
    choice = asked(client, "The weather in Paris?", tools=TOOLS, tool_choice="required", stop=["\n"])
    assert choice.finish_reason == "tool_calls"
    choice = asked(client, "The weather in Paris?", tools=TOOLS, stop=["king"])
    assert (choice.finish_reason, choice.message.content) == ("stop", "Loo")
