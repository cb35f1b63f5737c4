"""A conversation as Markdown that reads well: title, date, model, questions, answers, calls and their results.

Owns: that text (CommonMark with `<details>`), and that nothing in a message can break out of its place: what a person
or a tool wrote is quoted or fenced; what an answer leaves open is closed behind it, or the answer is quoted too. Pure.
Shows the branch that is shown, and says how many messages stand in others; the whole tree is in the JSON
(`export_json`).
"""

import datetime
import re
from collections.abc import Iterator

from engine.protocol import Message, Session, ToolCall

_FENCE = re.compile(r"(`{3,}|~{3,})(.*)")
_BACKTICKS = re.compile(r"`+")
_LINE_ENDS = re.compile(r"\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_MODES = {"non-think": "without reasoning", "high": "reasoning high", "max": "reasoning max"}
_STATUS = {"interrupted": "cut off", "failed": "failed", "running": "being written"}


def markdown_of(session: Session) -> str:
    """The session's shown branch as Markdown, with a line end behind the last line."""
    branch = shown_branch(session)
    models = list(dict.fromkeys(each.model_id for each in branch if each.model_id))
    facts = [f"Date: {_date(session.summary.created_at)}"]
    if models:
        facts.append(f"Model: {', '.join(_span(each) for each in models)}")
    modes = list(dict.fromkeys(_MODES[each.mode] for each in branch if each.mode))
    if modes:
        facts.append(f"Mode: {', '.join(modes)}")
    if others := len(session.messages) - len(branch):
        facts.append(f"Other versions: {others} message{'s' if others > 1 else ''} not in this file")
    blocks = [
        f"# {_heading(session.summary.title) or 'Conversation'}",
        "\n".join(f"- {each}" for each in facts),
    ]
    names: dict[str, str] = {}
    for message in branch:
        blocks += _message(message, names)
    return "\n\n".join(blocks) + "\n"


def shown_branch(session: Session) -> list[Message]:
    """From the root to the leaf that is shown."""
    by_id = {message.id: message for message in session.messages}
    branch: list[Message] = []
    place = session.leaf_id
    while place is not None and (message := by_id.pop(place, None)) is not None:
        branch.append(message)
        place = message.parent_id
    return branch[::-1]


def fenced(text: str, info: str = "") -> str:
    """`text` as a code block that nothing in it can end: its fence is longer than any in the text."""
    longest = max((len(each) for each in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{info}\n{_lines(text)}\n{fence}"


def _message(message: Message, names: dict[str, str]) -> Iterator[str]:
    """Its blocks. `names`: of the calls so far, by id."""
    if message.role == "tool":
        name = names.get(message.tool_call_id or "")
        yield f"**Result of {_span(name)}**" if name else "**Result**"
        yield fenced(message.text)
    elif message.role == "assistant":
        names |= {call.id: call.name for call in message.tool_calls}
        yield "## Answer"
        yield from _answer(message)
    else:
        yield "## Question" if message.role == "user" else "## Instructions"
        yield _quoted(message.text)


def _answer(message: Message) -> Iterator[str]:
    if message.reasoning:
        thought = message.thought
        took = f", {thought.tokens:,} tokens, {thought.elapsed_s:.0f} s" if thought else ""
        yield f"<details>\n<summary>Reasoning{took}</summary>"
        yield fenced(message.reasoning, "text")
        yield "</details>"
    if message.text:
        yield _placed(message.text)
    for call in message.tool_calls:
        yield from _call(call)
    if message.unfinished_call:
        yield "**Call that was not finished**"
        yield fenced(message.unfinished_call)
    notes = [*message.notices]
    if message.status != "complete":
        why = f": {message.error.text}" if message.error else ""
        notes.append(f"This answer was {_STATUS[message.status]}{why}")
    elif message.finish_reason == "length":
        notes.append("This answer ended at its limit of tokens")
    elif message.finish_reason == "cancelled":
        notes.append("This answer was stopped")
    for note in notes:
        yield f"*{_heading(note)}*"


def _call(call: ToolCall) -> Iterator[str]:
    rejected = ", which was rejected" if call.status == "rejected" else ""
    yield f"**Call of {_span(call.name)}**{rejected}"
    yield fenced(call.arguments, "json")
    if call.problem:
        yield f"*{_heading(call.problem)}*"


def _quoted(text: str) -> str:
    """A block quote: what is left open in it ends with it."""
    return "\n".join(f"> {line}".rstrip(" ") for line in _lines(text).split("\n"))


def _placed(text: str) -> str:
    """An answer's text, with a code block that it leaves open closed behind it.

    Quoted where it may hold open what only a parser of Markdown could tell: HTML, and code blocks in lists.
    """
    fence = ""
    for line in _lines(text).split("\n"):
        if fence:
            indent = len(line) - len(line.lstrip(" "))
            found = _FENCE.fullmatch(line.lstrip(" ")) if indent <= 3 else None
            if (
                found
                and found[1][0] == fence[0]
                and len(found[1]) >= len(fence)
                and not found[2].strip(" \t")
            ):
                fence = ""
            continue
        found = _FENCE.fullmatch(line)
        if found and not (found[1][0] == "`" and "`" in found[2]):
            fence = found[1]
        elif "```" in line or "~~~" in line or line.lstrip().startswith("<"):
            return _quoted(text)
    return "\n".join([_lines(text), fence] if fence else [_lines(text)])


def _lines(text: str) -> str:
    """With the same end on each line; what some programs take for one is one."""
    return _LINE_ENDS.sub("\n", text)


def _span(text: str) -> str:
    """`text` as code within a line."""
    line = " ".join(text.split()) or " "
    longest = max((len(each) for each in _BACKTICKS.findall(line)), default=0)
    ticks = "`" * (longest + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{space}{line}{space}{ticks}"


def _heading(text: str) -> str:
    """Text on one line, in which no character means anything to Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", " ".join(text.split()))


def _date(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
