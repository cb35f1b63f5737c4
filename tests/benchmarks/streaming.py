"""Tokens per second through the engine's HTTP stream, against llama-cpp-python's own loop.

Same file, same prompt, same number of threads, same sampling; the two are run in turn, each round is one
answer of `TOKENS` tokens, the figure is the ratio of the medians. Both sides time from the first token to
the last, so reading the prompt is not counted. The peer runs in a process of its own, started before the
first round and idle (blocked on its pipe) while the engine is measured, and the other way round.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from engine.launch import EngineAddress, EngineProcess
from engine.library.models import ModelLibrary
from engine.paths import DataFolder

TOKENS = 256
ROUNDS = 7
CONTEXT_TOKENS = 8192
QUESTION = "Write a long story about a ship that sails to the south and does not come back."
SYSTEM = "You are a helpful assistant."
CASES = {
    "greedy": {"temperature": 0.0, "top_p": 1.0, "min_p": 0.0, "seed": 7},
    "sampled": {"temperature": 0.8, "top_p": 0.95, "min_p": 0.05, "seed": 7},
}

# The peer's loop as its documentation writes it: reset, evaluate, sample, detokenise, for each token.
PEER = """
import json, sys, time
from llama_cpp import Llama
path, threads, context = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
model = Llama(path, n_ctx=context, n_threads=threads, n_threads_batch=threads, seed=7, verbose=False)
print(json.dumps({"template": model.metadata["tokenizer.chat_template"]}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    ids = model.tokenize(job["prompt"].encode(), add_bos=False, special=True)
    model.reset()
    times, text = [], b""
    for token in model.generate(ids, top_k=0, top_p=job["top_p"], min_p=job["min_p"],
                                temp=job["temperature"], repeat_penalty=1.0):
        times.append(time.perf_counter())
        if len(times) == job["tokens"] or token == model.token_eos():
            break
        text += model.detokenize([token])
    print(json.dumps({"tokens": len(times), "seconds": times[-1] - times[0]}), flush=True)
"""


def _peer_round(peer: subprocess.Popen[str], prompt: str, case: dict[str, float]) -> float:
    assert peer.stdin and peer.stdout
    peer.stdin.write(json.dumps({"prompt": prompt, "tokens": TOKENS, **case}) + "\n")
    peer.stdin.flush()
    answer = json.loads(peer.stdout.readline())
    return (answer["tokens"] - 1) / answer["seconds"]


def _engine_round(client: httpx.Client, case: dict[str, float]) -> float:
    body = {
        "model": "starter",
        "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
        "max_tokens": TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
        **case,
    }
    first = last = 0.0
    tokens = 0
    with client.stream("POST", "/v1/chat/completions", json=body, timeout=300) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if chunk["choices"] and chunk["choices"][0]["delta"].get("content"):
                last = time.perf_counter()
                first = first or last
            if chunk.get("usage"):
                tokens = chunk["usage"]["completion_tokens"]
    return (tokens - 1) / (last - first)


def start_engine(folder: DataFolder, *arguments: str) -> tuple[EngineProcess, EngineAddress]:
    """A real engine process that listens; raises RuntimeError with its sentence when it dies first."""
    folder.create()
    process = EngineProcess.start(folder, linger_s=None, arguments=arguments)
    while (address := process.address()) is None:
        if process.poll() is not None:
            raise RuntimeError(process.failure())
        time.sleep(0.02)
    return process, address


def wait_for_model(client: httpx.Client) -> int:
    """Blocks until a model is loaded; its thread count."""
    while True:
        status = client.get("/api/status").json()
        if status["error"]:
            raise RuntimeError(status["error"]["text"])
        if status["model"]:
            return int(status["model"]["threads"])
        time.sleep(0.05)


def main() -> bool:
    """Print the figures; True when each is at least 0.95."""
    held = True
    with TemporaryDirectory() as scratch:
        folder = DataFolder(Path(scratch))
        entry = ModelLibrary(folder).entry("starter")
        process, address = start_engine(folder, "--model", "starter")
        headers = {"Authorization": f"Bearer {address.key}"}
        with httpx.Client(base_url=address.url, headers=headers, trust_env=False) as client:
            threads = wait_for_model(client)
            peer = subprocess.Popen(
                [sys.executable, "-c", PEER, entry.path, str(threads), str(CONTEXT_TOKENS)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert peer.stdout and peer.stdin
            peer.stdout.readline()
            prompt = (
                f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n"
                "<|im_start|>assistant\n"
            )
            for name, case in CASES.items():
                ours: list[float] = []
                theirs: list[float] = []
                for number in range(ROUNDS + 1):
                    a, b = _engine_round(client, case), _peer_round(peer, prompt, case)
                    if number:  # the first round warms both up
                        ours.append(a)
                        theirs.append(b)
                ratio = statistics.median(ours) / statistics.median(theirs)
                held &= ratio >= 0.95
                print(
                    f"streaming, {name}: engine over HTTP {statistics.median(ours):.1f} tok/s, "
                    f"llama-cpp-python's loop {statistics.median(theirs):.1f} tok/s, {threads} thread(s), "
                    f"ratio {ratio:.3f} (wanted ≥ 0.95)"
                )
            peer.stdin.close()
            peer.wait(timeout=30)
        process.terminate()
    return held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
