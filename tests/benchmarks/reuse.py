"""What of a long conversation with a V4 model is read again, and what it costs to keep what spares it.

A small model of seeded weights is converted, and a conversation of `PROMPT_TOKENS` is held with it through the
engine's own interface, thinking, so that every next turn leaves out the reasoning of the last: the case in which
V4's memory has to go back. Told are the tokens read for the first turn, for another answer to it, for a second
turn and for another answer to that, and the time to the first token of each (medians; every round is a
conversation of its own). Then the same prompt is read by two contexts in turn, one that keeps states and one
that does not: the ratio of the medians is what keeping them costs, on a model whose states are large for what it
computes (0.4 MB for 512 tokens of 5 small layers; Flash's are 18 MB for 43 of its own). Both have one thread, and
its processor time is taken, which other work on the machine disturbs less.
"""

import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from convert.conversion import convert
from engine.backends.llamacpp import LlamaCppBackend
from engine.paths import DataFolder
from tests.benchmarks.streaming import start_engine, wait_for_model
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import read_events

PROMPT_TOKENS = 20_000
CONTEXT_TOKENS = 24_576
MOST_READ = 300
ROUNDS = 5
COSTLY = 1.05
"""Keeping states may cost a twentieth of the reading at most."""
SENTENCE = "The deep sea begins where the light of day ends, and it is older than the land. "
TURN = {
    "mode": "high",
    "thinking_tokens": 30,
    "max_tokens": 120,
    "sampling": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 4},
}
Told = tuple[int, float]
"""Tokens read, and seconds to the first token."""


def _turn(client: httpx.Client, turn: dict[str, Any]) -> tuple[Any, Told]:
    begun = client.post("/api/turns", json={"turn": turn, **TURN}).raise_for_status().json()
    with client.stream("GET", f"/api/turns/{begun['id']}/events", timeout=600) as reply:
        message = [event for _, event in read_events(reply)][-1]["message"]
    usage = message["usage"]
    return message, (usage["prompt_tokens"] - usage["reused_tokens"], usage["first_token_s"])


def _conversation(client: httpx.Client, number: int, sentences: int) -> dict[str, Told]:
    session_id = client.post("/api/sessions", json={}).raise_for_status().json()["id"]

    def ask(text: str) -> tuple[Any, Told]:
        return _turn(client, {"kind": "ask", "session_id": session_id, "text": text})

    def again(message: Any) -> Told:
        return _turn(client, {"kind": "retry", "session_id": session_id, "message_id": message["id"]})[1]

    first, told = ask(f"Conversation {number}. " + SENTENCE * sentences)
    found = {"first turn": told, "its answer again": again(first)}
    second, found["second turn"] = ask("And who lives there, in that dark, and on what?")
    return found | {"that answer again": again(second)}


def _reading(backend: LlamaCppBackend, tokens: list[int]) -> float:
    backend.sync([tokens[0] + 1], lambda *_: None, lambda: False)  # shares nothing with them
    began = time.process_time()
    backend.sync(tokens, lambda *_: None, lambda: False)
    return time.process_time() - began


def _conversations(folder: DataFolder, model: Path, sentences: int) -> bool:
    folder.settings.write_text(f"format = 1\ncontext_tokens = {CONTEXT_TOKENS}\nmodel_titles = false\n")
    process, address = start_engine(folder, "--model", f"folder:{model.name}")
    headers = {"Authorization": f"Bearer {address.key}"}
    with httpx.Client(base_url=address.url, headers=headers, trust_env=False, timeout=600) as client:
        wait_for_model(client)
        rounds = [_conversation(client, number, sentences) for number in range(ROUNDS)]
    process.terminate()
    held = True
    for name in rounds[0]:
        read = [told[name][0] for told in rounds]
        wanted = name == "first turn" or max(read) <= MOST_READ
        held &= wanted
        print(
            f"reuse, {name}: {min(read):,} to {max(read):,} tokens read"
            + ("" if name == "first turn" else f" (wanted ≤ {MOST_READ})")
            + f", first token after {statistics.median(told[name][1] for told in rounds):.3f} s"
        )
    return held


def _cost(model: Path) -> bool:
    def opened(**options: Any) -> LlamaCppBackend:
        return LlamaCppBackend.open(
            model, name="V4", context_tokens=8192, threads=1, on_progress=lambda _: True, **options
        )

    keeping, plain = opened(), opened(checkpoint_bytes=0)
    tokens = keeping.tokenize(SENTENCE * 400)[:4096]
    times: list[tuple[float, float]] = []
    for number in range(ROUNDS + 1):
        times.append((_reading(keeping, tokens), _reading(plain, tokens)))
        if number == 0:
            times.clear()  # the first warms both up
    keeping.close()
    plain.close()
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = ours / theirs
    print(
        f"reuse, reading {len(tokens):,} tokens: {ours:.2f} s of a processor with states kept, {theirs:.2f} without, "
        f"ratio {ratio:.3f} (wanted ≤ {COSTLY})"
    )
    return ratio <= COSTLY


def main() -> bool:
    """Print the figures; True when each holds."""
    with TemporaryDirectory() as scratch:
        folder = DataFolder(Path(scratch))
        folder.create()
        source = checkpoint(folder.root / "source", "0731", seed=8)
        (model,) = convert(job(source, folder.models / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))
        backend = LlamaCppBackend.open(
            model, name="V4", context_tokens=512, threads=0, on_progress=lambda _: True
        )
        sentences = -(-PROMPT_TOKENS * 50 // len(backend.tokenize(SENTENCE * 50)))
        backend.close()
        held = _conversations(folder, model, sentences)
        return _cost(model) and held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
