"""Anthropic's own client against the real engine process with a scripted DeepSeek-V4."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import anthropic
import pydantic
import pytest
from anthropic import beta_tool

from engine.paths import DataFolder
from tests.integration.live_engine import LiveEngine, in_thread, write_script
from tests.integration.v4_script import V4_MODEL, V4_SCRIPT, D

SCRIPT: dict[str, Any] = {
    **V4_SCRIPT,
    "replies": [
        # A call that is never whole: it goes on for as long as somebody waits for it.
        {
            "match": "endless call",
            "text": f"I write.</think>\n\n<{D}tool_calls>\n"
            f'<{D}invoke name="write_file">\n<{D}parameter name="content" string="true">' + "word " * 500,
            "tokens": 60_000,
            "delay_s": 0.01,
        },
        {
            "match": "break down",
            "text": "I think. " * 10 + "</think>Never.",
            "delay_s": 0.02,
            "fail_after": 60,
        },
        {"match": "long read", "text": "Read.", "prefill_delay_s": 0.15},
        {"match": "count to three", "text": "one two three END four", "mode": "non-think"},
        {"match": "begun", "text": " and goes on.", "mode": "non-think"},
        *V4_SCRIPT["replies"],
    ],
}
WEATHER: Any = {
    "name": "get_weather",
    "description": "Weather in a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
WRITE: Any = {
    "name": "write_file",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["path", "content"],
    },
}
TOOLS = [WEATHER, WRITE]
THINKS: Any = {"type": "adaptive"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    root = tmp_path_factory.mktemp("v4")
    folder = DataFolder(root)
    write_script(folder, SCRIPT, "v4")
    folder.settings.write_text("context_tokens = 32768\n")
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    yield live
    live.close()


@pytest.fixture(scope="module")
def client(engine: LiveEngine) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        base_url=engine.address.url, auth_token=engine.address.key, max_retries=0
    ) as made:
        yield made


def create(client: anthropic.Anthropic, *messages: Any, **more: Any) -> anthropic.types.Message:
    return client.messages.create(
        **cast(Any, {"model": V4_MODEL, "max_tokens": 2000, "messages": list(messages), **more})
    )


def stream(client: anthropic.Anthropic, *messages: Any, **more: Any) -> Any:
    return client.messages.stream(
        **cast(Any, {"model": V4_MODEL, "max_tokens": 2000, "messages": list(messages), **more})
    )


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def results(message: anthropic.types.Message, *texts: str) -> dict[str, Any]:
    calls = [each for each in message.content if each.type == "tool_use"]
    return user(
        [
            {"type": "tool_result", "tool_use_id": each.id, "content": text}
            for each, text in zip(calls, texts, strict=True)
        ]
    )


def prompt_tokens(usage: anthropic.types.Usage) -> int:
    return (
        usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    )


# --- answers ----------------------------------------------------------------------------------------------


def test_nothing_is_thought_unless_it_is_asked_for(client: anthropic.Anthropic) -> None:
    message = create(client, user("Hi"))
    assert [each.to_dict() for each in message.content] == [{"type": "text", "text": "A plain answer."}]
    assert (message.stop_reason, message.model, message.role) == ("end_turn", V4_MODEL, "assistant")
    assert message.usage.output_tokens == len("A plain answer.")
    assert message._request_id is not None and message._request_id.startswith("req_")


def test_thinking_is_a_block_of_its_own(client: anthropic.Anthropic) -> None:
    thinking, text = create(client, user("Hi"), thinking=THINKS).content
    assert thinking.type == "thinking" and thinking.thinking == "First I think." and thinking.signature
    assert text.type == "text" and text.text == "Then I answer."
    hidden = create(client, user("Hi"), thinking={"type": "adaptive", "display": "omitted"}).content[0]
    assert hidden.type == "thinking" and hidden.thinking == "" and hidden.signature


def test_a_budget_ends_thinking(client: anthropic.Anthropic) -> None:
    message = create(client, user("Please ponder"), thinking={"type": "enabled", "budget_tokens": 50})
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 50
    thinking = message.content[0]
    assert thinking.type == "thinking" and thinking.thinking == ("I wonder. " * 5)


def test_a_stream_adds_up_to_the_message(client: anthropic.Anthropic) -> None:
    whole = create(client, user("The weather in Paris?"), tools=TOOLS, thinking=THINKS)
    with stream(client, user("The weather in Paris?"), tools=TOOLS, thinking=THINKS) as events:
        kinds = [event.type for event in events]
        added = events.get_final_message()
    assert added.stop_reason == whole.stop_reason == "tool_use"
    assert [(each.name, each.input) for each in added.content if each.type == "tool_use"] == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "Rome"}),
    ]
    assert [each.type for each in added.content] == [each.type for each in whole.content]
    assert added.content[0].thinking == "I need two things." and added.content[0].signature
    assert added.content[1].text == "Looking."
    assert {"thinking", "signature", "text", "input_json", "message_stop"} <= set(kinds)
    # What the start of a stream tells of the prompt holds at its end.
    assert prompt_tokens(added.usage) == prompt_tokens(whole.usage)
    assert added.usage.output_tokens == whole.usage.output_tokens > 0


def test_an_asynchronous_client(engine: LiveEngine) -> None:
    async def ask() -> list[str]:
        async with anthropic.AsyncAnthropic(
            base_url=engine.address.url, auth_token=engine.address.key, max_retries=0
        ) as client:

            async def one(text: str) -> str:
                async with client.messages.stream(
                    model=V4_MODEL, max_tokens=100, messages=[{"role": "user", "content": text}]
                ) as events:
                    return "".join([each async for each in events.text_stream])

            return await asyncio.gather(*map(one, ["Hi", "count to three"]))

    assert asyncio.run(ask()) == ["A plain answer.", "one two three END four"]


def test_why_an_answer_stopped(client: anthropic.Anthropic) -> None:
    stopped = create(client, user("count to three"), stop_sequences=["END", "nowhere"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "END")
    assert stopped.content[0].type == "text" and stopped.content[0].text == "one two three "
    assert create(client, user("Hi"), max_tokens=3).stop_reason == "max_tokens"


@pytest.mark.parametrize("stop", ["</", ">", "Paris", "invoke"])
def test_a_stop_sequence_ends_no_call(client: anthropic.Anthropic, stop: str) -> None:
    """Neither by its arguments nor by the marks around it, which no client sees."""
    message = create(
        client, user("The weather in Paris?"), tools=TOOLS, thinking=THINKS, stop_sequences=[stop]
    )
    assert (message.stop_reason, message.stop_sequence) == ("tool_use", None)
    assert [call.input for call in message.content if call.type == "tool_use"] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]


@pytest.mark.parametrize("more", [{}, {"thinking": THINKS}])
def test_an_answer_that_is_begun_is_gone_on_with(client: anthropic.Anthropic, more: dict[str, Any]) -> None:
    messages = [user("Is it begun?"), {"role": "assistant", "content": "It is begun"}]
    message = create(client, *messages, **more)
    assert [each.type for each in message.content] == ["text"]
    counted = client.messages.count_tokens(model=V4_MODEL, messages=cast(Any, messages), **more)
    assert counted.input_tokens == prompt_tokens(message.usage)


# --- tools ------------------------------------------------------------------------------------------------


def test_the_tool_runner_carries_a_conversation_through(client: anthropic.Anthropic) -> None:
    asked: list[str] = []
    files: dict[str, str] = {}

    @beta_tool
    def get_weather(city: str) -> str:
        """Weather in a city."""
        asked.append(city)
        return "22 degrees"

    @beta_tool
    def write_file(path: str, content: str) -> str:
        """Write a file."""
        files[path] = content
        return "It is saved."

    runner = client.beta.messages.tool_runner(
        model=V4_MODEL,
        max_tokens=2000,
        tools=[get_weather, write_file],
        messages=[{"role": "user", "content": "The weather in Paris?"}],
        thinking={"type": "adaptive"},
    )
    last = runner.until_done()
    assert (asked, files) == (["Paris", "Rome"], {"w.txt": "22 & 25"})
    assert last.stop_reason == "end_turn"
    assert [each.text for each in last.content if each.type == "text"] == [
        "It is warm, and the file is written."
    ]


def answered(
    client: anthropic.Anthropic, message: anthropic.types.Message, content: list[Any], text: str
) -> Any:
    """The usage of the turn after `message`, which the client sends back as `content`."""
    turns = [user("A slip, please"), {"role": "assistant", "content": content}, results(message, text)]
    return create(client, *turns, tools=TOOLS, thinking=THINKS).usage


def test_a_call_is_put_as_the_model_wrote_it(client: anthropic.Anthropic) -> None:
    """The script's call has no closing tag, so written anew it would be longer than what the model wrote."""
    message = create(client, user("A slip, please"), tools=TOOLS, thinking=THINKS)
    whole = [each.to_dict() for each in message.content]
    known = answered(client, message, whole, "22 degrees")
    new = len("<\uff5cUser\uff5c><tool_result>22 degrees</tool_result>")
    assert known.input_tokens < new + 10
    assert known.cache_read_input_tokens >= prompt_tokens(message.usage) + message.usage.output_tokens - 1
    # A client that leaves the thinking out has it put back by the call's id, one that keeps the text alone does not.
    stripped = answered(client, message, whole[1:], "22 degrees")
    assert prompt_tokens(stripped) == prompt_tokens(known)
    changed = [{**whole[0], "thinking": "Hm, no."}, *whole[1:]]
    assert prompt_tokens(answered(client, message, changed, "22 degrees")) != prompt_tokens(known)
    renamed = [{**whole[0], "signature": "another's"}, {**whole[1], "id": "toolu_1"}]
    turns = [user("A slip, please"), {"role": "assistant", "content": renamed}]
    turns.append(user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "22 degrees"}]))
    anew = create(client, *turns, tools=TOOLS, thinking=THINKS).usage
    assert prompt_tokens(anew) > prompt_tokens(known)


