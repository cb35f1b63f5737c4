"""Many clients at one engine, and how soon a client hears that its long prompt is being read.

`CLIENTS` programs ask, again and again, a scripted model whose answers take next to no time to compute, so that what is
seen is the queue's own doing. They come one after the other while an answer is held, which is then ended. Told is how
long the last one waited against the mean, that none was left without its answer, whether anybody was answered before
somebody who had asked before, and the engine's memory after the first rounds and after the last ones.

Then a prompt of `PROMPT_TOKENS` is read: by a scripted model that takes a while for each part of it, and by a small V4
of seeded weights that llama.cpp really computes. Told is the time from the request's last byte to the first byte of the
reply's body, and to the first that says how far the prompt is read; the request is then given up.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil

from convert.conversion import convert
from engine.backends.llamacpp import LlamaCppBackend
from engine.launch import EngineAddress
from engine.paths import DataFolder
from tests.benchmarks.streaming import start_engine, wait_for_model
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import SCRIPT_MODEL, write_script

CLIENTS = 32
ROUNDS = 12
WARM_ROUNDS = 3
GROWTH_MIB = 16
"""By so much the engine's memory may grow from the first rounds to the last: under 0.1 MiB for each answer."""
NEIGHBOURS = 2
PROMPT_TOKENS = 100_000
FIRST_S = 1.0
SENTENCE = "The deep sea begins where the light of day ends, and it is older than the land. "
SCRIPT = {
    "name": "Talker",
    "context_tokens": 1_048_576,
    "replies": [
        {"match": "Read", "text": "Read.", "prefill_delay_s": 0.05},
        {"match": "hold", "text": "a" * 1000, "delay_s": 0.2},
        {"text": "Hello there. " * 40},
    ],
}


async def _answer(client: httpx.AsyncClient, number: int, round_: int) -> tuple[float, float]:
    """(asked, answered) of one streamed answer."""
    messages = [{"role": "user", "content": f"Client {number} asks for the {round_}th time."}]
    body = {"model": SCRIPT_MODEL, "messages": messages, "stream": True}
    began = time.perf_counter()
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        reply.raise_for_status()
        text = (await reply.aread()).decode()
    if not text.endswith("data: [DONE]\n\n") or "Hello there." not in text:
        raise RuntimeError(f"client {number} did not get its answer: {text[-200:]}")
    return began, time.perf_counter()


