"""A coding agent's conversation, as clients of either dialect hold it with the real engine process.

`agent_conversation.json` has what is said: ten requests whose system message differs each time, twelve tools, answers
with calls, and what the tools gave. A scripted V4 writes the answers; a client here sends what it got back, stripped of
its reasoning where it is told so, as most do.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from engine.conversation import ToolCall
from engine.encoding.dsml import call_pieces, to_json
from engine.encoding.release import release
from tests.integration.live_engine import LiveEngine

RECORD: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
TURNS = len(RECORD["turns"])
MODEL = "folder:agent.script.json"
TITLE = "You name conversations: five words at most, no full stop. Answer with the title alone."


def script(**more: Any) -> dict[str, Any]:
    """The scripted V4 that writes the conversation's answers, whose context cannot be cut back."""
    replies: list[dict[str, Any]] = []
    asked = RECORD["question"]
    for turn in RECORD["turns"]:
        calls = [ToolCall(each["name"], to_json(each["arguments"])) for each in turn["calls"]]
        block = "".join(["\n\n", *call_pieces(tuple(calls), release("preview"))]) if calls else ""
        # The last things first: what is asked later holds nothing of what was asked before.
        replies.append({"match": asked[:80], "text": f"{turn['reasoning']}</think>{turn['text']}{block}"})
        asked = turn["results"][0] if turn["results"] else ""
    replies.append({"text": "I think of it.</think>That is all."})
    return {
        "name": "Agent",
        "release": "preview",
        "context_tokens": 1_048_576,
        "rewinds": False,
        "replies": replies,
        **more,
    }


def system_at(turn: int, *, header: str = "all") -> str:
    """The system message of a request. `header`: what differs in it: "all", "figures" (all but the status), "none"."""
    now, first = RECORD["requests"][turn], RECORD["requests"][0]
    chosen = {"all": now, "figures": {**now, "status": first["status"]}, "none": first}[header]
    return RECORD["system"].replace("{status}", "\n".join(chosen["status"])).format_map(_Kept(chosen))


class _Kept(dict[str, Any]):
    """A format's values; what else stands in braces stays."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


class Answer:
    """What came back: the dialect's own message, its calls (id, name), what it cost, and what was told beside it."""

    def __init__(
        self,
        message: Any,
        calls: Sequence[tuple[str, str]],
        usage: tuple[int, int, int],
        headers: Any,
        told: Any = None,
    ) -> None:
        self.message, self.calls, self.headers, self.told = message, calls, headers, told
        self.prompt, self.cached, self.written = usage

    @property
    def held(self) -> int:
        """What the context held at its end."""
        return self.prompt + self.written


class Dialect(Protocol):
    """A client's way to speak."""

    def ask(self, engine: LiveEngine, system: str, messages: list[Any], **more: Any) -> Answer: ...
    def user(self, text: str) -> Any: ...
    def answered(self, answer: Answer, *, strips: bool) -> Any: ...
    def recorded(self, text: str, calls: Sequence[tuple[str, str]]) -> Any: ...
    def results(self, calls: Sequence[tuple[str, str]], texts: Sequence[str]) -> list[Any]: ...


class OpenAI:
    """Chat completions. `headers`: a key of its own."""

    def __init__(
        self, model: str = MODEL, headers: dict[str, str] | None = None, *, tools: bool = True
    ) -> None:
        self._model, self._headers = model, headers
        shapes = [{"type": "function", "function": tool} for tool in RECORD["tools"]]
        self._tools = {"tools": shapes} if tools else {}

    def ask(self, engine: LiveEngine, system: str, messages: list[Any], **more: Any) -> Answer:
        body = {"model": self._model, "messages": [{"role": "system", "content": system}, *messages]}
        reply = engine.client.post(
            "/v1/chat/completions", json=body | self._tools | more, headers=self._headers
        )
        assert reply.status_code == 200, reply.text
        whole = reply.json()
        message, usage = whole["choices"][0]["message"], whole["usage"]
        calls = [(call["id"], call["function"]["name"]) for call in message.get("tool_calls", [])]
        cost = (
            usage["prompt_tokens"],
            usage["prompt_tokens_details"]["cached_tokens"],
            usage["completion_tokens"],
        )
        return Answer(message, calls, cost, reply.headers, whole.get("seamount"))

    def user(self, text: str) -> Any:
        return {"role": "user", "content": text}

    def answered(self, answer: Answer, *, strips: bool) -> Any:
        dropped = {"refusal", *(["reasoning_content"] if strips else [])}
        return {key: value for key, value in answer.message.items() if key not in dropped}

    def recorded(self, text: str, calls: Sequence[tuple[str, str]]) -> Any:
        """An answer that no model wrote here, its calls without arguments."""
        shapes = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}
            for call_id, name in calls
        ]
        return {"role": "assistant", "content": text, **({"tool_calls": shapes} if shapes else {})}

    def results(self, calls: Sequence[tuple[str, str]], texts: Sequence[str]) -> list[Any]:
        return [
            {"role": "tool", "tool_call_id": call[0], "content": text}
            for call, text in zip(calls, texts, strict=True)
        ]


