"""What encryption at rest costs: each token of an answer that is kept, and a search through what is kept.

A piece of an answer is kept as the engine keeps it, in the journal of its turn and in the store, in turn with
encryption and without; the difference of the medians is what sealing costs. It is compared with the time in which the
starter model makes a token, taken in the same run, where it is fastest (the quickest tenth of the steps), because
there it would be felt most. Then 1,000 messages are searched for what is in none of them, with and without.
"""

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from engine.backends.llamacpp import LlamaCppBackend
from engine.protocol import Sampling
from engine.store.journal_file import JournalFile
from engine.store.journal_records import Kind, Piece
from engine.store.resealing import reseal
from engine.store.sealing import Ciphers, MasterKey
from engine.store.sessions import SessionStore
from tests.benchmarks.against_sweep import starter

PIECES = 3000
STEPS = 200
MESSAGES = 1000
SEARCHES = 7
COSTLY = 0.01
"""Of the time of a token: the most that sealing it may cost."""
WORD = " deep"
SENTENCE = "The deep sea begins where the light of day ends, and it is older than the land. "


def _opened(folder: Path, ciphers: Ciphers | None, key_id: str) -> tuple[SessionStore, JournalFile]:
    """A store and a journal, encrypted or not."""
    folder.mkdir()
    path = folder / "sessions.db"
    if ciphers is not None:
        reseal(path, None, ciphers.rows, key_id)
    store = SessionStore.open(path, ciphers.rows if ciphers else None)
    return store, JournalFile(folder / "journal", ciphers.journals if ciphers else None)


def _answer(store: SessionStore, question: str) -> str:
    session = store.create_session()
    _, answer = store.begin_turn(
        session.id, parent_id=None, question=question, model_id="m", sampling=Sampling(seed=1)
    )
    return answer.id


def _keeping(store: SessionStore, journal: JournalFile) -> Callable[[int], float]:
    """What keeps the piece of that number, and says how long it took, in seconds."""
    answer = _answer(store, "Where does it begin?")
    turn = journal.append(Kind.BEGUN, None, b"{}")

    def keep(number: int) -> float:
        began = time.perf_counter()
        piece = Piece(number, number * len(WORD), "text", (number,), WORD)
        journal.append(Kind.TOKENS, turn, piece.packed())
        store.append(answer, WORD, [number])
        return time.perf_counter() - began

    return keep


def _token_s() -> float:
    """How long the starter model takes for a token, in its quickest tenth."""
    backend = LlamaCppBackend.open(
        starter(), name="starter", context_tokens=1024, threads=0, on_progress=lambda _: True
    )
    backend.sync(backend.tokenize(SENTENCE), lambda *_: None, lambda: False)
    times: list[float] = []
    for number in range(STEPS):
        began = time.perf_counter()
        backend.step(1000 + number)
        times.append(time.perf_counter() - began)
    backend.close()
    return statistics.quantiles(times, n=10)[0]


def _pieces(scratch: Path, ciphers: Ciphers, key_id: str) -> bool:
    plain, sealed = _opened(scratch / "plain", None, ""), _opened(scratch / "sealed", ciphers, key_id)
    ways = [_keeping(*plain), _keeping(*sealed)]
    times = [[keep(number) for keep in ways] for number in range(PIECES)]
    without_s, with_s = (statistics.median(each[way] for each in times) for way in (0, 1))
    for store, journal in (plain, sealed):
        journal.close()
        store.close()
    token_s = _token_s()
    share = (with_s - without_s) / token_s
    print(
        f"encryption, a token kept: {without_s * 1e6:.0f} µs without, {with_s * 1e6:.0f} µs with it: "
        f"{share:.2%} of the {token_s * 1e3:.1f} ms of a token of the starter model (wanted ≤ {COSTLY:.0%})"
    )
    return share <= COSTLY


def _search_s(store: SessionStore) -> float:
    for number in range(MESSAGES // 2):
        answer = _answer(store, f"{number}. {SENTENCE}")
        store.append(answer, SENTENCE * 25, range(500))
        store.end_turn(answer, status="complete", finish_reason="stop")
    times: list[float] = []
    for _ in range(SEARCHES):
        began = time.perf_counter()
        found = store.list_sessions("shallow")
        times.append(time.perf_counter() - began)
        if found:
            raise AssertionError("what is in none of the messages was found")
    return statistics.median(times)


def main() -> bool:
    """Print the figures; True when sealing costs no more than it may."""
    master = MasterKey.new()
    ciphers = Ciphers.of(master)
    with TemporaryDirectory() as scratch:
        held = _pieces(Path(scratch), ciphers, master.id)
        stores = [
            _opened(Path(scratch) / name, each, master.id)
            for name, each in (("plain search", None), ("sealed search", ciphers))
        ]
        with closing(stores[0][0]) as plain, closing(stores[1][0]) as sealed:
            without_s, with_s = _search_s(plain), _search_s(sealed)
        for _, journal in stores:
            journal.close()
    print(
        f"encryption, a search of {MESSAGES:,} messages (half of them of {len(SENTENCE) * 25:,} characters): "
        f"{without_s * 1e3:.0f} ms without, {with_s * 1e3:.0f} ms with it"
    )
    return held


if __name__ == "__main__":
    sys.exit(not main())
