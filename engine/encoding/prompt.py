"""From a conversation to token ids.

Owns: keeping what people write apart from control tokens. Text in a message never becomes a control token:
its literals are shielded by characters that occur nowhere else while the template is rendered, the result is
split at the control tokens that the template wrote, and the rest is tokenised as plain text. Does not know
how a template is run (`chat_template`) or how a backend tokenises.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from engine.backends.base import Backend, ModelFacts
from engine.conversation import Message
from engine.encoding.chat_template import TemplateRefusal, compile_template, require_template
from engine.errors import ChatTemplateError

# In an answer these are the model's own marks around its reasoning, by which templates drop old reasoning.
# They are no border between messages, so leaving them to the template lets nobody speak for another.
REASONING_MARKS = frozenset(("<think>", "</think>"))

# Private use first; the rest is for a text that holds all of that.
_PLACEHOLDER_CODES = (range(0xE000, 0xF900), range(0xF0000, 0x110000), range(0x10000, 0xF0000))


@dataclass(frozen=True)
class Control:
    """A control token that the template wrote."""

    token_id: int


@dataclass(frozen=True)
class Text:
    """Plain text between control tokens; not empty."""

    text: str


def encode_chat(backend: Backend, messages: Sequence[Message]) -> list[int]:
    """Token ids of the conversation, up to where the next answer begins. Raises ChatTemplateError.

    Where a template does not accept a system message (it says so with `raise_exception`), its text is put
    before the first question instead.
    """
    try:
        parts = segments(backend.facts, messages)
    except TemplateRefusal:
        merged = _without_system(messages)
        if merged is None:
            raise
        parts = segments(backend.facts, merged)
    ids: list[int] = []
    for part in parts:
        if isinstance(part, Control):
            ids.append(part.token_id)
        else:
            ids += backend.tokenize(part.text)
    return ids


def segments(facts: ModelFacts, messages: Sequence[Message]) -> list[Control | Text]:
    """The rendered conversation as control tokens and text. Raises ChatTemplateError."""
    source = require_template(facts.chat_template)
    literals = _literals(facts.control_tokens)
    shield = _Shield(source, messages, literals)
    rendered = compile_template(source).render(
        [{"role": message.role, "content": shield.put_on(message)} for message in messages],
        {
            "add_generation_prompt": True,
            "bos_token": facts.begin_token_text,
            "eos_token": facts.end_token_text,
            "tools": None,
            "documents": None,
        },
    )
    parts = list(_split(rendered, literals, facts.control_tokens, shield))
    if facts.begin_token_id is not None and parts[:1] != [Control(facts.begin_token_id)]:
        parts.insert(0, Control(facts.begin_token_id))
    if not parts:
        raise ChatTemplateError(
            "The model's chat template could not be used", "it wrote nothing", "choose another model"
        )
    return parts


def _literals(control_tokens: Mapping[str, int]) -> re.Pattern[str] | None:
    """Matches any control token's text, the longest first; None when there are none."""
    texts = sorted(filter(None, control_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def _split(
    rendered: str,
    literals: re.Pattern[str] | None,
    control_tokens: Mapping[str, int],
    shield: "_Shield",
) -> Iterator[Control | Text]:
    end = 0
    for match in literals.finditer(rendered) if literals else ():
        if match.start() > end:
            yield Text(shield.take_off(rendered[end : match.start()]))
        yield Control(control_tokens[match.group()])
        end = match.end()
    if end < len(rendered):
        yield Text(shield.take_off(rendered[end:]))


class _Shield:
    """Replaces each control literal in messages by a character that neither they nor the template hold."""

    def __init__(self, template: str, messages: Sequence[Message], literals: re.Pattern[str] | None) -> None:
        self._literals = literals
        found = {
            text for message in messages for text in (literals.findall(message.text) if literals else ())
        }
        self._placeholders: dict[str, str] = {}
        if found:
            taken = set(template).union(*(message.text for message in messages))
            free = (chr(code) for code in chain(*_PLACEHOLDER_CODES) if chr(code) not in taken)
            self._placeholders = dict(zip(sorted(found), free, strict=False))
        self._originals = {ord(placeholder): text for text, placeholder in self._placeholders.items()}

    def put_on(self, message: Message) -> str:
        """The message's text with its control literals hidden."""
        if self._literals is None or not self._placeholders:
            return message.text

        def replacement(match: re.Match[str]) -> str:
            text = match.group()
            left_alone = message.role == "assistant" and text in REASONING_MARKS
            return text if left_alone else self._placeholders[text]

        return self._literals.sub(replacement, message.text)

    def take_off(self, text: str) -> str:
        """`text` with what was hidden in it."""
        return text.translate(self._originals) if self._originals else text


def _without_system(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation with its leading system message put before the first question, or None without one."""
    if len(messages) < 2 or messages[0].role != "system" or messages[1].role != "user":
        return None
    merged = Message("user", f"{messages[0].text}\n\n{messages[1].text}")
    return [merged, *messages[2:]]
