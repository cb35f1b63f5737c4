"""A DeepSeek-V4 conversation as a prompt, exactly as the checkpoint's own encoder writes it.

Owns: the rules of V4.md 2.2 to 2.6 (order of parts, fused turns, what reasoning is kept, the marks between
messages). Does not know how text becomes ids (`segments`, `tokenizer`), nor what a mode is called by a
person (`reasoning`).

V4 has no chat template. Control tokens are placed here by id; whatever a person, a file or a tool wrote is
tokenised as plain text, so that a typed `<｜Assistant｜>` stays text. The string of the prompt is the same as
the official one; its ids differ only where such a literal was typed. The official ids, which parse such
literals, are those of `Prompt.text` by `Tokenizer.encode_parsing`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from engine.conversation import Message, ToolCall
from engine.encoding.dsml import call_pieces, tools_frame
from engine.encoding.release import Release
from engine.encoding.segments import Control, Ids, Segment, Text
from engine.errors import ConversationError, UnknownRelease

_WHAT = "The prompt cannot be written"


@dataclass(frozen=True)
class Style:
    """How a conversation is rendered: in which release, thinking or not, with which effort."""

    release: Release
    thinking: bool
    effort: str | None = None
    """None: the release's default. Only in thinking."""
    drop_thinking: bool = True
    """Leave out the reasoning of earlier turns, unless tools are declared anywhere."""


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation."""

    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The official byte string. Where tokens that the model wrote are used, their message's text stands."""
        return "".join([segment.text for segment in self.segments])


class _Block(NamedTuple):
    """A piece of a user's turn: text, or the result of a call."""

    text: str
    is_result: bool = False
    call_id: str = ""


class _Turn(NamedTuple):
    """A message after fusing. `blocks` is set for a user's turn that is not one text alone."""

    message: Message
    role: str
    blocks: tuple[_Block, ...] = ()


_RESULTS = Message("user")
"""A turn that begins with the result of a call."""


def render(
    messages: Sequence[Message],
    style: Style,
    control: Mapping[str, int],
    *,
    context: Sequence[Message] = (),
    begin: bool = True,
) -> Prompt:
    """The prompt of `messages`, up to where the next answer begins.

    `control`: id of each control literal. `context`: messages before them that are in the model's context
    already and only count for the rules. `begin`: put the begin token first where there is no context.
    Raises ConversationError for what no prompt can be made of, UnknownRelease for an effort that the release
    does not have.
    """
    turns, before = _fused(messages), _fused(context)
    turns = _sorted_results([*before, *turns])[len(before) :]
    before = _sorted_results(before)
    whole = [*before, *turns]
    # Any tools anywhere keep all reasoning; a user's are lost in fusing and do not count.
    drops = style.drop_thinking and not any(turn.message.tools for turn in whole)
    if style.thinking and drops:
        whole = _without_old_reasoning(whole)
        before = _without_old_reasoning(before)
    writer = _Writer(style.release, control)
    if begin and not before:
        writer.control(style.release.tokens.begin)
    last_question = _last_question(whole)
    for index in range(len(before), len(whole)):
        _render_turn(writer, whole, index, style, drops=drops, last_question=last_question)
    return Prompt(writer.segments())


def _render_turn(
    writer: "_Writer", turns: Sequence[_Turn], index: int, style: Style, *, drops: bool, last_question: int
) -> None:
    turn, tokens = turns[index], style.release.tokens
    message = turn.message
    if index == 0 and style.thinking:
        writer.content(_effort_text(style))
    if turn.role == "user":
        writer.control(tokens.user)
        _blocks(writer, turn, tokens.extracted_url)
    elif turn.role == "assistant":
        after_task = index > 0 and turns[index - 1].message.task is not None
        reasons = style.thinking and not after_task and (not drops or index > last_question)
        _answer(writer, message, style.release, reasons=reasons)
    elif turn.role == "system":
        if tokens.system:
            writer.control(tokens.system)
        writer.content(message.text)
        _declare(writer, message, style.release)
    elif turn.role == "developer":
        if not message.text:
            raise ConversationError(_WHAT, "a developer message has no text", "write one or leave it out")
        writer.control(tokens.user)
        writer.content(message.text)
        _declare(writer, message, style.release)
    else:
        writer.control(tokens.latest_reminder)
        writer.content(message.text)
    _transition(writer, turns, index, style, drops=drops, last_question=last_question)


def _transition(
    writer: "_Writer", turns: Sequence[_Turn], index: int, style: Style, *, drops: bool, last_question: int
) -> None:
    """What stands between a message and the answer after it, if an answer may come."""
    if index + 1 < len(turns) and turns[index + 1].role not in ("assistant", "latest_reminder"):
        return
    tokens, message, role = style.release.tokens, turns[index].message, turns[index].role
    if message.task is not None:
        if message.task == "action":
            writer.control(tokens.assistant)
            writer.control(tokens.think if style.thinking else tokens.think_end)
        writer.control(tokens.tasks[message.task])
    elif role in ("user", "developer"):
        writer.control(tokens.assistant)
        thinks = style.thinking and (not drops or index >= last_question)
        writer.control(tokens.think if thinks else tokens.think_end)


