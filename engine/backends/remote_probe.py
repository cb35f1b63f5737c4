"""What a server is and can do, found out by asking it.

Owns: what is asked (the list of models, what beside the dialect tells the software, and a few tiny questions of fixed
words), and what is concluded. Nothing of a conversation is sent. The questions are asked only when a person sets a
remote up or checks it: six at most, of some tens of tokens each; what they cost by the server's own count is told. Does
not know which remotes there are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.backends import remote_wire
from engine.backends.remote_faults import Target
from engine.backends.remote_request import RemoteRequest, body_of
from engine.backends.remote_stream import AnswerStream, CallPiece, ReasoningPiece, TextPiece
from engine.conversation import Message, clean_text
from engine.errors import RemoteBrokeOff, RemoteBusy, RemoteError, RemoteKeyRefused, RemoteUnreachable
from engine.protocol import ReasoningMode
from engine.protocol_remote import ContinueWay, EffortWay, RemoteFeatures, RemoteKind

QUESTION = "Say OK."
COUNTING = "Count from one to ten in English words, separated by commas."
COUNTED = "One, two, three, four,"
NEXT = "five"
MOST_TOKENS = 64
MOST_MODELS = 200
_LONGEST_NAME = 200
_TOOL: dict[str, Any] = {
    "name": "say_ok",
    "description": "Says OK.",
    "parameters": {"type": "object", "properties": {}},
}
_CONTEXT_NAMES = ("max_model_len", "context_length", "context_window", "max_context_length")


@dataclass(frozen=True)
class ServedModel:
    """One entry of a server's list: what tells it from another. `root`: of which checkpoint it is, if that is told."""

    id: str
    root: str | None = None
    context_tokens: int | None = None
    owner: str = ""

    def differs(self, other: "ServedModel") -> list[str]:
        """What is no longer as it is here, each a clause."""
        found: list[str] = []
        if self.root != other.root:
            found.append(f"it is made of {_named(other.root)}, no longer of {_named(self.root)}")
        if self.context_tokens != other.context_tokens:
            found.append(
                f"its context is {_count(other.context_tokens)}, no longer {_count(self.context_tokens)}"
            )
        return found


async def served_models(target: Target) -> list[ServedModel] | None:
    """The server's list; None: it has none. Raises RemoteError and its kinds."""
    from engine.backends.remote_faults import refusal

    reply = await remote_wire.fetch(target, "GET", f"{target.address.base}/models")
    if reply.status in (404, 405):
        return None
    if reply.status != 200:
        raise refusal(target, reply)
    data = _fields(reply.json).get("data")
    if not isinstance(data, list):
        raise RemoteError(
            f"{target.place} gave no list of models",
            "what it sent is no such list",
            "check the address: it is what stands before /chat/completions, usually with /v1 at its end",
        )
    found = [_served(_fields(each)) for each in cast("list[Any]", data)[:MOST_MODELS]]
    return [each for each in found if each.id]


async def software_of(target: Target, kind: RemoteKind, models: Sequence[ServedModel]) -> str:
    """What the server says it is; "" where it does not tell."""
    owner = models[0].owner if models else ""
    if kind == "seamount" or owner == "seamount":
        return "Seamount"
    if kind == "deepseek":
        return "DeepSeek"
    places = {
        "vllm": ("vLLM", "/version", "version"),
        "sglang": ("SGLang", "/get_server_info", "version"),
        "llamacpp": ("llama.cpp", "/props", "build_info"),
    }
    if owner in places:
        name, path, field = places[owner]
        version = _fields(await _asked(target, path)).get(field)
        return f"{name} {_line(version)}".strip() if isinstance(version, str) else name
    about = _fields(_fields(await _asked(target, "/openapi.json")).get("info"))
    title, version = about.get("title"), about.get("version")
    if not isinstance(title, str):
        return ""
    return f"{_line(title)} {_line(version) if isinstance(version, str) else ''}".strip()


async def features_of(
    target: Target, kind: RemoteKind, model: str, models: Sequence[ServedModel]
) -> RemoteFeatures:
    """What the model there can do. Raises RemoteError and its kinds when it does not answer at all."""
    software = await software_of(target, kind, models)
    served = next((each for each in models if each.id == model), None)
    context = served.context_tokens if served else None
    if context is None and software.startswith("llama.cpp"):
        props = _fields(await _asked(target, "/props"))
        context = _size(_fields(props.get("default_generation_settings")).get("n_ctx"))
    known = RemoteFeatures(
        checked_at=time.time(),
        software=software,
        models=[each.id for each in models],
        context_tokens=context,
    )
    return await _Probe(target, kind, model).found(known)


@dataclass(frozen=True)
class _Said:
    """What came of one question."""

    text: str
    reasoning: str
    calls: int


