"""A session's turn whose answer another machine writes: what is asked there, and what is said of it.

Owns: the request made of a stored branch, whether an answer goes on from its beginning or is asked for in words, and
the sentences that are kept with an answer: that the conversation left this machine, that it was gone on with otherwise.
Pure but for asking the remote what it can do. Does not know how an answer is kept (`turn_job`) or sent
(`backends/remote*`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.backends.remote_request import Continuing, RemoteRequest, chosen_sampling
from engine.errors import BadRequest, Retold
from engine.protocol import Message, Sampling, Settings, Tool, Usage
from engine.turn_prompts import v4_messages

if TYPE_CHECKING:
    from engine.backends.remote import RemoteModel
    from engine.store.journal_turns import Turn


class ModeNotThere(Retold, BadRequest):
    """A reasoning mode that the server cannot be asked for, in the sentence that its choice says it with."""


@dataclass(frozen=True)
class RemoteTurn:
    """What is asked. `continuing` None: it is a new answer."""

    request: RemoteRequest
    continuing: Continuing | None
    said: frozenset[str]
    """The notices of the answers above it: whether it was said already that the conversation goes there."""

    def notices(self, place: str, whereabouts: str) -> list[str]:
        """What is kept with the answer once `place` has taken the question."""
        told: list[str] = []
        leaves = f"This answer was written by {place}; the conversation was sent there."
        if whereabouts != "this machine" and leaves not in self.said:
            told.append(leaves)
        if self.continuing == "prefix":
            told.append(f"{place} was given the beginning of this answer and went on with it.")
        elif self.continuing == "asked":
            told.append(
                f"{place} is not known to take the beginning of an answer, so it was asked once more to go on: what "
                "follows may not fit what stands before."
            )
        return told


def turn_of(
    remote: "RemoteModel",
    answer: Message,
    branch: Sequence[Message],
    settings: Settings,
    tools: Sequence[Tool],
    sampling: Sampling,
    max_tokens: int | None,
) -> RemoteTurn:
    """What `answer`, beneath `branch`, is asked with. Raises BadRequest for what the server cannot be asked for."""
    goes_on = bool(answer.text or answer.reasoning)
    choice = next((each for each in remote.modes if each.mode == answer.mode), None)
    if choice is not None and choice.problem is not None and not goes_on:
        raise ModeNotThere(choice.problem)
    if tools and remote.features is not None and remote.features.tools == "no":
        raise BadRequest(
            "The question was not sent",
            f"this conversation has tools, and {remote.place} refuses them",
            "take the tools away, or load another model",
        )
    request = RemoteRequest(
        messages=v4_messages(settings.system_message, tools, branch, {}, remote.id),
        functions=[tool.function for tool in tools],
        sampling=chosen_sampling(sampling, settings),
        max_tokens=max_tokens,
        mode=answer.mode,
        so_far=answer.text,
        reasoning_so_far=answer.reasoning,
    )
    return RemoteTurn(
        request,
        remote.body(request).continuing if goes_on else None,
        said=frozenset(notice for each in branch for notice in each.notices),
    )


def usage_with(usage: Usage | None, before: "Turn | None") -> Usage | None:
    """With what the answer had cost before it went on."""
    earlier = before.ended.usage if before is not None and before.ended is not None else None
    if usage is None or usage.cost is None or earlier is None or earlier.cost is None:
        return usage
    if earlier.currency != usage.currency:
        return usage
    return usage.model_copy(update={"cost": usage.cost + earlier.cost})
