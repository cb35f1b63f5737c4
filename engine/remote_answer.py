"""An answer that another machine writes, as it comes: its pieces become reasoning, text and calls, kept, then told.

Owns: at which offset a piece belongs, the time of the reasoning, the ids of calls that a server leaves out, and which
of the calls may be carried out. There are no token ids: what arrives is text. Does not know how pieces arrive
(`backends/remote*`), the store, or the queue.
"""

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from engine.backends.remote_stream import CallPiece, Piece, ReasoningPiece
from engine.protocol import CallEvent, FinishReason, Message, Notice, Text, Thought, ThoughtEvent, ToolCall
from engine.store.tree_rules import is_id

if TYPE_CHECKING:
    from engine.encoding.completion import ParsedCall

LEAST_ID = 9
_COUNTED = re.compile(r"[A-Za-z_-]*[0-9]{0,6}", re.ASCII)
Part = Literal["text", "reasoning", "call"]
Event = Text | ThoughtEvent | CallEvent | Notice


class Keeper(Protocol):
    """Where the parts of an answer go."""

    def keep(self, text: str, token_ids: Sequence[int], part: Part) -> None:
        """Store a piece. Raises SeamountError, and then nothing more is told."""
        ...

    def keep_thought(self, thought: Thought) -> None:
        """Store what the reasoning took."""
        ...

    def tell(self, event: Event) -> None:
        """Tell whoever listens."""
        ...


@dataclass(frozen=True)
class RemoteEnd:
    """What is known of an answer when it has ended."""

    reason: FinishReason
    thought: Thought | None
    tool_calls: tuple[ToolCall, ...]


@dataclass
class _Call:
    id: str
    name: str
    arguments: str = ""


class RemoteAnswer:
    """One answer. `stored`: the message so far, where it goes on; `anew`: the server does not go on with that, and may
    reason once more."""

    def __init__(
        self,
        keeper: Keeper,
        *,
        functions: Sequence[Mapping[str, Any]],
        stored: Message,
        anew: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keeper = keeper
        self._functions = functions
        self._clock = clock
        self._began_s: float | None = None
        self._offsets = {"reasoning": len(stored.reasoning), "text": len(stored.text)}
        self._thought = stored.thought
        self._calls: dict[int, _Call] = {}
        self._reasons_anew = anew and bool(stored.reasoning)
        self._thought_begun = bool(stored.reasoning)

    def take(self, piece: Piece) -> None:
        """One more piece. Raises what keeping it raises."""
        if self._began_s is None:
            self._began_s = self._clock()
        if isinstance(piece, CallPiece):
            self._end_thought()
            self._take_call(piece)
        elif isinstance(piece, ReasoningPiece):
            self._thought_begun = True
            # What was thought before the answer was cut off stays as it was.
            self._take_text(f"\n\n{piece.text}" if self._reasons_anew else piece.text, "reasoning")
            self._reasons_anew = False
        else:
            self._end_thought()
            self._take_text(piece.text, "text")

    def end(self, reason: FinishReason, reasoning_tokens: int = 0) -> RemoteEnd:
        """No more comes. Calls count only in a whole answer. `reasoning_tokens`: as the server counted."""
        thought = self._thought
        if thought is not None and reasoning_tokens:
            thought = Thought(tokens=reasoning_tokens, elapsed_s=thought.elapsed_s)
        if reason in ("length", "cancelled") or not self._calls:
            return RemoteEnd("stop" if reason == "tool_calls" else reason, thought, ())
        calls = self._checked()
        usable = any(call.status != "rejected" for call in calls)
        return RemoteEnd("tool_calls" if usable else "stop", thought, calls)

    def _checked(self) -> tuple[ToolCall, ...]:
        from engine.encoding.completion import ParsedCall
        from engine.encoding.tool_schemas import check_calls, rejection

        parsed: list[ParsedCall] = []
        for index in sorted(self._calls):
            call = ParsedCall(self._calls[index].name, self._calls[index].arguments.strip() or "{}")
            if problem := _problem(call):
                call.reject(problem)
            parsed.append(call)
        check_calls(parsed, self._functions)
        told: list[ToolCall] = []
        for index, call in zip(sorted(self._calls), parsed, strict=True):
            why = (
                None if call.status == "exact" else rejection(call.name, call.problem or "it cannot be read")
            )
            told.append(
                ToolCall(
                    id=self._calls[index].id,
                    name=call.name,
                    arguments=call.arguments,
                    status=call.status,
                    problem=why,
                )
            )
        return tuple(told)

    def _take_text(self, text: str, part: Literal["reasoning", "text"]) -> None:
        if not text:
            return
        self._keeper.keep(text, (), part)
        offset = self._offsets[part]
        self._offsets[part] += len(text)
        # How many tokens that is, the server tells at the end, if at all.
        self._keeper.tell(Text(offset=offset, text=text, generated_tokens=0, part=part))

    def _end_thought(self) -> None:
        if self._thought is not None or not self._thought_begun:
            return
        elapsed_s = 0.0 if self._began_s is None else self._clock() - self._began_s
        self._thought = Thought(tokens=0, elapsed_s=elapsed_s)
        self._keeper.keep_thought(self._thought)
        self._keeper.tell(ThoughtEvent(thought=self._thought))

    def _take_call(self, piece: CallPiece) -> None:
        call = self._calls.get(piece.index)
        is_new = call is None
        if call is None:
            taken = {each.id for each in self._calls.values()}
            is_own = _is_unique(piece.id) and piece.id not in taken
            unique = piece.id if is_own else f"call_{secrets.token_hex(12)}"
            call = self._calls[piece.index] = _Call(unique, piece.name)
        self._keeper.keep(f"{call.name} {piece.arguments}" if is_new else piece.arguments, (), "call")
        offset = len(call.arguments)
        call.arguments += piece.arguments
        self._keeper.tell(
            CallEvent(
                index=piece.index,
                id=call.id,
                name=call.name,
                offset=offset,
                arguments=piece.arguments,
                generated_tokens=0,
            )
        )


def _is_unique(call_id: str) -> bool:
    """Whether an id can stand for one call among all: a server that counts them anew in each answer (`call_0`) would
    have what is remembered of one conversation's call found by another's."""
    return is_id(call_id) and len(call_id) >= LEAST_ID and not _COUNTED.fullmatch(call_id)


def _problem(call: "ParsedCall") -> str | None:
    """Why a call cannot be one, whatever tools there are."""
    if not call.name:
        return "it names no tool"
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError) as error:
        return f"its arguments are not JSON ({str(error)[:200]})"
    return None if isinstance(value, dict) else "its arguments are no JSON object"
