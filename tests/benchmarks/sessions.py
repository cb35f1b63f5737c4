"""What it costs to open a long conversation again, and to keep what a model has read of one.

Reopening: a small model of seeded weights is converted, a conversation of `PROMPT_TOKENS` is held with it, the engine
ends, and a new one is asked the next question. The time from the question to the answer's first token, once with what
was kept on the disk and once without: their ratio. Told too are the tokens that another answer to the last question
reads, in the engine that wrote the first one and in one that was started anew.

True size: a state as large as Flash's at `STATE_TOKENS` tokens is kept while a model generates. The small model gives
the tokens, its own state is saved and loaded with each, and beside it lies memory of the true size that is copied out
and in as llama.cpp does it. Told are the longest time between two tokens, the size of the file, and how long it takes
to read the file again, with its pages in memory and after they were given up.
"""

import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray

from convert.conversion import convert
from engine.backends.base import ContextState, Mark
from engine.backends.llamacpp import LlamaCppBackend
from engine.paths import DataFolder
from engine.store.snapshot_index import About
from engine.store.snapshots import SnapshotStore
from tests.benchmarks.streaming import start_engine, wait_for_model
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import read_events

PROMPT_TOKENS = 20_000
CONTEXT_TOKENS = 24_576
ROUNDS = 3
MOST_RATIO = 0.1
MOST_READ = 300
STATE_TOKENS = 100_000
STATE_BYTES = STATE_TOKENS * 6880 + (24 << 20)
"""Flash's with its memory in F16: 21 layers of 320 numbers and 20 of 8 for each token, and what does not grow."""
MARK_BYTES = 18 << 20
LONGEST_PAUSE_S = 1.0
LONGEST_OPENING_S = 3.0
SENTENCE = "The deep sea begins where the light of day ends, and it is older than the land. "
TURN: dict[str, Any] = {
    "mode": "high",
    "thinking_tokens": 30,
    "max_tokens": 60,
    "sampling": {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": 4},
}


class _Engine:
    """An engine with its model loaded, to be ended by `close`."""

    def __init__(self, folder: DataFolder, model: str) -> None:
        self._process, address = start_engine(folder, "--model", model)
        headers = {"Authorization": f"Bearer {address.key}"}
        self._client = httpx.Client(base_url=address.url, headers=headers, trust_env=False, timeout=600)
        wait_for_model(self._client)

    def new_session(self) -> str:
        return self._client.post("/api/sessions", json={}).raise_for_status().json()["id"]

    def turn(self, **turn: Any) -> tuple[Any, float, int]:
        """The answer's message, seconds until its first token was told, tokens read."""
        began_s = time.perf_counter()
        begun = self._client.post("/api/turns", json={"turn": turn, **TURN}).raise_for_status().json()
        first_s = 0.0
        message: Any = None
        with self._client.stream("GET", f"/api/turns/{begun['id']}/events") as reply:
            for _, event in read_events(reply):
                if event["kind"] == "text" and not first_s:
                    first_s = time.perf_counter() - began_s
                message = event.get("message", message)
        usage = message["usage"]
        return message, first_s, usage["prompt_tokens"] - usage["reused_tokens"]

    def close(self) -> None:
        self._client.close()
        self._process.terminate()
        if self._process.wait(60) is None:
            raise RuntimeError("the engine did not end")


def _reopened(folder: DataFolder, model: str, session_id: str, text: str) -> tuple[float, int]:
    engine = _Engine(folder, model)
    _, first_s, read = engine.turn(kind="ask", session_id=session_id, text=text)
    engine.close()
    return first_s, read


def _reopening(folder: DataFolder, model: str, sentences: int) -> bool:
    kept_s: list[float] = []
    anew_s: list[float] = []
    held = True
    for number in range(ROUNDS):
        engine = _Engine(folder, model)
        session_id = engine.new_session()
        text = f"Conversation {number}. " + SENTENCE * sentences
        first, _, tokens = engine.turn(kind="ask", session_id=session_id, text=text)
        _, _, live = engine.turn(kind="retry", session_id=session_id, message_id=first["id"])
        engine.close()
        engine = _Engine(folder, model)
        _, _, cold = engine.turn(kind="retry", session_id=session_id, message_id=first["id"])
        engine.close()
        held &= max(live, cold) <= MOST_READ
        print(f"sessions, another answer at {tokens:,} tokens: {live:,} tokens read, {cold:,} after a new start "
              f"(wanted ≤ {MOST_READ})", flush=True)  # fmt: skip
        seconds, read = _reopened(folder, model, session_id, "And who lives there?")
        kept_s.append(seconds)
        shutil.rmtree(folder.snapshots)
        seconds, all_read = _reopened(folder, model, session_id, "And on what?")
        anew_s.append(seconds)
        print(f"sessions, opened again: {kept_s[-1]:.3f} s to the first token with {read:,} tokens read, "
              f"{seconds:.3f} s without what was kept, {all_read:,} read", flush=True)  # fmt: skip
    ratio = statistics.median(kept_s) / statistics.median(anew_s)
    print(
        f"sessions, opened again ÷ read again at {PROMPT_TOKENS:,} tokens: {ratio:.3f} (wanted ≤ {MOST_RATIO})"
    )
    return held and ratio <= MOST_RATIO


class _Stepping:
    """A model that writes tokens without end, and the longest time between two of them."""

    def __init__(self, backend: LlamaCppBackend, prompt: list[int]) -> None:
        self._backend, self._prompt = backend, prompt
        self.longest_s = 0.0
        self.tokens = 0
        self._last_s = 0.0

    def until(self, ended: Callable[[], bool], between: Callable[[], None] = lambda: None) -> None:
        """Write until `ended`; `between` is called once, after the first token."""
        if not self._last_s:
            self._backend.sync(self._prompt, lambda _done, _total, _reused: None, lambda: False)
            self._last_s = time.perf_counter()
        due = True
        while not ended():
            if len(self._backend.held) >= self._backend.facts.context_tokens - 1:
                self._backend.sync(self._prompt, lambda _done, _total, _reused: None, lambda: False)
                self._last_s = time.perf_counter()
            self._backend.step(int(np.argmax(self._backend.logits())))
            now_s = time.perf_counter()
            self.longest_s, self._last_s = max(self.longest_s, now_s - self._last_s), now_s
            self.tokens += 1
            if due:
                between()
                due = False


def _true_size(folder: Path, model: Path) -> bool:
    backend = LlamaCppBackend.open(
        model, name="V4", context_tokens=4096, threads=1, on_progress=lambda _: True
    )
    store = SnapshotStore(folder / "snapshots", lambda: 100 << 30)
    numbers = np.random.default_rng(0).standard_normal(STATE_BYTES // 2, np.float32).astype(np.float16)
    memory = numbers.view(np.uint8)
    back = memory.copy()  # in memory already, as a context's own place for it is
    ids = tuple(int(each) for each in np.random.default_rng(1).integers(0, 129_280, STATE_TOKENS))
    stepping = _Stepping(backend, backend.tokenize(SENTENCE * 20))
    stepping.until(lambda: stepping.tokens >= 200)
    print(
        f"sessions, with nothing to keep: at most {stepping.longest_s:.2f} s between two tokens", flush=True
    )
    pauses_s: list[float] = []
    digest = ""
    for number in range(ROUNDS):
        memory[0] = number  # another state each time: the same one would not be written again
        digest, pause_s = _kept(store, stepping, backend, memory, back, ids)
        pauses_s.append(pause_s)
    backend.close()
    found = store.by_digest(digest)
    assert found is not None
    print(f"sessions, the file of that state: {found.bytes / 1e6:,.0f} MB")
    opened_s, given_up_s = (
        statistics.median(_opening(store, folder, found.id, memory, given_up=given_up) for _ in range(ROUNDS))
        for given_up in (False, True)
    )
    store.close()
    # What the disk takes is told, and not part of what is wanted.
    print(f"sessions, that state read: {opened_s:.2f} s (wanted ≤ {LONGEST_OPENING_S}), with its file out of memory "
          f"{given_up_s:.2f} s, so {max(0.0, given_up_s - opened_s):.2f} s for the disk", flush=True)  # fmt: skip
    return max(pauses_s) <= LONGEST_PAUSE_S and opened_s <= LONGEST_OPENING_S


def _kept(
    store: SnapshotStore,
    stepping: _Stepping,
    backend: LlamaCppBackend,
    memory: NDArray[np.uint8],
    back: NDArray[np.uint8],
    ids: tuple[int, ...],
) -> tuple[str, float]:
    """Keep a state while tokens are written: its digest, and the longest time between two of them."""
    ended = threading.Event()
    outcome: list[tuple[str | None, Exception | None]] = []
    relay_s = relay_cpu_s = 0.0

    def done(digest: str | None, error: Exception | None) -> None:
        outcome.append((digest, error))
        ended.set()

    def keep() -> None:
        nonlocal relay_s, relay_cpu_s
        began_s, began_cpu_s = time.perf_counter(), time.thread_time()
        own = backend.save(lambda size: np.empty(size, np.uint8))
        assert own is not None
        room = store.room(memory.size)
        np.copyto(room, memory)
        backend.load(own)
        np.copyto(back, room)
        state = ContextState(ids, room, (Mark(STATE_TOKENS - 2, memory[:MARK_BYTES].copy()),))
        store.put(state, None, About("key", "exact", 3600.0), done)
        relay_s, relay_cpu_s = time.perf_counter() - began_s, time.thread_time() - began_cpu_s

    stepping.longest_s, stepping.tokens = 0.0, 0
    began_s = time.perf_counter()
    stepping.until(ended.is_set, keep)
    kept_s = time.perf_counter() - began_s
    ((digest, error),) = outcome
    if digest is None:
        raise error or RuntimeError("nothing was written")
    print(f"sessions, {memory.size / 1e6:,.0f} MB at {STATE_TOKENS:,} tokens kept in {kept_s:.1f} s, "
          f"{stepping.tokens:,} tokens generated meanwhile, at most {stepping.longest_s:.2f} s between two (wanted ≤ "
          f"{LONGEST_PAUSE_S}), to save and load {relay_s:.2f} s ({relay_cpu_s:.2f} working)", flush=True)  # fmt: skip
    return digest, stepping.longest_s


def _opening(store: SnapshotStore, folder: Path, id_: str, wanted: Any, *, given_up: bool) -> float:
    """Seconds until the state is in the place that a context has for it."""
    if given_up:
        for path in (folder / "snapshots").iterdir():
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    into = np.ones_like(wanted)
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    state, _ = store.load(id_)
    np.copyto(into, state.whole)
    seconds, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    print(
        f"sessions, reading its file: {seconds:.2f} s, {cpu_s:.2f} s of it computing on all threads",
        flush=True,
    )
    assert np.array_equal(into, wanted)
    return seconds


def main() -> bool:
    """Print the figures; True when each holds."""
    print(f"sessions: load {psutil.getloadavg()[0]:.1f} on {psutil.cpu_count()} processors", flush=True)
    with TemporaryDirectory() as scratch:
        folder = DataFolder(Path(scratch))
        folder.create()
        source = checkpoint(folder.root / "source", "0731", seed=8)
        (model,) = convert(job(source, folder.models / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))
        held = _true_size(folder.root / "true", model)
        backend = LlamaCppBackend.open(
            model, name="V4", context_tokens=512, threads=0, on_progress=lambda _: True
        )
        sentences = -(-PROMPT_TOKENS * 50 // len(backend.tokenize(SENTENCE * 50)))
        backend.close()
        folder.settings.write_text(f"format = 1\ncontext_tokens = {CONTEXT_TOKENS}\nmodel_titles = false\n")
        return _reopening(folder, f"folder:{model.name}", sentences) and held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