async def _round(client: httpx.AsyncClient, number: int) -> list[tuple[float, float]]:
    """Behind one answer that is held, each client asks when the one before it stands in the queue; then it is ended."""
    hold = {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": "hold"}], "stream": True}
    holding = asyncio.ensure_future(client.post("/v1/chat/completions", json=hold))
    await _until(client, lambda status: status["active_turn_id"] is None and status["queue_length"] == 0)
    running = await _running(client)
    answers: list[asyncio.Future[tuple[float, float]]] = []
    for each in range(CLIENTS):
        answers.append(asyncio.ensure_future(_answer(client, each, number)))
        await _until(client, lambda status, wanted=each + 1: status["queue_length"] == wanted)
    released = time.perf_counter()
    (await client.delete(f"/api/access/requests/{running}")).raise_for_status()
    times = await asyncio.gather(*answers)
    await holding
    return [(released, end) for _, end in times]


async def _until(client: httpx.AsyncClient, holds: Callable[[Any], bool]) -> None:
    while not holds((await client.get("/api/status")).json()):
        await asyncio.sleep(0.002)


async def _running(client: httpx.AsyncClient) -> str:
    """The id of the request that is being answered, once there is one."""
    while True:
        access = (await client.get("/api/access")).json()
        found = [each for of in access["clients"] for each in of["requests"] if each["state"] != "queued"]
        if found:
            return str(found[0]["id"])
        await asyncio.sleep(0.002)


async def _rounds(address: EngineAddress, pid: int) -> bool:
    process = psutil.Process(pid)
    headers = {"Authorization": f"Bearer {address.key}"}
    limits = httpx.Limits(max_connections=None)
    shares: list[float] = []
    sizes: list[float] = []
    overtaken = 0
    async with httpx.AsyncClient(
        base_url=address.url, headers=headers, limits=limits, timeout=300, trust_env=False
    ) as client:
        for number in range(ROUNDS):
            times = await _round(client, number)
            waited = [end - began for began, end in times]
            shares.append(max(waited) / statistics.mean(waited))
            # Neighbours may be read by their clients in either order.
            ranks = {each: rank for rank, each in enumerate(sorted(range(CLIENTS), key=waited.__getitem__))}
            overtaken += sum(abs(ranks[each] - each) > NEIGHBOURS for each in range(CLIENTS))
            sizes.append(process.memory_info().rss / 2**20)
    share = statistics.median(shares)
    first, last = statistics.median(sizes[WARM_ROUNDS : WARM_ROUNDS + 3]), statistics.median(sizes[-3:])
    print(
        f"clients, {CLIENTS} in the queue, {ROUNDS} rounds: all answered, the last of a round waited {share:.2f} times "
        f"the mean (2 where each waits for those before it alone; wanted ≤ 2.5), {overtaken} answered out of order "
        f"(wanted 0), memory {first:.0f} MiB, at the end {last:.0f} MiB (wanted + ≤ {GROWTH_MIB})"
    )
    return share <= 2.5 and overtaken == 0 and last - first <= GROWTH_MIB


def _first_words(client: httpx.Client, model: str, prompt: str) -> tuple[float, float]:
    """Seconds to the first byte, and to the first word of reading."""
    body = {"model": model, "messages": [{"role": "user", "content": f"Read {prompt}"}], "stream": True}
    first = 0.0
    began = time.perf_counter()
    with client.stream("POST", "/v1/chat/completions", json=body, timeout=120) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            first = first or time.perf_counter() - began
            if line.startswith(": reading "):
                return first, time.perf_counter() - began
    raise RuntimeError("the prompt was read before anything was said of it")


def _tell(name: str, times: list[tuple[float, float]]) -> bool:
    first, reading = (max(column) for column in zip(*times, strict=True))
    print(
        f"clients, a prompt of {PROMPT_TOKENS:,} tokens, {name}: first byte after {first:.2f} s (the worst of "
        f"{len(times)}), first word of reading after {reading:.2f} s (wanted ≤ {FIRST_S})"
    )
    return reading <= FIRST_S


def _scripted(folder: DataFolder) -> bool:
    write_script(folder, SCRIPT)
    folder.settings.write_text("format = 1\ncontext_tokens = 1048576\n")
    process, address = start_engine(folder, "--model", SCRIPT_MODEL)
    headers = {"Authorization": f"Bearer {address.key}"}
    try:
        with httpx.Client(base_url=address.url, headers=headers, trust_env=False) as client:
            wait_for_model(client)
            held = asyncio.run(_rounds(address, client.get("/api/status").json()["pid"]))
            # A token of the script is a byte. Each prompt is another one from its first word on.
            prompts = [f"{number} {SENTENCE * (PROMPT_TOKENS // len(SENTENCE))}" for number in range(3)]
            return _tell("scripted", [_first_words(client, SCRIPT_MODEL, each) for each in prompts]) and held
    finally:
        process.terminate()
        process.wait(20)


def _small_v4(folder: DataFolder) -> bool:
    source = checkpoint(folder.root / "source", "0731", seed=8)
    (model,) = convert(job(source, folder.models / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))
    backend = LlamaCppBackend.open(
        model, name="V4", context_tokens=512, threads=0, on_progress=lambda _: True
    )
    sentences = -(-PROMPT_TOKENS * 50 // len(backend.tokenize(SENTENCE * 50)))
    backend.close()
    folder.settings.write_text("format = 1\ncontext_tokens = 131072\n")
    process, address = start_engine(folder, "--model", f"folder:{model.name}")
    headers = {"Authorization": f"Bearer {address.key}"}
    try:
        with httpx.Client(base_url=address.url, headers=headers, trust_env=False) as client:
            wait_for_model(client)
            prompts = [f"{number} {SENTENCE * sentences}" for number in range(3)]
            return _tell(
                "a small V4", [_first_words(client, f"folder:{model.name}", each) for each in prompts]
            )
    finally:
        process.terminate()
        process.wait(20)


def main() -> bool:
    """Print the figures; True when each holds."""
    held = True
    for case in (_scripted, _small_v4):
        with TemporaryDirectory() as scratch:
            folder = DataFolder(Path(scratch))
            folder.create()
            held &= case(folder)
    return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