def test_no_key_has_another_keys_thinking_put_back(engine: LiveEngine) -> None:
    """An id of a call stands in logs and shared conversations; whoever has it must not have the model say what was
    thought before it."""
    one, other = (
        anthropic.Anthropic(
            base_url=engine.address.url,
            api_key=engine.post("/api/access/keys", {"name": name, "keep": False})["secret"],
            max_retries=0,
        )
        for name in ("One's thinking", "Another's")
    )
    with one, other:
        message = create(one, user("A slip, please"), tools=TOOLS, thinking=THINKS)
        thinking, call = (each.to_dict() for each in message.content)
        unknown = [{**thinking, "thinking": "", "signature": "unknown"}, {**call, "id": "toolu_1"}]

        def put(client: anthropic.Anthropic, blocks: list[Any]) -> int:
            turns = [user("A slip, please"), {"role": "assistant", "content": blocks}]
            answer = user([{"type": "tool_result", "tool_use_id": blocks[-1]["id"], "content": "22"}])
            asked: Any = {
                "model": V4_MODEL,
                "messages": [*turns, answer],
                "tools": TOOLS,
                "thinking": THINKS,
            }
            counted = client.messages.count_tokens(**asked).input_tokens
            assert (
                prompt_tokens(create(client, *turns, answer, tools=TOOLS, thinking=THINKS).usage) == counted
            )
            return counted

        nothing_known = put(other, unknown)
        assert put(one, unknown) == nothing_known
        for blocks in ([call], [{**thinking, "thinking": ""}, {**call, "id": "toolu_1"}], [unknown[0], call]):
            assert put(one, blocks) != nothing_known, "one's own is put back"
            assert put(other, blocks) == nothing_known


