"""An answer as it grows: what was stored when its stream began, and what has come over it since.

Owns: gathering the pieces of text, reasoning and calls, and giving them back as a message at any moment. Pure;
does not read the stream (`turn_stream.py`) and does not know the conversation.
"""

from dataclasses import dataclass, field

from engine.protocol import Message, Thought, ToolCall


@dataclass
class _Call:
    id: str
    name: str
    pieces: list[str] = field(default_factory=lambda: list[str]())

    def now(self) -> ToolCall:
        return ToolCall(id=self.id, name=self.name, arguments="".join(self.pieces))


class RunningAnswer:
    """Begins as `stored`. The order of adding is the order of the stream."""

    def __init__(self, stored: Message) -> None:
        self._stored = stored
        self._text = [stored.text]
        self._reasoning = [stored.reasoning]
        self._thought = stored.thought
        self._calls: dict[int, _Call] = {}
        self._notices = list(stored.notices)

    @property
    def id(self) -> str:
        """The answer's message id."""
        return self._stored.id

    def add_text(self, text: str) -> None:
        """More of the text."""
        self._text.append(text)

    def add_reasoning(self, text: str) -> None:
        """More of the reasoning."""
        self._reasoning.append(text)

    def set_thought(self, thought: Thought) -> bool:
        """The reasoning has ended. True when that is news."""
        news = thought != self._thought
        self._thought = thought
        return news

    def add_call(self, index: int, call_id: str, name: str, arguments: str) -> bool:
        """More of a call. True when it is the first of it."""
        call = self._calls.get(index)
        if call is None:
            self._calls[index] = _Call(call_id, name, [arguments])
            return True
        call.pieces.append(arguments)
        return False

    def add_notice(self, sentence: str) -> bool:
        """Something was done to the answer. True when that is news."""
        if sentence in self._notices:
            return False
        self._notices.append(sentence)
        return True

    def now(self) -> Message:
        """The answer of this moment, still running."""
        # What the store had of the calls stands until the stream has told it again.
        calls = list(self._stored.tool_calls)
        for index, call in sorted(self._calls.items()):
            calls[index : index + 1] = [call.now()]
        again = bool(self._calls)
        return self._with(tool_calls=calls, unfinished_call="" if again else self._stored.unfinished_call)

    def broken_off(self) -> Message:
        """The answer when its stream has ended before it did: the call that was being written is not whole."""
        message = self.now()
        calls, unfinished = message.tool_calls, message.unfinished_call
        if self._calls and calls:
            *calls, cut = calls
            unfinished = f"{cut.name} {cut.arguments}"
        stopped = {"status": "interrupted", "finish_reason": "interrupted"}
        return message.model_copy(update={**stopped, "tool_calls": calls, "unfinished_call": unfinished})

    def _with(self, **more: object) -> Message:
        return self._stored.model_copy(
            update={
                "text": "".join(self._text),
                "reasoning": "".join(self._reasoning),
                "thought": self._thought,
                "notices": list(self._notices),
                **more,
            }
        )