class Anthropic:
    """Messages. `headers`: a key of its own."""

    def __init__(
        self, model: str = MODEL, headers: dict[str, str] | None = None, *, tools: bool = True
    ) -> None:
        self._model, self._headers = model, headers
        shapes = [
            {"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]}
            for tool in RECORD["tools"]
        ]
        self._tools = {"tools": shapes} if tools else {}

    def ask(self, engine: LiveEngine, system: str, messages: list[Any], **more: Any) -> Answer:
        body = {
            "model": self._model,
            "max_tokens": 4096,
            "thinking": {"type": "enabled", "budget_tokens": 2048},
            "system": system,
            "messages": messages,
        }
        reply = engine.client.post("/v1/messages", json=body | self._tools | more, headers=self._headers)
        assert reply.status_code == 200, reply.text
        whole = reply.json()
        usage = whole["usage"]
        cached = usage["cache_read_input_tokens"]
        calls = [(block["id"], block["name"]) for block in whole["content"] if block["type"] == "tool_use"]
        cost = (usage["input_tokens"] + cached, cached, usage["output_tokens"])
        return Answer(whole["content"], calls, cost, reply.headers, whole.get("seamount"))

    def user(self, text: str) -> Any:
        return {"role": "user", "content": text}

    def answered(self, answer: Answer, *, strips: bool) -> Any:
        blocks = [block for block in answer.message if not (strips and block["type"] == "thinking")]
        return {"role": "assistant", "content": blocks}

    def recorded(self, text: str, calls: Sequence[tuple[str, str]]) -> Any:
        """As `OpenAI.recorded`."""
        blocks = [{"type": "tool_use", "id": call_id, "name": name, "input": {}} for call_id, name in calls]
        return {"role": "assistant", "content": [{"type": "text", "text": text}, *blocks]}

    def results(self, calls: Sequence[tuple[str, str]], texts: Sequence[str]) -> list[Any]:
        blocks = [
            {"type": "tool_result", "tool_use_id": call[0], "content": text}
            for call, text in zip(calls, texts, strict=True)
        ]
        return [{"role": "user", "content": blocks}]


class Agent:
    """One conversation: `step` makes its next request and says how many tokens were read that the context had held at
    the end of the one before."""

    def __init__(
        self,
        engine: LiveEngine,
        dialect: Dialect,
        *,
        header: str = "all",
        strips: bool = True,
        question: str = "",
        beginning: str = "",
        change: Callable[[Any], Any] = lambda message: message,
        backwards: bool = False,
    ) -> None:
        self._engine, self._dialect, self._header, self._strips = engine, dialect, header, strips
        self._change, self._backwards, self._beginning = change, backwards, beginning
        self.messages: list[Any] = [dialect.user(question + RECORD["question"])]
        self.turn = 0
        self.last: Answer | None = None

    def goes_on_with(self, engine: LiveEngine) -> None:
        """Another engine answers from now on."""
        self._engine = engine

    def step(self, **more: Any) -> int:
        system = self._beginning + system_at(self.turn, header=self._header)
        answer = self._dialect.ask(self._engine, system, self.messages, **more)
        held = self.last.held if self.last is not None else 0
        reread = max(0, min(answer.prompt, held) - answer.cached)
        recorded = RECORD["turns"][self.turn]
        assert [name for _, name in answer.calls] == [call["name"] for call in recorded["calls"]]
        pairs = list(zip(answer.calls, recorded["results"], strict=True))
        if self._backwards:
            pairs.reverse()
        self.messages.append(self._change(self._dialect.answered(answer, strips=self._strips)))
        if pairs:
            self.messages += self._dialect.results([call for call, _ in pairs], [text for _, text in pairs])
        self.last, self.turn = answer, self.turn + 1
        return reread