def test_an_answer_without_calls_is_known_by_its_signature(client: anthropic.Anthropic) -> None:
    omitted: Any = {"type": "adaptive", "display": "omitted"}
    message = create(client, user("Hi"), tools=TOOLS, thinking=omitted)
    turns = [user("Hi"), {"role": "assistant", "content": message.content}, user("And now?")]
    usage = create(client, *turns, tools=TOOLS, thinking=omitted).usage
    assert usage.cache_read_input_tokens is not None
    assert usage.cache_read_input_tokens >= prompt_tokens(message.usage) + message.usage.output_tokens - 1
    foreign = [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "Then I answer."}]
    turns[1] = {"role": "assistant", "content": foreign}
    without = create(client, *turns, tools=TOOLS, thinking=omitted).usage
    assert prompt_tokens(usage) == prompt_tokens(without) + len("First I think.")


def test_a_result_in_blocks_with_a_picture_reaches_the_model(client: anthropic.Anthropic) -> None:
    message = create(client, user("The weather in Paris?"), tools=TOOLS, thinking=THINKS)
    turns = [user("The weather in Paris?"), {"role": "assistant", "content": message.content}]
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}
    answer = results(message, "x", "y")
    answer["content"][0]["content"] = [{"type": "text", "text": "22 degrees"}, picture]
    after = create(client, *turns, answer, tools=TOOLS, thinking=THINKS)
    assert [each.name for each in after.content if each.type == "tool_use"] == ["write_file"]


