"""What of a coding agent's conversation is read again: next to nothing, in either dialect, whatever its header does.

The context of the scripted V4 cannot be cut back, as a real one's, and one of its tokens is one byte: what is asked for
here of tokens would be a quarter of that with a real vocabulary.
"""

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from engine.paths import DataFolder
from engine.protocol_access import SteadyRules
from tests.integration.agent_conversation import (
    MODEL,
    RECORD,
    TITLE,
    TURNS,
    Agent,
    Anthropic,
    Dialect,
    OpenAI,
    script,
    system_at,
)
from tests.integration.live_engine import LiveEngine, write_script

MOST_REREAD = 1000
_NUMBERS = count(1)
LENGTHS = pytest.mark.parametrize("turns", [3, pytest.param(TURNS, marks=pytest.mark.slow)])
DIALECTS = pytest.mark.parametrize("dialect", [OpenAI, Anthropic])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("agent")
    folder = DataFolder(root)
    write_script(folder, script(), "agent")
    folder.settings.write_text("format = 1\ncontext_tokens = 262144\n")
    return root


@pytest.fixture(scope="module")
def engine(root: Any) -> Iterator[LiveEngine]:
    live = LiveEngine(root, "--model", MODEL)
    live.wait_model()
    yield live
    live.close()


def key(engine: LiveEngine, name: str, rules: SteadyRules | None = None) -> tuple[str, dict[str, str]]:
    """A client's key: its id, and the headers of who has it."""
    made = engine.post("/api/access/keys", {"name": f"{name} {next(_NUMBERS)}", "keep": False})
    key_id = made["key"]["id"]
    if rules is not None:
        agree(engine, key_id, rules)
    return key_id, {"Authorization": f"Bearer {made['secret']}"}


def agree(engine: LiveEngine, key_id: str, rules: SteadyRules) -> None:
    reply = engine.client.patch(f"/api/access/keys/{key_id}", json={"steady": rules.model_dump()})
    assert reply.status_code == 200, reply.text


def offers(engine: LiveEngine, key_id: str) -> list[Any]:
    return [each for each in engine.get("/api/access")["offers"] if each["key_id"] == key_id]


def steps(agent: Agent, turns: int = TURNS) -> list[int]:
    """What each of the next requests reads again."""
    return [agent.step() for _ in range(turns)]


@pytest.mark.slow
@DIALECTS
@pytest.mark.parametrize("how", [{}, {"strips": False}, {"backwards": True}], ids=str)
def test_turns_read_what_is_new(
    engine: LiveEngine, dialect: Callable[[], Dialect], how: dict[str, Any]
) -> None:
    """With reasoning stripped or not, results in order or not."""
    agent = Agent(engine, dialect(), header="none", question=f"{dialect.__name__} {how}: ", **how)  # type: ignore[attr-defined]
    assert max(steps(agent)[1:]) < 10


@DIALECTS
def test_without_a_rule_all_is_read_again_and_an_offer_is_made(
    engine: LiveEngine, dialect: type[OpenAI | Anthropic]
) -> None:
    key_id, headers = key(engine, "Plain")
    agent = Agent(engine, dialect(headers=headers), beginning=f"A client of {dialect.__name__}'s.\n")
    reread = steps(agent, 3)
    assert min(reread[1:]) > 20_000
    assert agent.last is not None and "seamount-steady" not in agent.last.headers
    assert not (agent.last.told or {}).get("steady")
    (offer,) = offers(engine, key_id)
    assert (offer["suggestion"], offer["times"]) == ("pin", 2)
    assert offer["line"] == RECORD["requests"][2]["billing"]
    assert offer["reread_tokens"] == reread[2]
    # From the moment in which a person agrees, what was read is not read again.
    agree(engine, key_id, SteadyRules(pin=True))
    assert offers(engine, key_id) == []
    assert agent.step() < MOST_REREAD


