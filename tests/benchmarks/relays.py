"""What it costs an answer that its context is saved and loaded again on the way.

    python -m tests.benchmarks.relays            # about a minute

A small V4 of seeded weights and the built-in model hold `DEPTHS` tokens. At each depth a relay is timed `ROUNDS` times,
and tokens written one by one between them: told are the medians, and which share of an answer's time relays take at the
places of the schedule. The states go to files meanwhile, as in the program. Processor time of this thread is told
beside the clock's, which other work on the machine disturbs more; the load is printed.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from convert.conversion import convert
from engine.backends.llamacpp import LlamaCppBackend
from engine.contexts.keeper import ContextKeeper
from engine.store.snapshots import SnapshotStore
from tests.benchmarks.against_sweep import starter
from tests.convert.conversions import checkpoint, job

DEPTHS = (512, 1792)
ROUNDS = 7
WRITTEN = 4
"""Tokens between two relays that are timed."""
SHARE_WANTED = 0.02
SENTENCE = "The deep sea begins where the light of day ends, and it is older than the land. "


def _model(name: str, path: Path, folder: Path) -> bool:
    backend = LlamaCppBackend.open(
        path, name=name, context_tokens=2048, threads=1, on_progress=lambda _: True
    )
    snapshots = SnapshotStore(folder, lambda: 10**10)
    keeper = ContextKeeper(backend, snapshots)
    tokens = backend.tokenize(SENTENCE * 120)
    held = True
    for depth in DEPTHS:
        backend.sync(tokens[:depth], lambda _a, _b, _c: None, lambda: False)
        relays: list[tuple[float, float]] = []
        written: list[float] = []
        state_bytes = backend.state_bytes()
        for _ in range(ROUNDS):
            began_s, thread_s = time.perf_counter(), time.thread_time()
            keeper.relay()
            relays.append((time.perf_counter() - began_s, time.thread_time() - thread_s))
            for token in tokens[:WRITTEN]:
                began_s = time.perf_counter()
                keeper.proved_by(token, backend.step(token))
                written.append(time.perf_counter() - began_s)
        relay_s, thread_s = (statistics.median(each) for each in zip(*relays, strict=True))
        token_s = statistics.median(written)
        gap = keeper.schedule.gap(state_bytes)
        share = relay_s / (relay_s + gap * token_s)
        held &= share <= SHARE_WANTED
        print(
            f"relays, {name} at {depth:,} tokens: a state of {state_bytes / 1e6:.1f} MB, {relay_s * 1e3:.1f} ms "
            f"({thread_s * 1e3:.1f} ms of a processor); a token {token_s * 1e3:.1f} ms; one in {gap} tokens: "
            f"{share:.2%} of an answer (wanted ≤ {SHARE_WANTED:.0%})"
        )
    snapshots.close()
    backend.close()
    return held


def main() -> bool:
    """Print the figures; True when each holds."""
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    with TemporaryDirectory() as scratch:
        root = Path(scratch)
        source = checkpoint(root / "source", "0731", seed=8)
        (model,) = convert(job(source, root / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))
        held = _model("V4", model, root / "v4")
        return _model("the starter", starter(), root / "starter") and held


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