def calls_of(message: anthropic.types.Message) -> list[tuple[str, object]]:
    return [(each.name, each.input) for each in message.content if each.type == "tool_use"]


@pytest.mark.parametrize("more", [{}, {"thinking": THINKS}])
def test_a_choice_of_tools_is_enforced(client: anthropic.Anthropic, more: dict[str, Any]) -> None:
    """Whatever the script would rather say."""
    any_: Any = {"type": "any", "disable_parallel_tool_use": True}
    message = create(client, user("Hi"), tools=TOOLS, tool_choice=any_, **more)
    assert message.stop_reason == "tool_use" and len(calls_of(message)) == 1
    named = create(
        client, user("Hi"), tools=TOOLS, tool_choice={"type": "tool", "name": "write_file"}, **more
    )
    [(name, given)] = calls_of(named)[:1]
    assert name == "write_file" and set(cast(dict[str, Any], given)) == {"path", "content"}
    question = user("The weather in Paris?")
    assert calls_of(create(client, question, tools=TOOLS, tool_choice={"type": "none"}, **more)) == []
    thinks: Any = {"tools": TOOLS, "thinking": THINKS}
    both = create(client, question, **thinks)
    auto = create(client, question, tool_choice={"type": "auto", "disable_parallel_tool_use": True}, **thinks)
    assert (len(calls_of(both)), len(calls_of(auto))) == (2, 1)
    # Which of them may be called changes nothing of what stands in front.
    assert prompt_tokens(both.usage) == prompt_tokens(auto.usage)


class City(pydantic.BaseModel):
    """What the client wants to read."""

    name: str
    people: int


def test_a_text_of_a_schema_is_enforced(client: anthropic.Anthropic) -> None:
    parsed = client.messages.parse(
        model=V4_MODEL, max_tokens=500, messages=[cast(Any, user("Hi"))], output_format=City, thinking=THINKS
    )
    assert isinstance(parsed.parsed_output, City)
    schema = City.model_json_schema()
    for place in ({"output_config": {"format": {"type": "json_schema", "schema": schema}}},
                  {"extra_body": {"output_format": {"type": "json_schema", "schema": schema}}}):  # fmt: skip
        (block,) = create(client, user("Hi"), **place).content
        assert block.type == "text" and City.model_validate_json(block.text)
    with pytest.raises(anthropic.BadRequestError, match="schema"):
        create(
            client,
            user("Hi"),
            output_config={"format": {"type": "json_schema", "schema": {"$ref": "http://x/"}}},
        )


# --- counting ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"system": "Be brief.", "thinking": THINKS},
        {"system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}], "tools": TOOLS},
    ],
)
def test_tokens_are_counted_as_they_are_put(client: anthropic.Anthropic, more: dict[str, Any]) -> None:
    counted = client.messages.count_tokens(
        model=V4_MODEL, messages=[{"role": "user", "content": "Hi \U0001f600"}], **more
    )
    assert counted.input_tokens == prompt_tokens(create(client, user("Hi \U0001f600"), **more).usage)


def test_tokens_are_counted_while_the_model_writes(client: anthropic.Anthropic) -> None:
    with stream(client, user("An endless call"), tools=TOOLS, thinking=THINKS) as events:
        next(event for event in events if event.type == "thinking")
        assert (
            client.messages.count_tokens(model=V4_MODEL, messages=[cast(Any, user("Hi"))]).input_tokens == 6
        )


