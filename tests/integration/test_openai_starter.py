"""OpenAI's own client in front of the starter model, which computes for real."""

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.integration.live_engine import LiveEngine
from tests.integration.openai_sdk import sdk

pytestmark = pytest.mark.slow
MODEL = "starter"
QUESTION: Any = [{"role": "user", "content": "Name a colour."}]


class Colour(BaseModel):
    """What is asked for."""

    name: str
    is_warm: bool


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    live = LiveEngine(tmp_path_factory.mktemp("starter"), "--model", MODEL)
    live.wait_model()
    with sdk(live) as made:
        yield made
    live.close()


def test_a_stream_says_what_a_whole_answer_says(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": QUESTION, "max_tokens": 24, "seed": 5, "temperature": 0.8}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.content == whole.choices[0].message.content
    assert streamed.usage and whole.usage
    assert streamed.usage.completion_tokens == whole.usage.completion_tokens
    with client.responses.stream(
        model=MODEL, input=QUESTION, max_output_tokens=24, temperature=0.8, extra_body={"seed": 5}
    ) as events:
        assert events.get_final_response().output_text == whole.choices[0].message.content


def test_log_probabilities_are_of_the_tokens_that_were_written(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_tokens=12, temperature=0, logprobs=True, top_logprobs=5
    )
    logged = answer.choices[0].logprobs
    assert logged and logged.content
    assert "".join(token.token for token in logged.content) == answer.choices[0].message.content
    for token in logged.content:
        chances = [math.exp(other.logprob) for other in token.top_logprobs]
        assert chances == sorted(chances, reverse=True) and 0 < sum(chances) <= 1 + 1e-6
        # At temperature 0 the likeliest is written.
        assert (token.token, token.logprob) == (token.top_logprobs[0].token, token.top_logprobs[0].logprob)
        assert bytes(token.bytes or []).decode() == token.token


def test_a_text_goes_on_and_is_told_with_what_was_before(client: openai.OpenAI) -> None:
    asked: Any = {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}
    rest = client.completions.create(**asked, logprobs=3).choices[0]
    assert rest.logprobs and "".join(rest.logprobs.tokens or []) == rest.text
    assert client.completions.create(**asked, echo=True).choices[0].text == "Once upon a time" + rest.text
    # An answer that is gone on with is the text of its beginning and of its rest.
    begun: Any = [*QUESTION, {"role": "assistant", "content": "A colour that I like is", "prefix": True}]
    answer = client.chat.completions.create(model=MODEL, messages=begun, max_tokens=6, temperature=0)
    assert answer.choices[0].message.content and not answer.choices[0].message.content.startswith("A colour")


def test_penalties_and_biases_change_what_is_written(client: openai.OpenAI) -> None:
    def say(**more: Any) -> Any:
        return client.completions.create(
            model=MODEL, prompt="one two one two one two one two", max_tokens=24, temperature=0, **more
        ).choices[0]

    plain = say(logprobs=0)
    tokens = plain.logprobs.tokens
    assert len(set(tokens)) < len(tokens) // 2  # it repeats itself
    varied = say(frequency_penalty=2.0, presence_penalty=2.0, logprobs=0).logprobs.tokens
    assert len(set(varied)) > len(set(tokens))
    with pytest.raises(openai.BadRequestError, match="this model's are 0 to"):
        say(logit_bias={"99999999": 5})


def test_an_answer_follows_its_schema(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=QUESTION, response_format=Colour, max_tokens=200, seed=1
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


def test_what_a_chat_template_cannot_do(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Colour)
    with pytest.raises(openai.BadRequestError, match="no agreed way to call"):
        client.chat.completions.create(model=MODEL, messages=QUESTION, tools=[tool])
    image: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}]}]
    with pytest.raises(openai.BadRequestError, match="reads text alone"):
        client.chat.completions.create(model=MODEL, messages=image)