class _Probe:
    """The questions to one model."""

    def __init__(self, target: Target, kind: RemoteKind, model: str) -> None:
        self._target = target
        self._kind: RemoteKind = kind
        self._model = model
        self._spent = 0
        self._counts = False

    async def found(self, known: RemoteFeatures) -> RemoteFeatures:
        known = await self._reasoning(known)
        known = known.model_copy(update={"usage": "yes" if self._counts else "no"})
        known = await self._continuing(known)
        known = await self._tools(known)
        return known.model_copy(update={"spent_tokens": self._spent if self._counts else None})

    async def _reasoning(self, known: RemoteFeatures) -> RemoteFeatures:
        """Whether it reasons, and whether that can be chosen by the words that its software knows."""
        way: EffortWay = "effort"
        if self._kind == "deepseek":
            way = "thinking"
        elif known.software.startswith(("vLLM", "SGLang")):
            way = "template"
        told = known.model_copy(update={"efforts": "yes", "effort_by": way})
        said = await self._say(told, mode="high")
        if said is None:
            told = known.model_copy(update={"efforts": "no"})
            said = await self._say(told)
        if said is None:
            # Some refuse to be asked for usage.
            known = known.model_copy(update={"usage": "no"})
            told = known.model_copy(update={"efforts": "no"})
            said = await self._say(told, must=True)
        untold = said is not None and "</think>" in said.text
        if said is None or not (said.reasoning or untold):
            return known.model_copy(update={"reasoning": "no", "efforts": "no"})
        known = known.model_copy(update={"reasoning": "yes", "thinks_untold": untold})
        if told.efforts == "no":
            return known.model_copy(update={"efforts": "no"})
        still = await self._say(told, mode="non-think")
        if still is None or still.reasoning or "</think>" in still.text:
            return known.model_copy(update={"efforts": "no"})
        return known.model_copy(update={"efforts": "yes", "effort_by": way})

    async def _continuing(self, known: RemoteFeatures) -> RemoteFeatures:
        """Whether it goes on with a beginning: it is given one that only one word can follow."""
        if known.software == "Seamount":
            # Its own dialect; docs/openai.md tells of it.
            return known.model_copy(update={"continues": "yes", "continue_by": "prefix"})
        ways: tuple[ContinueWay, ...] = ("final_message", "tail")
        if self._kind == "deepseek":
            ways = ("prefix",)
        elif known.software.startswith("llama.cpp"):
            ways = ("tail",)
        mode: ReasoningMode | None = "non-think" if known.efforts == "yes" else None
        for way in ways:
            told = known.model_copy(update={"continues": "yes", "continue_by": way})
            said = await self._say(told, COUNTING, mode=mode, so_far=COUNTED, most_tokens=16)
            if said is not None and said.text.lstrip(" ,.\n").lower().startswith(NEXT):
                return told
        return known.model_copy(update={"continues": "no"})

    async def _tools(self, known: RemoteFeatures) -> RemoteFeatures:
        mode: ReasoningMode | None = "non-think" if known.efforts == "yes" else None
        said = await self._say(known, "Call the tool say_ok now.", mode=mode, tools=True)
        can = "no" if said is None else "yes" if said.calls else "unknown"
        return known.model_copy(update={"tools": can})

    async def _say(
        self,
        told: RemoteFeatures,
        question: str = QUESTION,
        *,
        mode: ReasoningMode | None = None,
        so_far: str = "",
        tools: bool = False,
        most_tokens: int = MOST_TOKENS,
        must: bool = False,
    ) -> _Said | None:
        """What it answers; None: it refuses to be asked so. Raises what has nothing to do with how it is asked."""
        asked = RemoteRequest(
            messages=[Message("user", question)],
            functions=[_TOOL] if tools else (),
            max_tokens=most_tokens,
            mode=mode,
            so_far=so_far,
        )
        body = body_of(asked, model=self._model, kind=self._kind, features=told)
        target = self._target
        base = f"{target.address.root}/beta" if body.is_beta else target.address.base
        stream = AnswerStream(target.place, target.key)
        texts: list[str] = []
        reasoning: list[str] = []
        calls = 0
        try:
            async with remote_wire.streamed(target, f"{base}{body.path}", body.content) as pieces:
                async for data in pieces:
                    for piece in stream.feed(data):
                        if isinstance(piece, TextPiece):
                            texts.append(piece.text)
                        elif isinstance(piece, ReasoningPiece):
                            reasoning.append(piece.text)
                        else:
                            calls += bool(piece.name)
                    if stream.is_done:
                        break
                texts += [each.text for each in stream.end() if not isinstance(each, CallPiece)]
                stream.require_whole()
        except (RemoteUnreachable, RemoteKeyRefused, RemoteBusy):
            raise
        except RemoteError as error:
            if must:
                raise
            if isinstance(error, RemoteBrokeOff) and not (tools or so_far or mode):
                raise
            return None
        if stream.usage is not None:
            self._counts = True
            self._spent += stream.usage.prompt + stream.usage.written
        return _Said("".join(texts), "".join(reasoning), calls)


async def _asked(target: Target, path: str) -> Any:
    """The JSON at a place beside the dialect; None where there is none."""
    try:
        reply = await remote_wire.fetch(target, "GET", f"{target.address.root}{path}", timeout_s=10.0)
    except RemoteError:
        return None
    return reply.json if reply.status == 200 else None


def _served(fields: dict[str, Any]) -> ServedModel:
    named, root, owner = fields.get("id"), fields.get("root"), fields.get("owned_by")
    meta = _fields(fields.get("meta"))
    sizes = [_size(fields.get(name)) for name in _CONTEXT_NAMES] + [_size(meta.get("n_ctx"))]
    name = named if isinstance(named, str) and named.isprintable() and len(named) <= _LONGEST_NAME else ""
    return ServedModel(
        # Another name than its own would not be understood there.
        id=clean_text(name)[0],
        root=clean_text(root)[0][:_LONGEST_NAME] if isinstance(root, str) else None,
        context_tokens=next((each for each in sizes if each), None),
        owner=clean_text(owner)[0][:40] if isinstance(owner, str) else "",
    )


def _size(value: Any) -> int | None:
    is_size = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 30
    return value if is_size else None


def _line(text: str) -> str:
    clean = clean_text(text[:200])[0]
    return " ".join("".join(each if each.isprintable() else " " for each in clean).split())[:60]


def _named(root: str | None) -> str:
    return "something that is not told" if root is None else _line(root)


def _count(tokens: int | None) -> str:
    return "not told" if tokens is None else f"{tokens:,} tokens"


def _fields(shape: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", shape) if isinstance(shape, dict) else {}
