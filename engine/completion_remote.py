"""How the answer to a program's request comes about when another machine writes it.

Owns: what of the request is passed on, what cannot be and is refused, and what of the answer the client is told. Does
not know who asks in which dialect, nor how the other machine is spoken to (`backends/remote*`).
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from engine.access.key_limits import AnswerLimits
from engine.answer_form import AnswerForm
from engine.backends.remote_request import RemoteRequest, chosen_sampling
from engine.completion_news import CompletionEnd, Reasoning
from engine.encoding.dialects import reattach
from engine.encoding.tool_schemas import schema_problem
from engine.errors import BadRequest, SeamountError
from engine.protocol import Message as StoredMessage
from engine.protocol import Thought, ToolCall, Usage
from engine.remote_answer import Part, RemoteAnswer

if TYPE_CHECKING:
    from engine.backends.remote import RemoteModel
    from engine.completion_answer import Asking
    from engine.completions import CallMemory

_logger = logging.getLogger(__name__)
_NOTHING_YET = StoredMessage(
    id="", parent_id=None, role="assistant", text="", status="running", created_at=0.0
)
_NO_USAGE = Usage(
    prompt_tokens=0,
    reused_tokens=0,
    generated_tokens=0,
    context_tokens=0,
    first_token_s=0.0,
    prefill_rate=0.0,
    generation_rate=0.0,
    seed=0,
)


def answer_remotely(remote: "RemoteModel", asking: "Asking") -> None:
    """Have the answer written there and tell it, its end included. Raises SeamountError."""
    asked, memory = asking.request, asking.memory
    _require_passable(asking)
    limits = AnswerLimits(asked.caller.limits)
    messages = list(reattach(asked.messages, memory.recall) if memory else asked.messages)
    so_far = reasoning_so_far = ""
    if messages and messages[-1].role == "assistant" and messages[-1].is_open:
        last = messages.pop()
        so_far, reasoning_so_far = last.text, last.reasoning
    request = RemoteRequest(
        messages=messages,
        functions=asked.tools,
        sampling=chosen_sampling(asked.sampling, asking.settings()),
        max_tokens=limits.tokens(asked.max_tokens),
        stop=asked.stop,
        effort=asked.effort,
        form=asked.form,
        so_far=so_far,
        reasoning_so_far=reasoning_so_far,
        text=asked.text,
        frequency_penalty=asked.frequency_penalty,
        presence_penalty=asked.presence_penalty,
    )
    if (so_far or reasoning_so_far) and remote.body(request).continuing != "prefix":
        raise BadRequest(
            "The answer cannot be gone on with",
            f"{remote.place} is not known to take the beginning of an answer",
            "send the conversation without it",
        )
    limits.check_length(_length(remote, request))
    keeper = _Keeper(asking)
    answer = RemoteAnswer(keeper, functions=asked.tools, stored=_NOTHING_YET)
    limits.begin()
    outcome = remote.answer(request, answer.take, lambda: asking.cancelled.is_set() or limits.is_over())
    if outcome.reason == "cancelled" and limits.ran_out and not asking.cancelled.is_set():
        outcome = replace(outcome, reason="length", notices=(*outcome.notices, limits.notice))
    end = answer.end(outcome.reason, outcome.reasoning_tokens)
    calls = tuple(call for call in end.tool_calls if call.status != "rejected")
    # Without tools no prompt has earlier reasoning, so an answer has a name of its own only with them.
    names = [*([asked.kept_as] if asked.kept_as and asked.tools else []), *(call.id for call in calls)]
    if names and memory:
        try:
            _remember(memory, names, "".join(keeper.reasoning))
        except SeamountError as error:  # the answer is whole without it
            _logger.warning("%s", error.text)
    problems = (call.problem for call in end.tool_calls if call.problem)
    reasons: dict[str, Literal["stop", "length", "cancelled", "tool_calls"]] = {
        "length": "length",
        "cancelled": "cancelled",
        "tool_calls": "tool_calls",
    }
    asking.tell(
        CompletionEnd(
            "tool_calls" if calls else reasons.get(end.reason, "stop"),
            outcome.usage or _NO_USAGE,
            calls,
            (
                *outcome.notices,
                *limits.counted(remote.place, outcome.usage.prompt_tokens if outcome.usage else 0),
                *problems,
                *_form_notices(remote.place, asked.form, keeper.texts, calls, end.reason),
            ),
            reasoning_tokens=outcome.reasoning_tokens,
        )
    )


def _length(remote: "RemoteModel", request: RemoteRequest) -> int:
    """How much is read there, in bytes of UTF-8."""
    content = remote.body(request).content
    read = [content[name] for name in ("messages", "tools", "prompt") if name in content]
    return len(json.dumps(read, ensure_ascii=False).encode("utf-8", "replace"))


def _remember(memory: "CallMemory", names: Sequence[str], reasoning: str) -> None:
    """Keep the reasoning by these names.

    Some servers number the calls of each answer anew. An id that has stood before a call already, behind other
    reasoning, tells nothing any more, and what another conversation thought must not come into this one.
    """
    known = memory.recall(names)
    doubtful = [name for name in names if name in known and known[name][0] != reasoning]
    certain = [name for name in names if name not in doubtful]
    if certain:
        memory.remember_calls(certain, reasoning, [])
    if doubtful:
        memory.remember_calls(doubtful, "", [])


def _require_passable(asking: "Asking") -> None:
    """Raises BadRequest for what another machine cannot be told, or what would not come back."""
    asked = asking.request
    if asked.top_logprobs is not None:
        why = "the model runs on another machine, whose probabilities are not passed on"
    elif asked.logit_bias:
        why = "the model runs on another machine, and `logit_bias` counts tokens as this one does"
    else:
        return
    raise BadRequest("The request was refused", why, "leave it out, or load a model of this machine")


def _form_notices(
    place: str, form: AnswerForm, texts: Sequence[str], calls: Sequence[ToolCall], reason: str
) -> list[str]:
    """Whether the other machine kept to the form that was passed on to it: this one can only look."""
    if reason not in ("stop", "tool_calls"):
        return []
    if form.calls in ("required", "named") and not calls:
        return [f"{place} was told that a call has to be made, and made none that can be carried out."]
    if form.json_schema is None or calls:
        return []
    problem = schema_problem("".join(texts), json.loads(form.json_schema))
    return [] if problem is None else [f"{place} did not keep to the form that was asked for: {problem}."]


class _Keeper:
    """What `RemoteAnswer` sees of a completion: calls wait for the end."""

    def __init__(self, asking: "Asking") -> None:
        self.reasoning: list[str] = []
        self.texts: list[str] = []
        self._asking = asking

    def keep(self, text: str, token_ids: Sequence[int], part: Part) -> None:
        """A piece goes to the client."""
        self._asking.wrote(len(token_ids))
        if part == "text":
            self.texts.append(text)
            self._asking.tell(text)
        elif part == "reasoning":
            self.reasoning.append(text)
            self._asking.tell(Reasoning(text))

    def keep_thought(self, thought: Thought) -> None:
        """No client of a dialect asks for it."""

    def tell(self, event: object) -> None:
        """The pieces were told when they were kept."""
