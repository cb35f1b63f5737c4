"""A DeepSeek-V4 answer as it is written: its text becomes reasoning, text and calls, each stored, then told.

Owns: which part a piece belongs to and at which offset, the time and tokens of the reasoning, the ids of
calls, what an answer that goes on has told already, and the sentences about what was done to it.
Does not know the grammar (`encoding.completion_parser`), the store, or the queue.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from engine.encoding.completion import AnswerText, CallText, ParseEvent, ReasoningEnd, ReasoningText
from engine.encoding.reasoning import ThinkingGuard
from engine.encoding.tool_schemas import check_calls, rejection
from engine.encoding.v4_chat import V4Chat
from engine.protocol import CallEvent, FinishReason, Message, Notice, Text, Thought, ThoughtEvent, ToolCall

StoredPart = Literal["text", "reasoning", "call"]
Event = Text | ThoughtEvent | CallEvent | Notice


class Keeper(Protocol):
    """Where the parts of an answer go."""

    def keep(self, text: str, token_ids: Sequence[int], part: StoredPart) -> None:
        """Store a piece. Raises SeamountError, and then nothing more is told."""
        ...

    def keep_thought(self, thought: Thought) -> None:
        """Store what the reasoning took."""
        ...

    def tell(self, event: Event) -> None:
        """Tell whoever listens."""
        ...


@dataclass(frozen=True)
class AnswerEnd:
    """What is known of an answer when it has ended."""

    reason: FinishReason
    thought: Thought | None
    tool_calls: list[ToolCall]
    notices: list[str]


class V4Answer:
    """One answer. `thinking`: it began inside the reasoning. `stored`: the message so far; `already`: the text
    of the tokens it has, when it goes on."""

    def __init__(
        self,
        chat: V4Chat,
        guard: ThinkingGuard,
        keeper: Keeper,
        *,
        thinking: bool,
        functions: Sequence[Mapping[str, Any]],
        stored: Message,
        already: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._end_literal = chat.release.tokens.end
        self._parser = chat.parser(thinking=thinking)
        self._guard = guard
        self._keeper = keeper
        self._functions = functions
        self._clock = clock
        self._began_s: float | None = None
        self._offsets = {"reasoning": len(stored.reasoning), "text": len(stored.text)}
        self._ahead = dict(self._offsets)
        """Characters of each part that are stored and that the parser has yet to give."""
        self._ids: list[int] = []
        self._tokens = 0
        self._calls: dict[int, tuple[str, int]] = {}
        self._thought = stored.thought
        self._notices: list[str] = []
        self._told_reason = False
        if already:
            self._feed(self._parser.feed(already))

    def take(self, text: str, token_ids: Sequence[int]) -> None:
        """More text and the tokens it came from."""
        if self._began_s is None:
            self._began_s = self._clock()
        self._ids.extend(token_ids)
        self._tokens += len(token_ids)
        self._feed(self._parser.feed(text))
        if self._ids:
            self._keep("", "text")
        if self._guard.reason is not None and not self._told_reason:
            self._told_reason = True
            self._notice(self._guard.reason, _guard_words(self._guard))

    def end(self, reason: Literal["stop", "length", "cancelled"]) -> AnswerEnd:
        """No more comes. What was held back is stored and told; calls count only in a whole answer."""
        if reason != "stop":
            self._parser.finish()
            texts = [e for e in self._parser.take_events() if isinstance(e, ReasoningText | AnswerText)]
            self._feed(texts)
            return AnswerEnd(reason, self._thought, [], self._notices)
        self._feed(self._parser.feed(self._end_literal))
        completion = self._parser.finish()
        self._feed(self._parser.take_events())
        calls = list(completion.calls)
        check_calls(calls, self._functions)
        told: list[ToolCall] = []
        for index, call in enumerate(calls):
            problem = call.problem
            if call.status == "rejected":
                problem = rejection(call.name, problem or "it cannot be read")
            elif call.status == "repaired":
                problem = f"The call was read in spite of a slip: {problem}."
            told.append(
                ToolCall(
                    id=self._call_id(index),
                    name=call.name,
                    arguments=call.arguments,
                    status=call.status,
                    problem=problem,
                )
            )
        usable = any(call.status != "rejected" for call in told)
        return AnswerEnd("tool_calls" if usable else "stop", self._thought, told, self._notices)

    def _feed(self, events: Sequence[ParseEvent]) -> None:
        for event in _gathered(events):
            if isinstance(event, ReasoningEnd):
                self._end_thought()
            elif isinstance(event, CallText):
                self._tell_call(event)
            else:
                self._tell_text(event.text, "reasoning" if isinstance(event, ReasoningText) else "text")

    def _tell_text(self, text: str, part: Literal["reasoning", "text"]) -> None:
        known = min(self._ahead[part], len(text))
        self._ahead[part] -= known
        text = text[known:]
        if not text:
            return
        self._keep(text, part)
        offset = self._offsets[part]
        self._offsets[part] += len(text)
        self._keeper.tell(Text(offset=offset, text=text, generated_tokens=self._tokens, part=part))

    def _end_thought(self) -> None:
        if self._thought is not None:
            return
        elapsed_s = 0.0 if self._began_s is None else self._clock() - self._began_s
        self._thought = Thought(tokens=self._guard.tokens, elapsed_s=elapsed_s)
        self._keeper.keep_thought(self._thought)
        self._keeper.tell(ThoughtEvent(thought=self._thought))

    def _tell_call(self, event: CallText) -> None:
        is_new = event.index not in self._calls
        call_id = self._call_id(event.index)
        offset = self._calls[event.index][1]
        self._keep(f"{event.name} {event.arguments}" if is_new else event.arguments, "call")
        self._calls[event.index] = (call_id, offset + len(event.arguments))
        self._keeper.tell(
            CallEvent(
                index=event.index,
                id=call_id,
                name=event.name,
                offset=offset,
                arguments=event.arguments,
                generated_tokens=self._tokens,
            )
        )

    def _call_id(self, index: int) -> str:
        if index not in self._calls:
            self._calls[index] = (f"call_{secrets.token_hex(12)}", 0)
        return self._calls[index][0]

    def _keep(self, text: str, part: StoredPart) -> None:
        ids, self._ids = self._ids, []
        self._keeper.keep(text, ids, part)

    def _notice(self, code: Literal["budget", "loop"], text: str) -> None:
        self._notices.append(text)
        self._keeper.tell(Notice(code=code, text=text))


def _guard_words(guard: ThinkingGuard) -> str:
    if guard.reason == "budget":
        return f"The reasoning was ended after {guard.tokens:,} tokens, the most that it may take."
    return f"The reasoning went in circles and was ended after {guard.tokens:,} tokens."


def _gathered(events: Sequence[ParseEvent]) -> list[ParseEvent]:
    """The same with neighbours of one part made one: each is a row and an event."""
    whole: list[ParseEvent] = []
    for event in events:
        last = whole[-1] if whole else None
        if isinstance(event, ReasoningText) and isinstance(last, ReasoningText):
            whole[-1] = ReasoningText(last.text + event.text)
        elif isinstance(event, AnswerText) and isinstance(last, AnswerText):
            whole[-1] = AnswerText(last.text + event.text)
        elif isinstance(event, CallText) and isinstance(last, CallText) and event.index == last.index:
            whole[-1] = CallText(event.index, event.name, last.arguments + event.arguments)
        else:
            whole.append(event)
    return whole