@pytest.mark.slow
def test_while_a_model_is_loaded_an_answer_waits_and_a_count_does_not(tmp_path: Path) -> None:
    write_script(DataFolder(tmp_path), {**SCRIPT, "load_delay_s": 6}, "v4")
    live = LiveEngine(tmp_path, "--model", V4_MODEL)
    try:
        live.wait_status(lambda status: status["loading_model_id"] == V4_MODEL)
        with anthropic.Anthropic(
            base_url=live.address.url, auth_token=live.address.key, max_retries=0
        ) as early:
            with pytest.raises(anthropic.OverloadedError) as caught:
                early.messages.count_tokens(model=V4_MODEL, messages=[cast(Any, user("Hi"))])
            assert caught.value.type == "overloaded_error" and "still being loaded" in str(caught.value)
            assert early.models.retrieve(V4_MODEL).max_input_tokens is None
            assert create(early, user("Hi")).stop_reason == "end_turn"
            counted = early.messages.count_tokens(model=V4_MODEL, messages=[cast(Any, user("Hi"))])
            assert counted.input_tokens == 6
    finally:
        live.close()


# --- what goes wrong --------------------------------------------------------------------------------------


def test_errors_are_the_clients_own_classes(engine: LiveEngine, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        create(client, user("Hi"), model="claude-of-another-place")
    error = unknown.value
    assert V4_MODEL in str(error.api_message)
    assert (error.type, error.error_code) == ("not_found_error", "model_not_found")
    assert error.request_id == cast(Any, error.body)["request_id"]
    with (
        anthropic.Anthropic(base_url=engine.address.url, auth_token="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        create(stranger, user("Hi"))
    assert caught.value.type == "authentication_error" and caught.value.request_id
    with pytest.raises(anthropic.NotFoundError) as nowhere:
        client.post("/v1/messages/batches", cast_to=object, body={})
    assert nowhere.value.type == "not_found_error"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tools": [{**WEATHER, "input_schema": {"type": "object", "properties": {"a": {"type": "objekt"}}}}]},
         "tools.0.input_schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search_20250305"),
        ({"thinking": THINKS, "output_config": {"effort": "utmost"}}, "no effort 'utmost'"),
        ({"thinking": THINKS, "output_config": {"effort": "max"}}, "393,216"),
        ({"messages": [user([{"type": "image", "source": {"type": "url", "url": "file:///etc/passwd"}}])]}, "an image"),
        ({"messages": [user([{"type": "tool_result", "tool_use_id": "gone", "content": "x"}])]}, "'gone'"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"extra_body": {"top_k": 4}}, "top_k"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(client: anthropic.Anthropic, more: dict[str, Any], said: str) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(**{"model": V4_MODEL, "max_tokens": 10, "messages": [user("Hi")], **more})
    assert said in str(caught.value.api_message)
    assert caught.value.type == "invalid_request_error"
    # It would be refused again.
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.slow
def test_ten_megabytes_of_results_are_more_than_fits(client: anthropic.Anthropic) -> None:
    message = create(client, user("The weather in Paris?"), tools=TOOLS, thinking=THINKS)
    turns = [user("The weather in Paris?"), {"role": "assistant", "content": message.content}]
    long = results(message, "x" * 5_000_000, "y" * 5_000_000)
    with pytest.raises(anthropic.BadRequestError) as whole:
        create(client, *turns, long, tools=TOOLS, thinking=THINKS)
    # A slow machine is still at counting them when the stream begins, which the error then ends.
    with (
        pytest.raises(anthropic.APIStatusError) as streamed,
        stream(client, *turns, long, tools=TOOLS, thinking=THINKS) as events,
    ):
        events.until_done()
    for caught in (whole, streamed):
        # Agents look for these words, and make the conversation shorter.
        assert str(caught.value.api_message).startswith("prompt is too long: 100")
        assert "> 32767 maximum" in str(caught.value.api_message)
    counted = client.messages.count_tokens(
        model=V4_MODEL, messages=cast(Any, [*turns, long]), tools=TOOLS, thinking=THINKS
    )
    assert counted.input_tokens > 10_000_000


@pytest.mark.slow
def test_more_than_a_body_may_hold(engine: LiveEngine, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        create(client, user("x" * (33 << 20)))
    assert (caught.value.status_code, caught.value.type) == (413, "request_too_large")
    assert create(client, user("Hi")).stop_reason == "end_turn"


def test_a_client_that_goes_away_in_the_middle_of_a_call(
    engine: LiveEngine, client: anthropic.Anthropic
) -> None:
    with stream(client, user("An endless call"), tools=TOOLS, thinking=THINKS) as events:
        next(event for event in events if event.type == "thinking" and event.snapshot == "I write.")
    # It would write for ten minutes: that this one is answered shows that it was ended.
    assert create(client, user("Hi")).stop_reason == "end_turn"
    status = engine.wait_status(lambda each: each["queue_length"] == 0)
    assert status["model"]["id"] == V4_MODEL


def test_two_at_once_get_their_own(client: anthropic.Anthropic) -> None:
    texts = ["count to three", "Hi"] * 3
    found: dict[int, str] = {}

    def ask(number: int, text: str) -> None:
        answer = create(client, user(text)).content[0]
        found[number] = answer.text if answer.type == "text" else ""

    threads: list[threading.Thread] = [in_thread(ask, *each)[0] for each in enumerate(texts)]
    for thread in threads:
        thread.join(30)
    assert [found[number] for number in range(6)] == ["one two three END four", "A plain answer."] * 3


def test_a_key_that_has_enough_waiting_is_told_to_come_again(engine: LiveEngine) -> None:
    made = engine.post("/api/access/keys", {"name": "an agent"})
    change = {"limits": {"waiting": 1, "answer_tokens": 5}}
    engine.client.patch(f"/api/access/keys/{made['key']['id']}", json=change).raise_for_status()
    with anthropic.Anthropic(base_url=engine.address.url, api_key=made["secret"], max_retries=0) as agent:
        # What a key may take of an answer counts, whatever the client asks for.
        assert create(agent, user("Hi")).stop_reason == "max_tokens"
        change["limits"]["answer_tokens"] = 0
        engine.client.patch(f"/api/access/keys/{made['key']['id']}", json=change).raise_for_status()
        with stream(agent, user("An endless call"), tools=TOOLS, thinking=THINKS) as events:
            next(event for event in events if event.type == "thinking")
            with pytest.raises(anthropic.RateLimitError) as caught:
                create(agent, user("Hi"))
            assert caught.value.type == "rate_limit_error"
            assert int(caught.value.response.headers["retry-after"]) > 0
            shown = engine.get("/api/access")["clients"]
            running = [each for client in shown for each in client["requests"]]
            assert [(each["dialect"], each["state"]) for each in running] == [("messages", "writing")]
            # A person ends it: the stream is whole, and says so.
            engine.client.delete(f"/api/access/requests/{running[0]['id']}").raise_for_status()
            assert events.get_final_message().stop_reason == "end_turn"


def test_an_error_in_the_middle_of_a_stream_is_raised_there(client: anthropic.Anthropic) -> None:
    heard: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError, match="script fails") as caught,
        stream(client, user("Please break down"), thinking=THINKS) as events,
    ):
        for event in events:
            heard += [event.thinking] if event.type == "thinking" else []
    assert "".join(heard).startswith("I think.")
    assert caught.value.type == "api_error" and cast(Any, caught.value.body)["request_id"]


def test_a_long_read_tells_how_far_it_is(engine: LiveEngine) -> None:
    body = {
        "model": V4_MODEL,
        "max_tokens": 10,
        "stream": True,
        "messages": [user("A long read. " + "x" * 6000)],
    }
    with engine.client.stream("POST", "/v1/messages", json=body) as reply:
        lines = [line for line in reply.iter_lines() if line]
    assert reply.headers["request-id"].startswith("req_")
    first = next(place for place, line in enumerate(lines) if line.startswith("event: content_block"))
    read = [line for line in lines[:first] if line.startswith(": reading ")]
    assert len(read) > 1
    assert lines[0] == "event: message_start"
    usage = json.loads(lines[1].removeprefix("data: "))["message"]["usage"]
    assert usage["input_tokens"] > 6000


def test_the_list_of_models_is_in_the_clients_shape(client: anthropic.Anthropic) -> None:
    (model,) = client.models.list()
    assert (model.id, model.type, model.max_input_tokens) == (V4_MODEL, "model", 32768)
    assert client.models.retrieve(V4_MODEL).display_name == "v4"
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("claude-of-another-place")
    assert caught.value.type == "not_found_error"
