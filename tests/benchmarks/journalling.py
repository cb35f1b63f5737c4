"""What journalling costs while an answer is written: tokens a second with it ÷ without, on the starter model.

One answer is written as the engine writes it: a step of the model, a draw, and the text kept in the groups that the
engine makes of it (`engine.text_groups`). In blocks of `BLOCK` tokens, in turn, it is kept by the store alone and by
journal and store, with the thread that syncs at its ordinary `journal_sync_ms`; the order within a pair of blocks
changes from pair to pair, so that the growing context slows both alike. The figure is the median of the pairs' ratios.
Beside it stands the share of the writing thread's processor time that was spent in the journal (the median of the
blocks), which other work on the machine disturbs less. The threads are half the processors, or as many
as the argument says.
"""

import statistics
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from engine.backends.llamacpp import LlamaCppBackend
from engine.protocol import Sampling, Settings
from engine.sampling import draw
from engine.store.journals import Journals
from engine.store.sessions import SessionStore
from engine.text_groups import TextGroups
from tests.benchmarks.against_sweep import starter

BLOCK = 16
PAIRS = 40
CONTEXT_TOKENS = 4096
COSTLY = 0.01
"""The share of the speed that journalling may cost."""
PROMPT = "Write a long story about a ship that sails to the south and does not come back."
SAMPLING = Sampling(temperature=0.8, seed=7)


def main() -> bool:
    """Print the figures; True when both hold."""
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else max(1, (psutil.cpu_count() or 2) // 2)
    backend = LlamaCppBackend.open(
        starter(), name="starter", context_tokens=CONTEXT_TOKENS, threads=threads, on_progress=lambda _: True
    )
    with TemporaryDirectory() as scratch, closing(backend):
        store = SessionStore.open(Path(scratch) / "sessions.db")
        journals = Journals(Path(scratch) / "sessions", lambda: Settings().journal_sync_ms)
        journals.recover(store)
        session = store.create_session()
        _, answer = store.begin_turn(
            session.id, parent_id=None, question=PROMPT, model_id="starter", sampling=SAMPLING
        )
        journal = journals.turn(session.id, answer, model_id="starter", sampling=SAMPLING)
        backend.sync(backend.tokenize(PROMPT), lambda *_: None, lambda: False)
        shares: list[float] = []

        def block(*, journalled: bool) -> float:
            """Tokens a second."""
            inside = 0.0

            def keep(text: str, token_ids: list[int]) -> None:
                nonlocal inside
                if journalled:
                    entered = time.thread_time()
                    journal.tokens(token_ids, text, "text")
                    inside += time.thread_time() - entered
                store.append(answer.id, text, token_ids)

            groups, computed, began = TextGroups(keep), time.thread_time(), time.perf_counter()
            for _ in range(BLOCK):
                token_id = draw(backend.logits(), SAMPLING, len(backend.held))
                groups.add(backend.token_bytes(token_id).decode("utf-8", "replace"), (token_id,))
                backend.step(token_id)
            groups.flush()
            elapsed_s = time.perf_counter() - began
            if journalled:
                shares.append(inside / (time.thread_time() - computed))
            return BLOCK / elapsed_s

        block(journalled=True), block(journalled=False)  # warms both up
        ratios: list[float] = []
        speeds: list[float] = []
        for number in range(PAIRS):
            with_first = number % 2 == 0
            first, second = block(journalled=with_first), block(journalled=not with_first)
            ours, alone = (first, second) if with_first else (second, first)
            ratios.append(ours / alone)
            speeds.append(alone)
        journal.close(settled=True)
        journals.close()
        store.close()
    ratio, share = statistics.median(ratios), statistics.median(shares)
    low, _, high = statistics.quantiles(ratios)
    print(
        f"journalling: {statistics.median(speeds):.1f} tok/s without, ratio with it {ratio:.4f} "
        f"(wanted ≥ {1 - COSTLY}), middle half {low:.4f} to {high:.4f}; {threads} thread(s), "
        f"load {psutil.getloadavg()[0]:.1f}"
    )
    print(
        f"journalling: {share:.2%} of the thread's processor time is spent in the journal (wanted ≤ {COSTLY:.0%})"
    )
    return ratio >= 1 - COSTLY and share <= COSTLY


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