def _answer(writer: "_Writer", message: Message, release: Release, *, reasons: bool) -> None:
    if message.written is not None:
        closed = writer.written(message, reasons=reasons)
    else:
        if reasons:
            writer.content(message.reasoning)
            writer.control(release.tokens.think_end)
        writer.content(message.text)
        if message.tool_calls:
            writer.calls(message.tool_calls)
        closed = True
    if not message.is_open and closed:
        writer.control(release.tokens.end)


def _declare(writer: "_Writer", message: Message, release: Release) -> None:
    if message.tools:
        before, after = tools_frame(release)
        writer.content("\n\n")
        writer.template(before)
        writer.content("\n".join(message.tools))
        writer.template(after)
    if message.response_format is not None:
        writer.content(
            "\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"
            + message.response_format
        )


def _blocks(writer: "_Writer", turn: _Turn, url_mark: str) -> None:
    if not turn.blocks and turn.message.task is None:
        writer.content(turn.message.text)
        return
    blocks = turn.blocks or (_Block(turn.message.text),)
    for number, block in enumerate(blocks):
        if number:
            writer.content("\n\n")
        if block.is_result:
            writer.content(f"<tool_result>{block.text}</tool_result>")
        elif turn.message.task == "read_url" and number == len(blocks) - 1:
            writer.url_question(block.text, url_mark)
        else:
            writer.content(block.text)


def _effort_text(style: Style) -> str:
    effort = style.effort or style.release.default_effort
    if effort not in style.release.efforts:
        raise UnknownRelease(
            _WHAT,
            f"{style.release.title} has no reasoning effort {effort!r}",
            f"choose one of {', '.join(style.release.efforts)}",
        )
    return style.release.efforts[effort]


# --- before rendering -------------------------------------------------------------------------------------


def _fused(messages: Sequence[Message]) -> list[_Turn]:
    """Neighbouring user and tool messages as one turn of a user.

    A user's message does not join one that carries a task, and a task, `is_open` or tools of a message that
    joins are lost: the official encoder does so.
    """
    turns: list[_Turn] = []
    blocks: list[_Block] = []  # of the last turn, if it is a user's: others may join it

    def end_turn() -> None:
        if len(blocks) > 1 or (blocks and blocks[0].is_result):
            turns[-1] = _Turn(turns[-1].message, "user", tuple(blocks))
        blocks.clear()

    for message in messages:
        role = message.role
        if role == "tool":
            if not blocks:
                turns.append(_Turn(_RESULTS, "user"))
            blocks.append(_Block(message.text, is_result=True, call_id=message.tool_call_id))
        elif role == "user" and blocks and turns[-1].message.task is None:
            blocks.append(_Block(message.text))
        else:
            end_turn()
            if role == "user":
                turns.append(_Turn(replace(message, tools=()) if message.tools else message, "user"))
                blocks.append(_Block(message.text))
            else:
                turns.append(_Turn(message, role))
    end_turn()
    return turns


def _sorted_results(turns: Sequence[_Turn]) -> list[_Turn]:
    """Results in the order of the calls they answer; texts between them keep their places."""
    if not any(len(turn.blocks) > 1 for turn in turns):
        return list(turns)
    order: dict[str, int] = {}
    whole: list[_Turn] = []
    for turn in turns:
        if turn.role == "assistant" and turn.message.tool_calls:
            order = {call.id: place for place, call in enumerate(turn.message.tool_calls) if call.id}
        # Ranks by the last calls; a result of no known call ranks first.
        blocks = turn.blocks if order and len(turn.blocks) > 1 else ()
        ranks = [order.get(block.call_id, 0) for block in blocks if block.is_result]
        if len(ranks) > 1:
            results = [block for block in turn.blocks if block.is_result]
            ordered = iter([results[place] for place in sorted(range(len(ranks)), key=ranks.__getitem__)])
            blocks = tuple(next(ordered) if block.is_result else block for block in turn.blocks)
            whole.append(_Turn(turn.message, turn.role, blocks))
        else:
            whole.append(turn)
    return whole


def _without_old_reasoning(turns: Sequence[_Turn]) -> list[_Turn]:
    """Developer messages before the last question disappear; so does reasoning, which rendering leaves out."""
    last_question = _last_question(turns)
    return [turn for index, turn in enumerate(turns) if index >= last_question or turn.role != "developer"]


def _last_question(turns: Sequence[_Turn]) -> int:
    """Index of the last user or developer turn, or -1."""
    return next((i for i in range(len(turns) - 1, -1, -1) if turns[i].role in ("user", "developer")), -1)


# --- writing ----------------------------------------------------------------------------------------------


