"""What the window says while nothing is being written: about the engine, the model, and an empty page.

Owns: the words. Pure; knows no widget and changes nothing.
"""

import re

from app.engine_watch import EngineState
from app.model_shelf import ModelShelf
from app.quantities import duration, expert_words, rate, token_count
from app.remote_words import cost_words
from app.transcript_model import ShownCall, ShownMessage
from engine.protocol import Message, Usage

STATE_WORDS = {
    EngineState.LOOKING: "Looking for the engine…",
    EngineState.STARTING: "Starting the engine…",
    EngineState.CONNECTING: "Connecting to the engine…",
    EngineState.STOPPED: "The engine is not running",
}
AT_ONCE_S = 0.05


def resting_words(
    state: EngineState, shelf: ModelShelf, held: bool, answer: Message | None, work: str | None = None
) -> str:
    """The status line. `held`: a message waits for the engine. `answer`: the last one shown. `work`: EngineWatch's."""
    if state != EngineState.READY:
        words = f"{work[:1].upper()}{work[1:]}; this may take minutes" if work else STATE_WORDS[state]
        return words + ("; your message is sent when it is ready" if held else "")
    status = shelf.status
    if shelf.loading_id:
        words = f"Loading {shelf.name(shelf.loading_id) or 'the model'}"
        if status and status.loading_fraction is not None:
            words += f", {status.loading_fraction:.0%}"
        return words
    if status and status.model is None:
        return "No model is loaded"
    return (usage_words(answer.usage) if answer and answer.usage else "") or "Ready"


def usage_words(usage: Usage) -> str:
    """What an answer cost, as far as it can be told; "" for one that has no token."""
    if not usage.generated_tokens:
        return ""
    words = [token_count(usage.generated_tokens)]
    if usage.generation_rate:
        words.append(rate(usage.generation_rate))
    if usage.disk_bytes_per_token is not None and usage.experts_in_memory is not None:
        words += expert_words(usage.disk_bytes_per_token, usage.experts_in_memory)
    at_once = usage.first_token_s < AT_ONCE_S
    if cost := cost_words(usage):
        words.append(cost)
    words.append(f"first token {'at once' if at_once else f'after {duration(usage.first_token_s)}'}")
    return " · ".join(words)


def empty_page(shelf: ModelShelf) -> tuple[str, str]:
    """Title and text of a page without messages: what can be done from here."""
    if shelf.known and not any(entry.problem is None for entry in shelf.entries):
        return (
            "Add a model to talk to",
            "Drop a GGUF file onto this window, or choose one with Ctrl+O. It stays where it lies.",
        )
    keys = "Ctrl+M chooses another model, F1 shows every key."
    if shelf.place is not None:
        where = f"What you write is sent to {shelf.place.host}.\n"
    elif shelf.loaded_id or shelf.loading_id:
        where = "The model runs on this computer, and what you write stays here.\n"
    else:
        where = ""  # nobody knows yet which model will answer
    return "What is on your mind?", where + keys


def empty_list(query: str) -> str:
    """What stands in the list of conversations when it has none."""
    if query:
        return f"Nothing holds “{query}”. Titles and messages were searched; Esc shows all again."
    return "Conversations are kept here."


def conversation_markdown(branch: list[ShownMessage]) -> str:
    """A conversation as Markdown, to be pasted elsewhere: questions, answers, calls and results, no reasoning."""
    names = {"user": "You", "assistant": "Model"}
    parts: list[str] = []
    for message in branch:
        if message.text or not message.calls:
            parts.append(f"**{names[message.role]}**\n\n{message.text}")
        parts.extend(_call_markdown(call) for call in message.calls)
    return "\n\n".join(parts) + "\n"


def _call_markdown(call: ShownCall) -> str:
    parts: list[str] = []
    if call.name:
        fate = {"rejected": ", not carried out", "writing": ", unfinished"}.get(call.status, "")
        parts.append(f"**Call of `{call.name}`{fate}**\n\n{_fenced(call.arguments, 'json')}")
    if call.result is not None:
        parts.append(f"**Result**\n\n{_fenced(call.result, '')}")
    return "\n\n".join(parts)


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
