"""Anthropic's own client and a real model: the starter, which has a chat template alone."""

from collections.abc import Iterator
from typing import Annotated, Any, cast

import anthropic
import pydantic
import pytest

from tests.integration.live_engine import LiveEngine

pytestmark = pytest.mark.slow
ASKED: Any = {
    "model": "starter",
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Name a sea."}],
    "system": "Be brief.",
    "extra_body": {"temperature": 0},
}
TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, starter_path: object) -> Iterator[anthropic.Anthropic]:
    live = LiveEngine(tmp_path_factory.mktemp("starter"), "--model", "starter")
    live.wait_model()
    with anthropic.Anthropic(base_url=live.address.url, api_key=live.address.key, max_retries=0) as made:
        yield made
    live.close()


def text_of(message: anthropic.types.Message) -> str:
    (block,) = message.content
    assert block.type == "text"
    return block.text


def test_an_answer_a_stream_and_a_count_agree(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**ASKED)
    assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 12
    with client.messages.stream(**ASKED, thinking={"type": "adaptive"}) as events:
        assert text_of(events.get_final_message()) == text_of(whole) != ""
    counted = client.messages.count_tokens(
        **{name: value for name, value in ASKED.items() if name not in ("max_tokens", "extra_body")}
    )
    assert counted.input_tokens == whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)


def test_an_answer_goes_on_from_its_beginning(client: anthropic.Anthropic) -> None:
    whole = text_of(client.messages.create(**ASKED))
    begun = {"role": "assistant", "content": whole[:9]}
    rest = client.messages.create(**{**ASKED, "messages": [*ASKED["messages"], begun]})
    # The same words, cut elsewhere into tokens, need not be gone on with alike; they are not said again.
    assert rest.usage.output_tokens == 12 and not text_of(rest).startswith(whole[:9])


class Sea(pydantic.BaseModel):
    """What is to be told of one, and nothing else: the starter would go on for long."""

    model_config = pydantic.ConfigDict(extra="forbid")
    name: Annotated[str, pydantic.Field(max_length=20)]
    is_warm: bool


def test_a_schema_holds_a_model_that_knows_nothing_of_it(client: anthropic.Anthropic) -> None:
    form = {"type": "json_schema", "schema": Sea.model_json_schema()}
    message = client.messages.create(**{**ASKED, "max_tokens": 200, "output_config": {"format": form}})
    assert Sea.model_validate_json(text_of(message))


def test_what_it_has_no_way_to_write_is_refused(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="DeepSeek-V4"):
        client.messages.create(**ASKED, tools=[TOOL])
    none = client.messages.create(**ASKED, tools=[TOOL], tool_choice=cast(Any, {"type": "none"}))
    assert text_of(none)