@LENGTHS
@DIALECTS
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(SteadyRules(move=True), id="move"),
        pytest.param(SteadyRules(pin=True, move=True), id="both", marks=pytest.mark.slow),
    ],
)
def test_a_header_that_changes_is_told_at_the_end(
    engine: LiveEngine, dialect: type[OpenAI | Anthropic], rules: SteadyRules, turns: int
) -> None:
    key_id, headers = key(engine, "Moved", rules)
    agent = Agent(
        engine, dialect(headers=headers), question=f"moved {rules.pin} {dialect.__name__} {turns}: "
    )
    agent.step()
    for turn in range(1, turns):
        assert agent.step() < MOST_REREAD
        assert agent.last is not None
        steady = (agent.last.told or {}).get("steady", {})
        moved = "\n".join(steady.get("moved", []))
        assert (RECORD["requests"][turn]["billing"] in moved) == (not rules.pin)
        changed = RECORD["requests"][turn]["status"] != RECORD["requests"][turn - 1]["status"]
        assert ("moved" in steady) == (changed or not rules.pin)
        # What was told earlier stands where it was told.
        told = ("moved" in steady) or steady.get("moved_before", 0) > 0
        assert ("moved" in agent.last.headers["seamount-steady"]) == told
    assert offers(engine, key_id) == []


@LENGTHS
@DIALECTS
def test_figures_that_change_are_pinned(
    engine: LiveEngine, dialect: type[OpenAI | Anthropic], turns: int
) -> None:
    key_id, headers = key(engine, "Pinned", SteadyRules(pin=True))
    agent = Agent(
        engine, dialect(headers=headers), header="figures", question=f"pinned {dialect.__name__} {turns}: "
    )
    agent.step()
    for turn in range(1, turns):
        assert agent.step() < MOST_REREAD
        assert agent.last is not None
        steady = (agent.last.told or {})["steady"]
        assert RECORD["requests"][turn]["billing"] in steady["pinned"]
        assert agent.last.headers["seamount-steady"].startswith("pinned=")
    assert offers(engine, key_id) == []


@pytest.mark.slow
def test_a_status_that_changes_is_offered_to_be_moved_where_figures_are_pinned(engine: LiveEngine) -> None:
    key_id, headers = key(engine, "Half", SteadyRules(pin=True))
    reread = steps(Agent(engine, OpenAI(headers=headers), question="half: "))
    changed = [
        turn
        for turn in range(1, TURNS)
        if RECORD["requests"][turn]["status"] != RECORD["requests"][turn - 1]["status"]
    ]
    assert [turn for turn in range(TURNS) if reread[turn] >= MOST_REREAD] == changed
    (offer,) = offers(engine, key_id)
    assert (offer["suggestion"], offer["times"]) == ("move", len(changed))
    assert offer["line"] in RECORD["requests"][changed[-1]]["status"]
    assert engine.client.delete(f"/api/access/keys/{key_id}").status_code == 204
    assert offers(engine, key_id) == []


@pytest.mark.slow
def test_three_agents_and_their_titles_in_turn_read_what_is_new(engine: LiveEngine) -> None:
    """Two of one beginning and one of another dialect; between them side requests with another system message."""
    agents = [
        Agent(engine, OpenAI(), header="none", question="first: "),
        Agent(engine, OpenAI(), header="none", question="second: "),
        Agent(engine, Anthropic(), header="none", question="third: "),
    ]
    side = OpenAI(tools=False)
    for turn in range(5):
        reread = [agent.step() for agent in agents]
        assert max(reread) < MOST_REREAD
        title = side.ask(engine, TITLE, [side.user(f"Name conversation {turn}.")])
        assert title.prompt < 300


@pytest.mark.slow
def test_a_new_conversation_of_the_same_agent_begins_behind_its_tools(engine: LiveEngine) -> None:
    long_ago = Agent(engine, OpenAI(), header="none", question="long ago: ")
    steps(long_ago)
    assert long_ago.last is not None
    other = OpenAI()
    answer = other.ask(engine, system_at(0, header="none"), [other.user("Something else altogether.")])
    assert answer.prompt - answer.cached < 600


