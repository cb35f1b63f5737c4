"""Programs that ask a model on another machine through the engine: with their own libraries, as these are set by
default."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from engine.paths import DataFolder
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, write_script
from tests.support.hostile_server import GOOD, Exchange, HostileServer, hostile, replying, streaming

pytestmark = pytest.mark.slow
HELLO: Any = [{"role": "user", "content": "Hello?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[HostileServer]:
    with hostile() as found:
        yield found


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, server: HostileServer) -> Iterator[LiveEngine]:
    root: Path = tmp_path_factory.mktemp("clients")
    write_script(DataFolder(root))
    live = LiveEngine(root)
    body = {"name": "Far", "addresses": [{"url": server.url}], "key": "sk-far-0123456789"}
    made = live.post("/api/remotes", body)
    live.post("/api/models/load", {"model_id": made["id"]})
    live.wait_status(lambda s: s["model"] is not None and s["model"]["id"] == made["id"])
    yield live
    live.close()


@pytest.fixture
def model(engine: LiveEngine, server: HostileServer) -> str:
    server.answer = streaming(*GOOD)
    server.chats.clear()
    return engine.get("/api/remotes")["remotes"][0]["id"]


def openais(engine: LiveEngine) -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{engine.address.url}/v1",
        api_key=engine.address.key,
        http_client=httpx.Client(trust_env=False),
    )


def anthropics(engine: LiveEngine) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=engine.address.url, auth_token=engine.address.key)


def closing(_exchange: Exchange) -> None:
    """The connection ends before a word."""


@pytest.mark.parametrize("answer", [closing, replying(500, {"error": {"message": "cuda"}}), replying(400)])
def test_what_may_have_been_charged_is_not_asked_again_by_a_library(
    engine: LiveEngine, server: HostileServer, model: str, answer: Any
) -> None:
    """Both ask twice more by themselves where a status may mean something that passes."""
    server.answer = answer
    with openais(engine) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=model, messages=HELLO)
        assert len(server.chats) == 1
        with pytest.raises(openai.InternalServerError):
            client.responses.create(model=model, input="Hello?")
        assert len(server.chats) == 2
    with anthropics(engine) as client, pytest.raises(anthropic.APIStatusError):
        client.messages.create(model=model, messages=HELLO, max_tokens=50)
    assert len(server.chats) == 3


def test_a_client_sees_where_its_request_goes(engine: LiveEngine, model: str) -> None:
    place = {"sent_to": "127.0.0.1", "whereabouts": "this machine"}
    with openais(engine) as client:
        assert client.models.list().data[0].model_dump()["seamount"] == place
        assert client.models.retrieve(model).model_dump()["seamount"] == place
        for stream in (False, True):
            body: Any = {"model": model, "messages": HELLO, "stream": stream}
            reply = client.chat.completions.with_raw_response.create(**body)
            assert reply.headers["seamount-sent-to"] == "127.0.0.1; this machine"
    with anthropics(engine) as client:
        assert client.models.list().data[0].model_dump()["seamount"] == place
        told = client.messages.with_raw_response.create(model=model, messages=HELLO, max_tokens=50)
        assert told.headers["seamount-sent-to"] == "127.0.0.1; this machine"


def test_a_prompt_that_its_key_may_not_send_stays_here(
    engine: LiveEngine, server: HostileServer, model: str
) -> None:
    made = engine.post("/api/access/keys", {"name": "small"})
    change = engine.client.patch(
        f"/api/access/keys/{made['key']['id']}", json={"limits": {"prompt_tokens": 100}}
    )
    change.raise_for_status()
    long: Any = [{"role": "user", "content": "word " * 500}]
    with openais(engine).with_options(api_key=made["secret"]) as client:
        with pytest.raises(openai.APIStatusError, match="about"):
            client.chat.completions.create(model=model, messages=long)
        assert server.chats == []
        client.chat.completions.create(model=model, messages=HELLO)
    assert len(server.chats) == 1


def test_an_answer_that_had_not_begun_is_said_to_be_of_who_writes_it(engine: LiveEngine, model: str) -> None:
    def load(named: str) -> None:
        engine.post("/api/models/load", {"model_id": named})
        engine.wait_status(lambda s: s["model"] is not None and s["model"]["id"] == named)

    load(SCRIPT_MODEL)
    session_id = engine.new_session()
    turn = engine.ask("prefill " * 3, session_id)
    engine.client.delete(f"/api/turns/{turn['id']}").raise_for_status()
    before = engine.finish(turn["id"])["message"]
    assert (before["text"], before["model_id"]) == ("", SCRIPT_MODEL)
    load(model)
    after = engine.finish(engine.continue_answer(session_id, before["id"])["id"])["message"]
    assert (after["text"], after["model_id"]) == ("Hello there.", model)