class _Writer:
    """Collects segments."""

    def __init__(self, release: Release, control: Mapping[str, int]) -> None:
        self._segments: list[Segment] = []
        self._texts: list[str] = []  # since the last segment that is no text
        self._release = release
        self._known = release.tokens.literals()
        self._control = control
        self._tokens: dict[str, Control] = {}

    def segments(self) -> tuple[Segment, ...]:
        """What was written; no two texts stand side by side."""
        self._end_text()
        return tuple(self._segments)

    def control(self, literal: str) -> None:
        """A control token."""
        if self._texts:
            self._end_text()
        self._segments.append(self._tokens.get(literal) or self._token(literal))

    def _token(self, literal: str) -> Control:
        token = self._tokens.get(literal)
        if token is None:
            token = self._tokens[literal] = Control(control_id(self._control, literal), literal)
        return token

    def content(self, text: str) -> None:
        """Text in which nothing is a control token."""
        if text:
            self._texts.append(text)

    def template(self, text: str) -> None:
        """Text of the protocol itself, in which literals are control tokens."""
        for number, piece in enumerate(_divided(text, self._known)):
            if number % 2:
                self.control(piece)
            else:
                self.content(piece)

    def _ids(self, ids: tuple[int, ...], text: str) -> None:
        if ids or text:
            self._end_text()
            self._segments.append(Ids(ids, text))

    def _end_text(self) -> None:
        texts = self._texts
        if texts:
            # A text alone stays the object that it is, whose hash is known.
            self._segments.append(Text(texts[0] if len(texts) == 1 else "".join(texts)))
            self._texts = []

    def calls(self, calls: tuple[ToolCall, ...]) -> None:
        """A block of calls; literals in names, keys and values are text."""
        is_short = sum(len(call.arguments) for call in calls) <= _SHORT
        block = (_short_block if is_short else _block)(calls, self._release)
        self._texts += ["\n\n", block.first]
        self._end_text()
        for literal, text in block.middle:
            self._segments += (self._token(literal), text)
        self._segments.append(self._token(block.last_literal))
        self._texts.append(block.last)

    def url_question(self, text: str, url_mark: str) -> None:
        """A question that ends in `<｜extracted_url｜>` and one URL: there the caller's mark is a token."""
        question, mark, url = text.rpartition(url_mark)
        self.content(question)
        if mark and url and not re.search(r"\s", url):
            self.control(mark)
        else:
            self.content(mark)
        self.content(url)

    def written(self, message: Message, *, reasons: bool) -> bool:
        """The tokens that the model wrote; False when it is still in its reasoning and may go on there."""
        written = message.written
        if written is None:
            raise ValueError("the message has no tokens of its own")
        think_end = self._release.tokens.think_end
        ids, answer = written.ids, written.ids
        thought: tuple[int, ...] = ()
        closed = True
        if written.thinking:
            end_id = control_id(self._control, think_end)
            closed = end_id in ids
            cut = ids.index(end_id) if closed else len(ids)
            thought, answer = ids[:cut], ids[cut + 1 :]
        if reasons:
            self._ids(thought, message.reasoning)
            if not closed and message.is_open:
                return False
            self.control(think_end)
        called = ["\n\n", *call_pieces(message.tool_calls, self._release)] if message.tool_calls else []
        self._ids(answer, "".join([message.text, *called]))
        return True


def control_id(control: Mapping[str, int], literal: str) -> int:
    """The id of a control literal. Raises UnknownRelease for a vocabulary that lacks it."""
    try:
        return control[literal]
    except KeyError:
        raise UnknownRelease(
            _WHAT, f"the model's vocabulary has no token {literal}", "choose a whole DeepSeek-V4 model"
        ) from None


_SHORT = 2000
"""Characters of arguments up to which a block of calls is remembered: it is written again with every turn."""


class _CallBlock(NamedTuple):
    """A block of calls: a text, control literals each with the text after it, and the last of them."""

    first: str
    middle: tuple[tuple[str, Text], ...]
    last_literal: str
    last: str


def _block(calls: tuple[ToolCall, ...], release: Release) -> _CallBlock:
    literals = release.tokens.literals()
    divided: list[str] = [""]
    for number, piece in enumerate(call_pieces(calls, release)):
        first, *rest = (piece,) if number % 2 else _divided(piece, literals)
        divided[-1] += first
        divided += rest
    middle = tuple((divided[at], Text(divided[at + 1])) for at in range(1, len(divided) - 2, 2))
    return _CallBlock(divided[0], middle, divided[-2], divided[-1])


_short_block = lru_cache(maxsize=1024)(_block)


@lru_cache(maxsize=1024)
def _divided(text: str, literals: tuple[str, ...]) -> tuple[str, ...]:
    """`text` cut at `literals`, which are pieces 1, 3, 5, …"""
    longest_first = sorted(literals, key=len, reverse=True)
    return tuple(re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text))
