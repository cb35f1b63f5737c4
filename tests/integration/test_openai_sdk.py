"""OpenAI's own client against the real engine process, with a scripted DeepSeek-V4."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputParam
from pydantic import BaseModel

from engine.paths import DataFolder
from tests.integration.live_engine import LiveEngine, in_thread, write_script
from tests.integration.openai_sdk import async_sdk, sdk
from tests.integration.v4_script import TOOLS, V4_MODEL, V4_SCRIPT


class GetWeather(BaseModel):
    """Weather in a city."""

    city: str


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    root = tmp_path_factory.mktemp("sdk")
    write_script(DataFolder(root), V4_SCRIPT, "v4")
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    yield live
    live.close()


@pytest.fixture(scope="module")
def client(engine: LiveEngine) -> Iterator[openai.OpenAI]:
    with sdk(engine) as made:
        yield made


def user(text: str) -> ChatCompletionMessageParam:
    return {"role": "user", "content": text}


# --- chat completions -------------------------------------------------------------------------------------


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [V4_MODEL]
    assert client.models.retrieve(V4_MODEL).owned_by == "seamount"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-17")


def test_an_answer_with_its_reasoning_and_what_it_cost(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=V4_MODEL, messages=[user("Hi")], seed=3, user="me", store=False
    )
    message = answer.choices[0].message
    assert (message.content, message.model_extra) == (
        "Then I answer.",
        {"reasoning_content": "First I think."},
    )
    usage = answer.usage
    assert usage and usage.completion_tokens_details and usage.prompt_tokens_details
    assert usage.completion_tokens_details.reasoning_tokens == len("First I think.")
    again = client.chat.completions.create(model=V4_MODEL, messages=[user("Hi")]).usage
    assert again and again.prompt_tokens_details
    assert again.prompt_tokens_details.cached_tokens == again.prompt_tokens - 1


def test_the_typed_stream_gathers_the_same(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=V4_MODEL, messages=[user("Hi")], stream_options={"include_usage": True}
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        whole = stream.get_final_completion()
    assert "".join(deltas) == whole.choices[0].message.content == "Then I answer."
    assert whole.usage and whole.usage.completion_tokens > len("Then I answer.")


def test_calls_by_the_tool_helper_and_their_results(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    messages: list[ChatCompletionMessageParam] = [user("The weather in Paris?")]
    with client.chat.completions.stream(model=V4_MODEL, messages=messages, tools=[tool]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        whole = stream.get_final_completion()
    assert [event.parsed_arguments for event in done] == [GetWeather(city="Paris"), GetWeather(city="Rome")]
    choice = whole.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    messages.append(choice.message.model_dump(exclude_none=True, exclude={"parsed"}))  # type: ignore[arg-type]
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": text}
        for call, text in zip(choice.message.tool_calls, ["22 degrees", "25 degrees"], strict=True)
    ]
    after = client.chat.completions.create(model=V4_MODEL, messages=messages, tools=TOOLS)  # type: ignore[arg-type]
    calls = after.choices[0].message.tool_calls
    assert calls and calls[0].type == "function" and calls[0].function.name == "write_file"


def test_log_probabilities_of_the_text_alone(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=V4_MODEL, messages=[user("Hi")], logprobs=True, top_logprobs=2
    )
    logged = answer.choices[0].logprobs
    assert logged and logged.content
    assert "".join(token.token for token in logged.content) == "Then I answer."
    assert all(token.logprob == pytest.approx(0) and len(token.top_logprobs) == 2 for token in logged.content)
    assert logged.content[0].top_logprobs[0].token == "T"
    chunks = client.chat.completions.create(model=V4_MODEL, messages=[user("Hi")], logprobs=True, stream=True)
    told = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices]
    content = [token for each in told if each for token in each.content or []]
    assert "".join(token.token for token in content) == "Then I answer."
    assert all(token.top_logprobs == [] for token in content)


def test_a_stop_string_ends_the_text_and_not_the_reasoning(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=V4_MODEL, messages=[user("Hi")], stop=[" I "])
    message = answer.choices[0].message
    assert message.content == "Then"
    assert message.model_extra and message.model_extra["reasoning_content"] == "First I think."
    assert answer.choices[0].finish_reason == "stop"


def test_an_answer_is_gone_on_with(client: openai.OpenAI) -> None:
    def rest(effort: Any = None, **fields: Any) -> str | None:
        begun: Any = {"role": "assistant", "prefix": True, **fields}
        answer = client.chat.completions.create(
            model=V4_MODEL, messages=[user("Hi"), begun], extra_body={"reasoning_effort": effort}
        )
        extra = answer.choices[0].message.model_extra or {}
        return f"{extra.get('reasoning_content', '')}|{answer.choices[0].message.content}"

    assert rest("none", content="A plain") == "| answer."
    assert rest(content="Then I", reasoning_content="First I think.") == "| answer."
    assert rest(content="", reasoning_content="First I") == " think.|Then I answer."
    # Nothing is begun by an empty beginning.
    assert rest(content="") == "First I think.|Then I answer."
    ends: Any = {"role": "assistant", "content": "A plain"}
    answer = client.chat.completions.create(
        model=V4_MODEL,
        messages=[user("Hi"), ends],
        reasoning_effort="none",
        extra_body={"continue_final_message": True, "add_generation_prompt": False},
    )
    assert answer.choices[0].message.content == " answer."


def test_a_budget_ends_the_reasoning(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=V4_MODEL,
        messages=[user("ponder")],
        extra_body={"thinking": {"type": "enabled", "budget_tokens": 50}},
    )
    assert answer.usage and answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens_details.reasoning_tokens == 50
    assert answer.choices[0].message.content == "Forty-two."


def test_an_instruction_of_the_developer_is_a_system_message(client: openai.OpenAI) -> None:
    def tokens(*messages: ChatCompletionMessageParam) -> int:
        usage = client.chat.completions.create(model=V4_MODEL, messages=[*messages, user("Hi")]).usage
        assert usage
        return usage.prompt_tokens

    one = tokens({"role": "system", "content": "A\n\nB"})
    assert tokens({"role": "system", "content": "A"}, {"role": "developer", "content": "B"}) == one
    assert tokens({"role": "developer", "content": "A\n\nB"}) == one


def test_some_of_the_tools_may_be_called(client: openai.OpenAI) -> None:
    def calls(*names: str) -> tuple[list[str], int]:
        chosen: Any = {
            "type": "allowed_tools",
            "allowed_tools": {
                "mode": "auto",
                "tools": [{"type": "function", "function": {"name": name}} for name in names],
            },
        }
        answer = client.chat.completions.create(
            model=V4_MODEL,
            messages=[user("The weather in Paris?")],
            tools=TOOLS,  # type: ignore[arg-type]
            tool_choice=chosen,
        )
        found = answer.choices[0].message.tool_calls or []
        assert answer.usage
        return [call.function.name for call in found if call.type == "function"], answer.usage.prompt_tokens

    (every, tokens), (none, same) = calls("get_weather"), calls("write_file")
    assert every == ["get_weather", "get_weather"]
    assert none == []
    assert tokens == same  # all stay declared


def test_an_answer_is_parsed_by_its_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=V4_MODEL, messages=[user("Hi")], response_format=GetWeather, max_tokens=200
    )
    assert isinstance(answer.choices[0].message.parsed, GetWeather)
    response = client.responses.parse(
        model=V4_MODEL, input="Hi", text_format=GetWeather, max_output_tokens=200
    )
    assert isinstance(response.output_parsed, GetWeather)
    malformed: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=V4_MODEL, messages=[user("Hi")], response_format=malformed, stream=True
        )
    assert refused.value.code == "form_refused"


def test_a_call_that_is_wanted_is_made(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
    choice: Any = {"type": "function", "name": "write_file"}
    response = client.responses.create(
        model=V4_MODEL, input="Hi", tools=tools, tool_choice=choice, parallel_tool_calls=False
    )
    (call,) = [item for item in response.output if item.type == "function_call"]
    assert call.name == "write_file"
    assert set(json.loads(call.arguments)) == {"path", "content"}


def test_the_asynchronous_client_streams(engine: LiveEngine) -> None:
    async def talk() -> tuple[str, str | None]:
        async with async_sdk(engine) as client:
            async with client.responses.stream(model=V4_MODEL, input="Hi") as stream:
                response = await stream.get_final_response()
            async with client.chat.completions.stream(model=V4_MODEL, messages=[user("Hi")]) as chunks:
                answer = await chunks.get_final_completion()
            return response.output_text, answer.choices[0].message.content

    assert asyncio.run(talk()) == ("Then I answer.", "Then I answer.")


# --- responses --------------------------------------------------------------------------------------------


def test_a_response_with_its_reasoning(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model=V4_MODEL, input="Hi", instructions="Be brief.", store=True, metadata={"a": "b"}
    )
    assert (response.status, response.output_text, response.metadata) == (
        "completed",
        "Then I answer.",
        {"a": "b"},
    )
    assert response.model_extra and response.model_extra["store"] is False
    reasoning, message = response.output
    assert reasoning.type == "reasoning" and reasoning.content
    assert (reasoning.content[0].text, reasoning.encrypted_content) == ("First I think.", None)
    assert message.type == "message" and message.status == "completed"
    assert response.usage
    assert response.usage.output_tokens_details.reasoning_tokens == len("First I think.")
    plain = client.responses.create(model=V4_MODEL, input="Hi", reasoning={"effort": "none"})
    assert [item.type for item in plain.output] == ["message"]
    assert plain.output_text == "A plain answer."


ORDER = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.reasoning_text.delta",
    "response.reasoning_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    *[
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ]
    * 2,
    "response.completed",
]


def test_the_events_of_a_response_in_their_order(engine: LiveEngine, client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "strict": None, **tool["function"]} for tool in TOOLS]
    with client.responses.stream(model=V4_MODEL, input="The weather in Paris?", tools=tools) as stream:
        events = list(stream)
        whole = stream.get_final_response()
    kinds: list[str] = []
    for event in events:
        if not (kinds and kinds[-1] == event.type and event.type.endswith(".delta")):
            kinds.append(event.type)
    assert kinds == ORDER
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [item.type for item in whole.output] == ["reasoning", "message", "function_call", "function_call"]
    assert whole.output_text == "Looking."
    body = {"model": V4_MODEL, "input": "The weather in Paris?", "tools": tools}
    unstreamed, streamed = engine.post("/v1/responses", body), events[-1].response.to_dict()  # type: ignore[union-attr]
    for response in (unstreamed, streamed):
        assert response["object"] == "response"
        for item in response["output"]:
            item["id"] = item["call_id"] = ""
            for part in item.get("content", ()):
                part.pop("parsed", None)  # the client's own
    assert unstreamed["output"] == [
        {key: value for key, value in item.items() if key != "parsed_arguments"}
        for item in streamed["output"]
    ]


@pytest.mark.parametrize("keeps", [True, False])
def test_items_that_come_back_are_the_answer_that_was_given(client: openai.OpenAI, keeps: bool) -> None:
    tools: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
    question: Any = {"role": "user", "content": [{"type": "input_text", "text": "The weather in Paris?"}]}
    first = client.responses.create(
        model=V4_MODEL,
        input=[question],
        tools=tools,
        include=["reasoning.encrypted_content"] if keeps else [],
    )
    back: ResponseInputParam = [question]
    for item in first.output:
        if item.type == "reasoning":
            # As Codex does: what can be read is not sent again.
            assert bool(item.encrypted_content) == keeps
            back.append(
                {
                    "type": "reasoning",
                    "id": item.id,
                    "summary": [],
                    "encrypted_content": item.encrypted_content,
                }
            )
        else:
            back.append(item.to_dict())  # type: ignore[arg-type]
        if item.type == "function_call":
            text = "22 degrees"
    back += [
        {"type": "function_call_output", "call_id": item.call_id, "output": text}
        for item in first.output
        if item.type == "function_call"
    ]
    second = client.responses.create(model=V4_MODEL, input=back, tools=tools)
    call = second.output[-1]
    assert call.type == "function_call" and call.name == "write_file"
    # Its reasoning was put to the model again, whether or not the client had it.
    assert second.usage and first.usage
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens + len(
        "I need two things."
    )


def test_a_response_that_is_cut(client: openai.OpenAI) -> None:
    with client.responses.stream(model=V4_MODEL, input="ponder", max_output_tokens=40) as stream:
        last = list(stream)[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details and last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.output[0].type == "reasoning" and last.response.output[0].status == "incomplete"
    cut = client.responses.create(model=V4_MODEL, input="ponder", max_output_tokens=40)
    assert (cut.status, cut.output[0].type) == ("incomplete", "reasoning")


def test_log_probabilities_of_a_response(client: openai.OpenAI) -> None:
    response = client.responses.create(
        model=V4_MODEL, input="Hi", include=["message.output_text.logprobs"], top_logprobs=1
    )
    message = response.output[1]
    assert message.type == "message" and message.content[0].type == "output_text"
    logged = message.content[0].logprobs
    assert logged and "".join(token.token for token in logged) == "Then I answer."
    assert logged[0].top_logprobs[0].token == "T"


# --- completions ------------------------------------------------------------------------------------------


def test_a_text_goes_on(client: openai.OpenAI) -> None:
    # The scripted model begins its answer behind its own mark; by a bare text it can be put there too.
    answer = client.completions.create(model=V4_MODEL, prompt="Hi", max_tokens=6, logprobs=2, temperature=0)
    choice = answer.choices[0]
    assert choice.text and choice.finish_reason == "length" and choice.logprobs
    assert "".join(choice.logprobs.tokens or []) == choice.text
    assert choice.logprobs.text_offset == list(range(6))
    echoed = client.completions.create(model=V4_MODEL, prompt=["Hi"], max_tokens=6, echo=True)
    assert echoed.choices[0].text == "Hi" + choice.text
    chunks = list(
        client.completions.create(
            model=V4_MODEL,
            prompt="Hi",
            max_tokens=6,
            echo=True,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "Hi" + choice.text
    assert chunks[-1].usage and chunks[-1].usage.completion_tokens == 6
    assert len(client.completions.create(model=V4_MODEL, prompt="Hi").choices[0].text) <= 16


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True, "logprobs": 1}, "logprobs"),
        ({"n": 2}, "n"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
    ],
)
def test_what_a_completion_cannot_do(client: openai.OpenAI, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(**{"model": V4_MODEL, "prompt": "Hi", **changes})
    assert refused.value.param == param
    assert refused.value.body["message"].endswith(".")  # type: ignore[index]


# --- what goes wrong --------------------------------------------------------------------------------------


def test_errors_are_of_the_clients_own_classes(engine: LiveEngine, client: openai.OpenAI) -> None:
    with sdk(engine, "sm-wrong") as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-17", messages=[user("Hi")])
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    assert V4_MODEL in unknown.value.message
    image: Any = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x.png"}}]
    with pytest.raises(openai.BadRequestError, match="reads text alone"):
        client.chat.completions.create(model=V4_MODEL, messages=[{"role": "user", "content": image}])
    picture: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}]}]
    with pytest.raises(openai.BadRequestError, match=r"input\.0\.content\.0.*reads text alone"):
        client.responses.create(model=V4_MODEL, input=picture)


def test_a_key_that_has_as_much_waiting_as_it_may_is_told_to_wait(engine: LiveEngine) -> None:
    made = engine.post("/api/access/keys", {"name": "one at a time"})
    path = f"/api/access/keys/{made['key']['id']}"
    limits = {"limits": {"waiting": 1}}
    assert engine.client.patch(path, json=limits).status_code == 200
    with sdk(engine, made["secret"]) as client:
        first = client.chat.completions.create(model=V4_MODEL, messages=[user("slowly")], stream=True)
        next(iter(first))
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=V4_MODEL, messages=[user("Hi")])
        assert int(refused.value.response.headers["Retry-After"]) >= 1
        assert "".join(chunk.choices[0].delta.content or "" for chunk in first) == "And so I say it."
        with pytest.raises(openai.PermissionDeniedError):
            client.get("/../api/sessions", cast_to=object)
    assert engine.client.delete(path).status_code == 204


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"previous_response_id": "resp_1"}, "send the conversation itself"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "custom"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"input": [{"type": "computer_call"}]}, "computer_call"),
        ({"input": []}, "`input` is empty"),
        ({"background": True}, "background"),
        ({"tool_choice": {"type": "function", "name": "rm"}}, "no such tool"),
        ({"reasoning": {"effort": "some"}}, "no effort 'some'"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "seamount:é"}]}, "input.0"),
    ],
)
def test_what_a_response_cannot_do(client: openai.OpenAI, changes: dict[str, Any], why: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(**{"model": V4_MODEL, "input": "Hi", "stream": stream, **changes})
        assert why in refused.value.message


def test_a_client_that_vanishes_in_the_middle_of_a_call_ends_it(engine: LiveEngine) -> None:
    # So long that it would run for a minute; the next answer waits for its end.
    body = {"model": V4_MODEL, "messages": [user("a long call")], "tools": TOOLS, "stream": True}
    with engine.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(line for line in reply.iter_lines() if "reasoning_content" in line)
    status = engine.wait_status(lambda s: s["queue_length"] == 0)
    assert status["active_turn_id"] is None
    assert engine.post("/v1/chat/completions", {"model": V4_MODEL, "messages": [user("Hi")]})["choices"]


@pytest.mark.slow
def test_ten_megabytes_of_results(client: openai.OpenAI) -> None:
    call: Any = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(
            model=V4_MODEL,
            messages=[
                user("Hi"),
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "22 degrees " * 1_000_000},
            ],
            tools=TOOLS,  # type: ignore[arg-type]
        )
    assert (refused.value.status_code, refused.value.code) == (413, "prompt_too_long")


@pytest.mark.slow
def test_two_at_once_are_answered_one_after_the_other(engine: LiveEngine) -> None:
    async def both() -> list[str | None]:
        async with async_sdk(engine) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model=V4_MODEL, messages=[user(text)])
                    for text in ("slowly", "Hi")
                )
            )
            return [answer.choices[0].message.content for answer in answers]

    assert asyncio.run(both()) == ["And so I say it.", "Then I answer."]


def test_a_prompt_that_is_read_for_long_tells_how_far_it_is(engine: LiveEngine) -> None:
    body = {"model": V4_MODEL, "messages": [user("read with patience " + "x" * 3000)], "stream": True}
    with engine.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        comments = [line for line in reply.iter_lines() if line.startswith(":")]
    done, total = map(int, comments[0].removeprefix(": reading ").split("/"))
    assert 0 <= done <= total and total > 3000


def test_a_clients_place_in_the_queue_is_told(engine: LiveEngine) -> None:
    thread, _ = in_thread(engine.answer, "slowly, slowly")
    engine.wait_status(lambda s: s["active_turn_id"] is not None)
    body = {"model": V4_MODEL, "messages": [user("Hi")], "stream": True}
    with engine.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        lines = list(reply.iter_lines())
    thread.join()
    assert ": queued 1" in lines
    assert lines[-2] == "data: [DONE]"
