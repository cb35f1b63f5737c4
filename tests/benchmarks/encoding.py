"""What V4's encoding costs: a long conversation written again, and the parser while an answer streams.

Both are work of the processor alone; no model is loaded. Each figure is a median of repeated runs in one
process; the two sides of the first take turns.
"""

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from engine.conversation import Message, ToolCall
from engine.encoding.completion_parser import CompletionParser
from engine.encoding.dsml import render_calls
from engine.encoding.release import release
from engine.encoding.segments import TextIds, ids_of
from engine.encoding.tokenizer import official_tokenizer
from engine.encoding.v4_prompt import Style, render

MESSAGES = 1000
AGAIN_WANTED = 0.05
PARSER_WANTED_US = 20.0
ROUNDS = 9
PARAGRAPH = (
    "## A heading\n\nSome *emphasis*, some **strength**, some `code` and a [link](https://example.org) in a "
    "paragraph that goes on for a while, as they do.\n\n- one\n- two\n  - three\n\n"
    "```python\ndef depth(metres: float) -> str:\n    return f'{metres:.1f} m'  # below the surface\n```\n\n"
    "| fish | depth |\n|---|---|\n| cod | 200 |\n| angler | 1000 |\n\n"
)
TOOL = json.dumps(
    {"name": "search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}
)


def plain_conversation() -> list[Message]:
    """Questions and answers with their reasoning."""
    messages: list[Message] = []
    for n in range(MESSAGES // 2):
        answer = Message("assistant", f"{n}. {PARAGRAPH}", f"So, {n}. {PARAGRAPH}")
        messages += [Message("user", f"Question {n}: and then?"), answer]
    return messages


def tool_conversation() -> list[Message]:
    """The same with a call and its result in every turn."""
    messages = [Message("system", "You look things up.", tools=(TOOL,))]
    for n in range((MESSAGES - 1) // 4 + 1):
        call = ToolCall("search", json.dumps({"query": f"how deep is fish {n}?"}), f"call-{n}")
        messages += [
            Message("user", f"Question {n}: and then?"),
            Message("assistant", "", f"I should look {n} up. {PARAGRAPH}", (call,)),
            Message("tool", f"{PARAGRAPH} {n}", tool_call_id=call.id),
            Message("assistant", f"{n}. {PARAGRAPH}", "That is clear."),
        ]
    return messages[:MESSAGES]


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def again(name: str, messages: list[Message]) -> bool:
    """Encoding a conversation whose last message changed, against encoding it whole."""
    tokenizer = official_tokenizer()
    style = Style(release("preview"), thinking=True)

    def encode(last: str, text_ids: TextIds) -> int:
        changed = [*messages[:-1], dataclasses.replace(messages[-1], text=last)]
        return len(ids_of(render(changed, style, tokenizer.control).segments, text_ids))

    warm = TextIds(tokenizer.encode)
    tokens = encode("first", warm)
    whole: list[float] = []
    once_more: list[float] = []
    for number in range(ROUNDS):
        whole.append(_seconds(lambda: encode("whole", TextIds(tokenizer.encode))))
        once_more.append(_seconds(lambda number=number: encode(f"{PARAGRAPH}{number}", warm)))
    ratio = statistics.median(once_more) / statistics.median(whole)
    print(
        f"encoding {len(messages)} messages {name} ({tokens:,} tokens) whose last one changed: "
        f"{statistics.median(once_more) * 1000:.1f} ms, whole {statistics.median(whole) * 1000:.0f} ms, "
        f"ratio {ratio:.3f} (wanted ≤ {AGAIN_WANTED})"
    )
    return ratio <= AGAIN_WANTED


def parser() -> bool:
    """Microseconds of the incremental parser for each token of an answer with reasoning, text and a call."""
    chosen, tokenizer = release("preview"), official_tokenizer()
    code = json.dumps({"path": "depth.py", "content": PARAGRAPH * 10, "lines": list(range(50))})
    calls = render_calls([ToolCall("write_file", code)], chosen)
    text = f"{PARAGRAPH * 5}</think>{PARAGRAPH * 5}\n\n{calls}{chosen.tokens.end}"
    pieces = [tokenizer.token_bytes(id_).decode("utf-8", "replace") for id_ in tokenizer.encode_parsing(text)]
    times: list[float] = []
    slowest: list[float] = []
    for _ in range(ROUNDS):
        one = CompletionParser(chosen, thinking=True)
        spent = [_seconds(partial(one.feed, piece)) for piece in pieces]
        completion = one.finish()
        assert not completion.problems and len(completion.calls) == 1
        times.append(statistics.mean(spent) * 1e6)
        slowest.append(max(spent) * 1e6)
    median = statistics.median(times)
    print(
        f"parsing an answer of {len(pieces):,} tokens as it comes: {median:.1f} µs a token (median of {ROUNDS} "
        f"answers; the slowest token {statistics.median(slowest):.0f} µs; wanted ≤ {PARSER_WANTED_US:.0f})"
    )
    return median <= PARSER_WANTED_US


def main() -> bool:
    """Print the figures; True when all hold."""
    held = [again("without tools", plain_conversation()), again("with tools", tool_conversation()), parser()]
    return all(held)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