def rewritten(message: Any) -> Any:
    """Calls as clients write them anew: without spaces, members in another order, whole numbers with a point."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in reversed(list(value))}
        if isinstance(value, list):
            return [turned(each) for each in value]
        return float(value) if type(value) is int else value

    for call in message.get("tool_calls", []):
        shape = turned(json.loads(call["function"]["arguments"]))
        call["function"]["arguments"] = json.dumps(shape, separators=(",", ":"))
    message["content"] = message["content"].strip() + "\n"
    return message


@pytest.mark.slow
def test_calls_that_a_client_writes_anew_are_the_models_own(engine: LiveEngine) -> None:
    agent = Agent(engine, OpenAI(), header="none", question="rewritten: ", change=rewritten)
    assert max(steps(agent)[1:]) < 10


@pytest.mark.slow
def test_a_client_that_changes_ids_or_answers_reads_from_the_last_prompts_end(engine: LiveEngine) -> None:
    """Of an answer that is not known the reasoning is gone and the calls are put as the client has them."""

    def renumbered(message: Any) -> Any:
        for number, call in enumerate(message.get("tool_calls", [])):
            call["id"] = f"{len(agent.messages)}-{number}"
        return message

    agent = Agent(engine, OpenAI(), header="none", question="renumbered: ", change=renumbered)
    written = 0
    for _ in range(TURNS):
        assert agent.step() <= written + 10
        assert agent.last is not None
        written = agent.last.written
        # The results name the calls as the client does.
        ids = [call["id"] for call in agent.messages[-len(agent.last.calls) - 1].get("tool_calls", [])]
        for message, call_id in zip(agent.messages[len(agent.messages) - len(ids) :], ids, strict=True):
            message["tool_call_id"] = call_id


def test_a_request_that_is_cancelled_costs_nothing_afterwards(engine: LiveEngine) -> None:
    agent = Agent(engine, OpenAI(), header="none", question="cancelled: ")
    steps(agent, 3)
    before = agent.last
    body = {
        "model": MODEL,
        "stream": True,
        "messages": [{"role": "system", "content": system_at(3, header="none")}, *agent.messages],
        "tools": [{"type": "function", "function": tool} for tool in RECORD["tools"]],
    }
    with engine.client.stream("POST", "/v1/chat/completions", json=body) as reply:
        next(reply.iter_lines())  # and the client goes away
    assert agent.step() < MOST_REREAD
    assert before is not None and agent.last is not None
    assert agent.last.cached >= before.prompt


def test_streams_and_responses_say_what_was_put_otherwise(engine: LiveEngine) -> None:
    _, headers = key(engine, "Told", SteadyRules(pin=True))
    rules = "\n".join(f"Rule {number}: say what you did." for number in "abcdefgh")

    def head(minute: int) -> str:
        return f"It is 14:{minute:02}.\n{rules}"

    talk = [
        {"role": "user", "content": "Name a sea."},
        {"role": "assistant", "content": "The North Sea."},
        {"role": "user", "content": "Another."},
    ]

    def stream(path: str, body: dict[str, Any]) -> tuple[Any, list[Any]]:
        reply = engine.client.post(path, json={"model": MODEL, "stream": True, **body}, headers=headers)
        assert reply.status_code == 200, reply.text
        lines = [
            line.removeprefix("data: ") for line in reply.text.splitlines() if line.startswith("data: {")
        ]
        return reply.headers, [json.loads(line) for line in lines]

    told = {"pinned": ["It is 14:01."]}
    for minute, messages in ((0, talk[:1]), (1, talk)):
        body = {"messages": [{"role": "system", "content": head(minute)}, *messages]}
        got, chunks = stream("/v1/chat/completions", body)
    assert got["seamount-steady"] == "pinned=1"
    assert chunks[-1]["seamount"]["steady"] == told
    for minute, messages in ((0, talk[:1]), (1, talk)):
        body = {"instructions": head(minute), "input": messages, "store": False}
        got, chunks = stream("/v1/responses", body)
    assert got["seamount-steady"] == "pinned=1"
    assert chunks[-1]["response"]["seamount"]["steady"] == told
    whole = engine.client.post("/v1/responses", json={"model": MODEL, **body}, headers=headers)
    assert (whole.headers["seamount-steady"], whole.json()["seamount"]["steady"]) == ("pinned=1", told)


@pytest.mark.slow
def test_all_of_it_holds_behind_a_new_start_of_the_engine(engine: LiveEngine, root: Any) -> None:
    """The last of the tests: what was read and what calls were made of comes from the disk."""
    dialects = (OpenAI(), Anthropic())
    agents = [Agent(engine, each, header="none", question="later: ") for each in dialects]
    for _ in range(3):
        for agent in agents:
            agent.step()
    engine.close()
    again = LiveEngine(root, "--model", MODEL)
    try:
        again.wait_model()
        for agent in agents:
            agent.goes_on_with(again)
        for _ in range(3, 6):
            for agent in agents:
                assert agent.step() < 10
    finally:
        again.close()
