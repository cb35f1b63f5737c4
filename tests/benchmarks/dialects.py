"""What a public dialect's stream costs for each token, over the engine's bare generation loop.

The starter model decodes for real, greedily, with the same number of threads. The bare loop (`generation.generate` over
an open backend, whose text nobody takes) runs in a process of its own; each dialect's stream runs through a real engine
to a client of this process. Before every stream there is a bare run, each `TOKENS` tokens long; what runs not is
blocked on its pipe or its socket. Two figures are taken from the first token to the last: the seconds on the clock, and
the processor seconds that the process itself took, all its threads together, so that work on the event loop's thread
counts as well. The overhead is the median, over all pairs, of a stream's figure over that of the bare run before it,
less one.

The processor's figure is the one that has to hold: other work on the machine disturbs it less. It is not free of it.
Text that is written faster than `completion_answer.GROUP_S` goes together, as the starter model's does where it has a
processor to itself; where other work stretches every token beyond that, each goes alone, through caches that others
have filled, and costs more. So the load is printed with the figures.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from engine.backends.opening import open_backend
from engine.contexts.context import BareContext
from engine.conversation import Message
from engine.encoding.prompt import encode_chat
from engine.generation import GenerationRequest, NewText, generate
from engine.library.models import ModelLibrary
from engine.paths import DataFolder
from engine.placement.planner import Wishes
from engine.protocol import Sampling
from tests.benchmarks.streaming import start_engine, wait_for_model

TOKENS = 128
ROUNDS = 8
MOST_OVERHEAD = 0.03
CONTEXT_TOKENS = 8192
MODEL = "starter"
QUESTION = "Write a long story about a ship that sails to the south and does not come back."
BEGINNING = "Once upon a time there was a ship that sailed to the south. Its captain was an old woman, and"
GREEDY = {"temperature": 0, "top_p": 1, "min_p": 0}


@dataclass(frozen=True)
class Span:
    """From the first token to the last: how many came behind the first, and seconds of the clock and processor."""

    tokens: int
    clock_s: float
    processor_s: float


# --- the bare loop, in a process of its own ---------------------------------------------------------------


def bare(path: str, threads: int) -> None:
    """Run the loop whenever a line comes, and print what it took."""
    entry = next(entry for entry in ModelLibrary(DataFolder(Path(path))).entries() if entry.id == MODEL)
    wishes = Wishes(context_tokens=CONTEXT_TOKENS, threads=threads)
    backend = open_backend(entry, wishes=wishes, on_progress=lambda _fraction: True)
    prompt = tuple(encode_chat(backend, [Message("user", QUESTION)]))
    request = GenerationRequest(prompt, Sampling(seed=7, **GREEDY), TOKENS)
    print(json.dumps({"threads": backend.facts.threads}), flush=True)
    for _ in sys.stdin:
        marks: list[tuple[float, float]] = []

        def emit(event: object, marks: list[tuple[float, float]] = marks) -> None:
            if isinstance(event, NewText):
                marks.append((time.perf_counter(), time.process_time()))

        outcome = generate(BareContext(backend), request, emit, lambda: False)
        told = [outcome.usage.generated_tokens - 1, marks[-1][0] - marks[0][0], marks[-1][1] - marks[0][1]]
        print(json.dumps(told), flush=True)


# --- the dialects -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialect:
    """How a stream is asked for, whether an event brings text, and the tokens that its usage counts (0: none yet)."""

    path: str
    body: dict[str, Any]
    has_text: Callable[[Any], bool]
    tokens: Callable[[Any], int]


def _chat_text(event: Any) -> bool:
    return bool(event["choices"] and event["choices"][0]["delta"].get("content"))


def _usage(event: Any) -> int:
    return (event.get("usage") or {}).get("completion_tokens", 0)


_MESSAGES = [{"role": "user", "content": QUESTION}]
_COUNTED = {"stream_options": {"include_usage": True}}
DIALECTS = {
    "chat": Dialect(
        "/v1/chat/completions",
        {"messages": _MESSAGES, "max_tokens": TOKENS, **_COUNTED, **GREEDY},
        _chat_text,
        _usage,
    ),
    "completions": Dialect(
        "/v1/completions",
        {"prompt": BEGINNING, "max_tokens": TOKENS, **_COUNTED, **GREEDY},
        lambda event: bool(event["choices"] and event["choices"][0]["text"]),
        _usage,
    ),
    "responses": Dialect(
        "/v1/responses",
        {"input": QUESTION, "max_output_tokens": TOKENS, "temperature": 0, "top_p": 1},
        lambda event: event["type"] == "response.output_text.delta",
        lambda event: (event.get("response", {}).get("usage") or {}).get("output_tokens", 0),
    ),
    "messages": Dialect(
        "/v1/messages",
        {"messages": _MESSAGES, "max_tokens": TOKENS, "temperature": 0},
        lambda event: event["type"] == "content_block_delta",
        lambda event: (
            event.get("usage", {}).get("output_tokens", 0) if event["type"] == "message_delta" else 0
        ),
    ),
}


def _events(reply: httpx.Response) -> Iterator[Any]:
    for line in reply.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line[6:])


def stream(client: httpx.Client, process: psutil.Process, dialect: Dialect) -> Span:
    """One answer by a dialect."""
    marks: list[tuple[float, float]] = []
    tokens = 0
    body = {"model": MODEL, "stream": True, **dialect.body}
    with client.stream("POST", dialect.path, json=body, timeout=300) as reply:
        reply.raise_for_status()
        for event in _events(reply):
            if dialect.has_text(event):
                marks.append((time.perf_counter(), _processor_s(process)))
            tokens = dialect.tokens(event) or tokens
    assert marks, f"{dialect.path} brought no text"
    # What the engine keeps of the conversation behind the last token is no part of the stream.
    return Span(tokens - 1, marks[-1][0] - marks[0][0], marks[-1][1] - marks[0][1])


def _processor_s(process: psutil.Process) -> float:
    """Of all its threads, by the nanosecond where Linux tells it."""
    try:
        threads = [task / "schedstat" for task in Path(f"/proc/{process.pid}/task").iterdir()]
        return sum(int(each.read_text().split()[0]) for each in threads) / 1e9
    except (OSError, IndexError, ValueError):
        times = process.cpu_times()
        return times.user + times.system


def main() -> bool:
    """Print the figures; True when every dialect's overhead in processor time is at most MOST_OVERHEAD."""
    with TemporaryDirectory() as scratch:
        folder = DataFolder(Path(scratch))
        process, address = start_engine(folder, "--model", MODEL)
        headers = {"Authorization": f"Bearer {address.key}"}
        with httpx.Client(base_url=address.url, headers=headers, trust_env=False) as client:
            threads = wait_for_model(client)
            peer = subprocess.Popen(
                [sys.executable, "-m", "tests.benchmarks.dialects", "bare", scratch, str(threads)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert peer.stdin and peer.stdout
            peer.stdout.readline()
            engine = psutil.Process(address.pid)
            bare_ms: list[float] = []
            clock: dict[str, list[float]] = {name: [] for name in DIALECTS}
            processor: dict[str, list[float]] = {name: [] for name in DIALECTS}
            for number in range(ROUNDS + 1):
                for name, dialect in DIALECTS.items():
                    peer.stdin.write("\n")
                    peer.stdin.flush()
                    base = Span(*json.loads(peer.stdout.readline()))
                    span = stream(client, engine, dialect)
                    assert span.tokens >= TOKENS // 2, f"{name} ended after {span.tokens} tokens"
                    if number:  # the first round warms everything up
                        clock[name].append(span.clock_s / span.tokens / (base.clock_s / base.tokens) - 1)
                        processor[name].append(
                            span.processor_s / span.tokens / (base.processor_s / base.tokens) - 1
                        )
                        bare_ms.append(base.processor_s / base.tokens * 1000)
            peer.stdin.close()
            peer.wait(timeout=30)
        process.terminate()
    held, load = True, psutil.getloadavg()[0]
    for name in DIALECTS:
        overhead = statistics.median(processor[name])
        held &= overhead <= MOST_OVERHEAD
        print(
            f"dialects, {name}: {overhead:+.1%} processor time for each token over the bare loop "
            f"({statistics.median(bare_ms):.2f} ms, {threads} thread(s)), "
            f"{statistics.median(clock[name]):+.1%} on the clock, load {load:.1f} on {psutil.cpu_count()} "
            f"processors (wanted ≤ {MOST_OVERHEAD:.0%})"
        )
    return held


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(0 if main() else 1)
