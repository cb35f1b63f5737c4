"""What of an agent's conversation is read again by real networks of V4's kind, whose memory cannot be cut back.

A small seeded model writes nothing of sense, so the answers that the client sends back are the recorded ones: each time
another one than the model wrote, without its reasoning. So each request goes on from the end of the last prompt, which
is where a client parts that changed an answer; the tests with a scripted model have those that send the model's own.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from convert.conversion import convert
from engine.paths import DataFolder
from engine.protocol_access import SteadyRules
from tests.convert.conversions import checkpoint, job
from tests.integration.agent_conversation import RECORD, TURNS, Anthropic, Dialect, OpenAI, system_at
from tests.integration.live_engine import LiveEngine

pytestmark = pytest.mark.slow

MODEL = "folder:DeepSeek-V4-Flash-0731.gguf"
RESULT_CHARACTERS = 300
SYSTEM_CHARACTERS = 1200
WRITTEN_TOKENS = 12
WRITTEN = {"max_tokens": WRITTEN_TOKENS, "temperature": 1.0, "seed": 4}
AGENTS_TURNS = 4
LLAMA = pytest.mark.parametrize("engine", ["llamacpp"], indirect=True)
"""The native engine is slow, and keeps states by the same rules."""


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    if request.param == "native":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    root = tmp_path_factory.mktemp("agent")
    folder = DataFolder(root)
    folder.create()
    source = checkpoint(root / "source", "0731", layers=4, seed=8)
    convert(job(source, folder.models / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))
    folder.settings.write_text(f'format = 1\ncontext_tokens = 16384\nbackend = "{request.param}"\n')
    live = LiveEngine(root, "--model", MODEL)
    live.client.timeout = 120
    live.wait_model()
    yield live
    live.close()


def system(turn: int, beginning: str) -> str:
    """Its first and its last lines, which have all that changes."""
    whole = system_at(turn)
    last = "\n".join(whole.split("\n")[-7:])
    return f"{beginning}\n{whole[:SYSTEM_CHARACTERS]}\n{last}"


class Replay:
    """One conversation, its answers as they were recorded."""

    def __init__(
        self,
        engine: LiveEngine,
        question: str,
        rules: SteadyRules | None = None,
        dialect: type[OpenAI | Anthropic] = OpenAI,
    ) -> None:
        made = engine.post("/api/access/keys", {"name": question, "keep": False})
        if rules is not None:
            engine.client.patch(f"/api/access/keys/{made['key']['id']}", json={"steady": rules.model_dump()})
        self._engine, self.key_id = engine, made["key"]["id"]
        headers = {"Authorization": f"Bearer {made['secret']}"}
        self._client: Dialect = dialect(MODEL, headers, tools=False)
        tool = RECORD["tools"][0]
        if dialect is OpenAI:
            self._more: dict[str, Any] = {"tools": [{"type": "function", "function": tool}]}
        else:
            self._more = {"tools": [{"name": tool["name"], "input_schema": tool["parameters"]}]}
        self._messages: list[Any] = [self._client.user(question)]
        self._beginning = question
        self._turn = self._held = 0

    def step(self) -> int:
        """Tokens read that the context had held behind the last request."""
        head = system(self._turn, self._beginning)
        said = self._client.ask(self._engine, head, self._messages, **self._more, **WRITTEN)
        reread = max(0, min(said.prompt, self._held) - said.cached)
        recorded = RECORD["turns"][self._turn]
        calls = [(f"{self._turn}-{number}", call["name"]) for number, call in enumerate(recorded["calls"])]
        self._messages.append(self._client.recorded(recorded["text"], calls))
        self._messages += self._client.results(
            calls, [text[:RESULT_CHARACTERS] for text in recorded["results"]]
        )
        self._turn, self._held = self._turn + 1, said.held
        return reread


@pytest.mark.parametrize("engine", ["llamacpp", "native"], indirect=True)
def test_each_turn_goes_on_from_the_end_of_the_last_prompt(engine: LiveEngine) -> None:
    agent = Replay(engine, "One agent asks.", SteadyRules(move=True))
    agent.step()
    # What the model wrote and the client did not send back, and what lies behind the nearest state.
    assert max(agent.step() for _ in range(2)) <= WRITTEN_TOKENS + 34


@LLAMA
@pytest.mark.parametrize("dialect", [OpenAI, Anthropic])
def test_ten_turns_in_either_dialect(engine: LiveEngine, dialect: type[OpenAI | Anthropic]) -> None:
    agent = Replay(engine, f"For {dialect.__name__}.", SteadyRules(move=True), dialect)
    agent.step()
    assert max(agent.step() for _ in range(1, TURNS)) <= WRITTEN_TOKENS + 34


@LLAMA
def test_two_agents_in_turn(engine: LiveEngine) -> None:
    agents = [
        Replay(engine, name, SteadyRules(move=True)) for name in ("Here is one.", "The other one is here.")
    ]
    for turn in range(AGENTS_TURNS):
        reread = [agent.step() for agent in agents]
        assert turn == 0 or max(reread) < 1000


@LLAMA
def test_without_a_rule_it_is_all_read_again(engine: LiveEngine) -> None:
    agent = Replay(engine, "A plain one.")
    agent.step()
    reread = [agent.step() for _ in range(1, 3)]
    assert min(reread) > 500
    (offer,) = [each for each in engine.get("/api/access")["offers"] if each["key_id"] == agent.key_id]
    assert (offer["suggestion"], offer["reread_tokens"]) == ("pin", reread[-1])
