"""What a DeepSeek-V4 model writes, taken apart as it comes: reasoning, text, tool calls.

Owns: the grammar of a completion (V4.md 2.5), for any splitting of its text into pieces, in time linear in
its length. What the official parser accepts gives exactly its result; what it rejects is named in
`Completion.problems` and, where that leaves one meaning, repaired. Nothing is guessed: a call that may have
been meant otherwise is "rejected", with a reason that the model can be told. Does not know tools' schemas
(`tool_schemas`), tokens, or who listens.

The text holds control tokens as their literals. The states, and what each waits for:

    reasoning -> </think>        text -> end, calls
    between   -> invoke, end of calls      name -> parameter, end of invoke
    parameter -> its attributes            value -> end of parameter
    after     -> parameter, end of invoke  trailing -> end, calls       over
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from engine.encoding.completion import (
    AnswerText,
    CallText,
    Completion,
    MalformedCompletion,
    ParsedCall,
    ParseEvent,
    Problem,
    ReasoningEnd,
    ReasoningText,
)
from engine.encoding.dsml import Tags, to_json
from engine.encoding.mark_search import Pieces
from engine.encoding.release import Release

_NAME = re.compile(r'^\s*name="(.*?)">\n$', re.DOTALL)
_LOOSE_NAME = re.compile(r'name\s*=\s*(["\']?)([^\s"\'<>](?:[^"\'<>\n]*[^\s"\'<>])?)\1')
_VALUE_BEGINS = re.compile(r'" string="(true|false)">')
_PARAMETER = re.compile(r'^ name="(.*?)" string="(true|false)">(.*?)<$', re.DOTALL)
_LOOSE_PARAMETER = re.compile(
    r'^\s*name\s*=\s*(["\'])([^"\'<>\n]+)\1\s+string\s*=\s*(["\']?)(true|false)\3\s*>(.*)<\s*$',
    re.DOTALL | re.IGNORECASE,
)
_HEAD = ' name="'
_STEP = 4096
"""Most characters that are searched at once: what stands behind a mark is copied, so that many are cheap."""


def parse(text: str, release: Release, *, thinking: bool, strict: bool = False) -> Completion:
    """The whole completion `text`, its end token included.

    `strict`: raise MalformedCompletion for what the official parser rejects.
    """
    parser = CompletionParser(release, thinking=thinking)
    parser.feed(text)
    completion = parser.finish()
    if strict and completion.problems:
        raise MalformedCompletion(completion.problems[0])
    return completion


@dataclass(frozen=True)
class _Marks:
    """Compiled for one release: what each state searches for, and the longest of it less one."""

    tags: Tags
    end: str
    think_end: str
    reasoning: re.Pattern[str]
    text: re.Pattern[str]
    between: re.Pattern[str]
    parameters: re.Pattern[str]
    head: re.Pattern[str]
    value: re.Pattern[str]
    longest: int
    beginnings: frozenset[str] = field(hash=False)
    """Every proper beginning of what is searched for while text streams."""


@cache
def _marks(release: Release) -> _Marks:
    tokens, tags = release.tokens, Tags.of(release)
    block = "\n\n" + tags.calls
    strays = [tokens.begin, tokens.think, tokens.dsml]
    in_reasoning = [tokens.think_end, block, tags.calls, *strays, tokens.end]
    in_text = [tokens.end, block, tags.calls, *strays, tokens.think_end]
    streamed = {*in_reasoning, *in_text}
    value_ends = ["<" + tags.parameter_end, "<\n" + tags.parameter_end, tags.parameter_end]
    beginnings = {mark[:length] for mark in (*streamed, *value_ends) for length in range(1, len(mark))}
    return _Marks(
        tags=tags,
        end=tokens.end,
        think_end=tokens.think_end,
        reasoning=_any_of(in_reasoning),
        text=_any_of(in_text),
        between=_any_of([tags.invoke, tags.calls_end]),
        parameters=_any_of([tags.parameter, tags.invoke_end]),
        head=re.compile(f"{_VALUE_BEGINS.pattern}|{re.escape(tags.parameter_end)}"),
        value=_any_of([tags.parameter_end]),
        longest=max(map(len, (*streamed, *value_ends, *vars(tags).values(), '" string="false">'))),
        beginnings=frozenset(beginnings),
    )


def _any_of(literals: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(set(literals), key=len, reverse=True))))


class CompletionParser:
    """Feed it a completion's text in pieces of any size, then `finish`.

    `thinking`: the completion begins inside the reasoning.
    """

    def __init__(self, release: Release, *, thinking: bool) -> None:
        self._marks = _marks(release)
        self._state: Callable[[], bool] = self._reasoning if thinking else self._text
        self._in_reasoning = thinking
        self._pieces = Pieces(self._marks.longest, self._marks.beginnings)
        self._reasoning_parts: list[str] = []
        self._text_parts: list[str] = []
        self._calls: list[ParsedCall] = []
        self._problems: list[Problem] = []
        self._events: list[ParseEvent] = []
        self._call = ParsedCall("")
        self._is_second_block = False
        self._key = ""
        self._is_text = False
        self._arguments: list[str] = []
        self._values: dict[str, tuple[str, bool]] = {}
        self._value: list[str] = []
        self._streams_value = False

    @property
    def is_reasoning(self) -> bool:
        """Whether the reasoning has not ended yet."""
        return self._in_reasoning

    @property
    def is_in_call(self) -> bool:
        """Whether a block of calls is open."""
        return self._state not in (self._reasoning, self._text, self._trailing, self._over)

    @property
    def has_calls(self) -> bool:
        """Whether a call was begun."""
        return bool(self._calls)

    def feed(self, piece: str) -> list[ParseEvent]:
        """What `piece` adds. Text that may yet turn out to begin a mark is held back."""
        for start in range(0, len(piece), _STEP):
            self._pieces.feed(piece[start : start + _STEP])
            while self._state():
                pass
        events, self._events = self._events, []
        return events

    def finish(self) -> Completion:
        """The whole; no more text comes. What was held back is part of it."""
        self._pieces.end()
        while self._state():
            pass
        rest = self._pieces.take_all()
        self._finish_state(rest)
        return Completion(
            "".join(self._reasoning_parts),
            "".join(self._text_parts),
            tuple(self._calls),
            tuple(self._problems),
        )

    def take_events(self) -> list[ParseEvent]:
        """What `finish` added."""
        events, self._events = self._events, []
        return events

    # --- reasoning and text -----------------------------------------------------------------------------

    def _reasoning(self) -> bool:
        text, mark = self._pieces.stream(self._marks.reasoning)
        self._say_reasoning(text)
        if mark is None:
            return False
        if mark == self._marks.think_end:
            self._end_reasoning()
        elif mark.endswith(self._marks.tags.calls):
            self._problem("reasoning_unclosed", "a tool call was begun before </think>")
            self._begin_calls()
        elif mark == self._marks.end:
            self._problem("reasoning_unclosed", "the answer ended before </think>")
            self._state = self._over
        else:
            self._problem("stray_token", f"the token {mark} stands in the reasoning")
            self._say_reasoning(mark)
        return True

    def _end_reasoning(self) -> None:
        self._events.append(ReasoningEnd())
        self._in_reasoning = False
        self._state = self._text

    def _text(self) -> bool:
        text, mark = self._pieces.stream(self._marks.text)
        self._say(text)
        if mark is None:
            return False
        if mark == self._marks.end:
            self._state = self._over
        elif mark.endswith(self._marks.tags.calls):
            if not mark.startswith("\n\n"):
                self._problem("call_format", "the block of calls is not preceded by an empty line")
            self._begin_calls()
        else:
            self._problem("stray_token", f"the token {mark} stands in the answer")
            self._say(mark)
        return True

    def _trailing(self) -> bool:
        """After a block of calls, where the official parser wants nothing but the end."""
        text, mark = self._pieces.stream(self._marks.text)
        if text:
            self._trail(text)
        if mark is None:
            return False
        if mark == self._marks.end:
            self._state = self._over
        elif mark.endswith(self._marks.tags.calls):
            self._problem("text_after_calls", "a second block of calls follows the first")
            self._is_second_block = True
            self._begin_calls()
        else:
            self._trail(mark)
        return True

    def _trail(self, text: str) -> None:
        self._problem("text_after_calls", "text follows the tool calls")
        if self._calls:
            self._calls[-1].repair("text followed the calls")
        self._say(text)

    def _over(self) -> bool:
        if self._pieces.take_all():
            self._problem("text_after_end", "text follows the end of the answer")
        return False

    def _say_reasoning(self, text: str) -> None:
        if text:
            self._reasoning_parts.append(text)
            self._events.append(ReasoningText(text))

    def _say(self, text: str) -> None:
        if text:
            self._text_parts.append(text)
            self._events.append(AnswerText(text))

    def _problem(self, code: str, text: str) -> None:
        if not any(problem.code == code for problem in self._problems):
            self._problems.append(Problem(code, text))

    # --- calls ------------------------------------------------------------------------------------------

    def _begin_calls(self) -> None:
        self._state = self._between

    def _between(self) -> bool:
        found = self._pieces.search(self._marks.between)
        if found is None:
            return False
        before, match = found
        ends = match.group() == self._marks.tags.calls_end
        if before != ">\n":
            self._problem("call_format", f"between the tags of calls stands {before[:80]!r}")
            if self._calls:
                self._calls[-1].repair("a line break or bracket between tags is missing or too many")
            if before.strip().strip(">").strip():
                self._say(before.lstrip(">\n"))
        if ends:
            self._state = self._reasoning if self._in_reasoning else self._trailing
        else:
            self._values, self._arguments = {}, []
            self._call = ParsedCall("")
            if self._is_second_block:
                self._call.repair("it stood in a second block of calls")
            if before != ">\n":
                self._call.repair("a line break or bracket between tags is missing or too many")
            self._state = self._name
        return True

    def _name(self) -> bool:
        found = self._pieces.search(self._marks.parameters)
        if found is None:
            return False
        before, match = found
        self._begin_call(before)
        self._after_tag(match.group())
        return True

    def _begin_call(self, head: str) -> None:
        exact = _NAME.match(head)
        loose = None if exact else _LOOSE_NAME.fullmatch(head.strip().removesuffix(">").rstrip())
        if exact:
            self._call.name = exact.group(1)
        elif loose:
            self._call.name = loose.group(2)
            self._problem("call_name", f"the name of a call is written {head[:80]!r}")
            self._call.repair("its name's tag is not written as it should be")
        else:
            self._problem("call_name", f"the name of a call is written {head[:80]!r}")
            self._call.reject("the call's name cannot be read")
        if self._in_reasoning:
            self._call.reject("a call inside the reasoning is not carried out; close it with </think> first")
        self._calls.append(self._call)
        self._argue("{")

    def _after_tag(self, tag: str) -> None:
        if tag == self._marks.tags.parameter:
            self._state = self._parameter
        else:
            self._end_call()
            self._state = self._between

    def _end_call(self) -> None:
        self._argue("}")
        self._keep_arguments()

    def _keep_arguments(self) -> None:
        self._call.arguments = "".join(self._arguments)

    def _argue(self, arguments: str) -> None:
        self._arguments.append(arguments)
        self._events.append(CallText(len(self._calls) - 1, self._call.name, arguments))

    def _parameter(self) -> bool:
        found = self._pieces.search(self._marks.head)
        if found is None:
            return False
        before, match = found
        if match.group(1) is not None and before.startswith(_HEAD):
            self._begin_value(before[len(_HEAD) :], is_text=match.group(1) == "true")
            self._state = self._value_text
        elif match.group(1) is not None:
            # The attributes' end without their beginning: read on to the parameter's end, then judge.
            self._pieces.put_back(before + match.group())
            self._state = self._odd_parameter
        else:
            self._take_odd(before)
            self._state = self._after
        return True

    def _odd_parameter(self) -> bool:
        found = self._pieces.search(self._marks.value)
        if found is None:
            return False
        self._take_odd(found[0])
        self._state = self._after
        return True

    def _take_odd(self, content: str) -> None:
        # Without its last bracket it cannot match, which the pattern would need quadratic time to find.
        if content.endswith(("<", "<\n")) and (exact := _PARAMETER.match(content)):
            self._begin_value(exact.group(1), is_text=exact.group(2) == "true")
            self._add_value(exact.group(3))
            self._end_value()
            return
        self._problem("parameter_format", f"a parameter is written {content[:80]!r}")
        loose = _LOOSE_PARAMETER.match(content)
        if loose is None:
            self._call.reject("a parameter of the call cannot be read; write name and string as shown")
            return
        self._call.repair("a parameter's attributes are not written as they should be")
        self._begin_value(loose.group(2), is_text=loose.group(4).lower() == "true")
        self._add_value(loose.group(5))
        self._end_value()

    def _begin_value(self, key: str, *, is_text: bool) -> None:
        self._key, self._is_text = key, is_text
        self._value = []
        self._streams_value = key not in self._values
        if self._streams_value:
            start = ", " if self._values else ""
            self._argue(f"{start}{to_json(key)}: " + ('"' if is_text else ""))

    def _value_text(self) -> bool:
        text, mark = self._pieces.stream(self._marks.value)
        if mark is None:
            # The "<" before the end's tag is no part of the value, nor is a line break after it.
            self._add_value(text)
            return False
        if text.endswith(("<", "<\n")):
            text = text[: text.rindex("<")]
        else:
            self._problem("parameter_format", "the end of a parameter lacks its bracket")
            self._call.reject("the end of a parameter cannot be read")
        self._add_value(text)
        self._end_value()
        self._state = self._after
        return True

    def _add_value(self, text: str) -> None:
        if text:
            self._value.append(text)
            if self._streams_value:
                self._argue(to_json(text)[1:-1] if self._is_text else text)

    def _end_value(self) -> None:
        value = ("".join(self._value), self._is_text)
        if not self._is_text and not _is_json(value[0]):
            # The official parser passes it on; it could add arguments that have no parameter of their own.
            self._call.reject(f'the parameter {self._key[:80]!r} has string="false" but does not hold JSON')
        if self._streams_value:
            if self._is_text:
                self._argue('"')
            self._values[self._key] = value
            return
        self._problem("duplicate_parameter", f"the parameter {self._key[:80]!r} is given twice")
        if self._values[self._key] == value:
            self._call.repair(f"the parameter {self._key[:80]!r} is given twice, alike")
        else:
            self._call.reject(f"the parameter {self._key[:80]!r} is given twice, with different values")

    def _after(self) -> bool:
        found = self._pieces.search(self._marks.parameters)
        if found is None:
            return False
        before, match = found
        if before != ">\n":
            self._problem("parameter_format", f"after a parameter stands {before[:80]!r}")
            if before.strip().strip(">").strip():
                self._call.reject("text stands between the parameters of the call")
            else:
                self._call.repair("a line break or bracket after a parameter is missing or too many")
        self._after_tag(match.group())
        return True

    # --- the end ----------------------------------------------------------------------------------------

    def _finish_state(self, rest: str) -> None:
        state = self._state
        if state == self._reasoning:
            self._say_reasoning(rest)
            self._problem("reasoning_unclosed", "the reasoning does not end with </think>")
        elif state == self._text:
            self._say(rest)
            self._problem("end_missing", "the answer has no end token")
        elif state == self._trailing:
            if rest:
                self._trail(rest)
        elif state != self._over:
            self._finish_call(rest)

    def _finish_call(self, rest: str) -> None:
        """The text ended inside a block of calls. Some such ends the official parser takes for whole."""
        state, cut = self._state, rest.removesuffix(self._marks.end)
        unclosed = "the block of calls is not closed"
        if state == self._between:
            if rest:
                self._problem("call_format", unclosed)
                if self._calls and not cut.strip().strip(">").strip():
                    self._calls[-1].repair(unclosed)
                elif cut.strip().strip(">").strip():
                    self._say(cut.lstrip(">\n"))
            return
        if state == self._name:
            if _NAME.match(rest) is None:
                self._problem("call_name", unclosed)
            self._begin_call(cut)
        elif state == self._after:
            if rest != ">\n":
                self._problem("parameter_format", unclosed)
                if cut.strip().strip(">").strip():
                    self._call.reject("text stands between the parameters of the call")
        else:
            self._problem("parameter_format", unclosed)
            if state == self._value_text:
                self._add_value(cut)
            self._call.reject("the call was not written to its end")
            self._keep_arguments()
            return
        # Whether more parameters were to come nobody knows, unless the official parser takes it as it is.
        if (state == self._after and rest != ">\n") or (state == self._name and not _NAME.match(rest)):
            self._call.reject("the call was not written to its end")
        self._end_call()


def _is_json(text: str) -> bool:
    """Whether it is one JSON value; numbers of any size are, NaN and Infinity are not."""
    try:
        json.loads(text, parse_int=len, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
