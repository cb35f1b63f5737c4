"""What follows a context's state is the same to the bit wherever the state is loaded: another context, another process,
after whatever was there before. And bytes that are no state of the model are refused, and never given to llama.cpp."""

import gc
import importlib.util
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.conversion import convert
from engine.backends.base import Cancelled, ContextState, Mark, SyncReport
from engine.errors import GenerationError
from tests.convert.conversions import checkpoint, job
from tests.integration.small_models import small_model
from tests.integration.state_process import (
    TOKENS,
    arguments,
    followed,
    never,
    opened,
    quiet,
    relay,
    room,
    write,
    written,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
READ_TOKENS, WRITTEN_TOKENS = 600, 50
"""Beyond the 640 cells of V4's ring, and the 512 from which on one token's attention is divided among threads."""
NATIVE = ("native flash", "native pro")
MODELS = ("llama", "gemma3", "flash", "pro", *NATIVE)
"""One that can be cut back, one with a window, and V4 with the layers of both sizes, also by the native engine."""
KV_TYPES = ("f16", "f32", "q8_0")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory, starter_path: Path) -> Callable[[str], Path]:
    found = {"starter": starter_path}

    def path(named: Any) -> Path:
        model = named.removeprefix("native ")
        if model not in found:
            folder = tmp_path_factory.mktemp(model)
            if model in ("flash", "pro"):
                source = checkpoint(folder / "source", "0731", layers=4, ratios=model, seed=8)
                found[model] = convert(job(source, folder / f"{model}.gguf", draft="skip"))[0]
            else:
                found[model] = small_model(folder / f"{model}.gguf", model, path("flash"))
        return found[model]

    return path


def made(path: Path, model: str, **more: Any) -> Any:
    """The backend that computes `model`."""
    if model in NATIVE:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    return opened(path, backend="native" if model in NATIVE else "llamacpp", **more)


def begun(backend: Any) -> ContextState:
    """A state of a prompt that was read and some tokens that were written."""
    backend.load(ContextState((), room(0)))
    backend.sync(TOKENS[:READ_TOKENS], quiet, never)
    written(backend, WRITTEN_TOKENS)
    state = backend.save(room)
    assert state is not None
    assert state.whole.nbytes == backend.state_bytes()
    assert np.array_equal(state.logits, backend.logits())
    return state


def places(backend: Any, state: ContextState) -> list[int | None]:
    """All of it, and where it can be gone back to."""
    marks = [each.tokens for each in state.marks][-2:]
    return [None, *marks, *([len(state.tokens) - 77] if backend.facts.states_rewind else [])]


@pytest.mark.parametrize(
    ("model", "kv_type", "threads"),
    [
        *((model, kind, 1) for model in MODELS for kind in KV_TYPES if model != NATIVE[1]),
        (NATIVE[1], "q8_0", 1),  # its layers' kinds are the other's; forms are of no matter to them
        ("starter", "f16", 1),
        ("flash", "f16", 2),
        *((model, "f16", 2) for model in NATIVE[:1]),
    ],
)
def test_another_process_goes_on_to_the_bit(
    paths: Callable[[str], Path], tmp_path: Path, model: str, kv_type: str, threads: int
) -> None:
    backend = made(paths(model), model, kv_type=kv_type, threads=threads)
    state = begun(backend)
    orders = places(backend, state)
    assert len(orders) == {"gemma3": 1, "llama": 2, "starter": 2}.get(model, 3)
    if threads > 1:
        del orders[2:]  # threads that wait for each other take their time where other tests run beside them
    found = [followed(backend, state, order) for order in orders]
    assert len(set(found)) == len(found)
    backend.close()
    write(state, tmp_path / "state")
    # The other way round: it held something else before, in each case but the first.
    orders.reverse()
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.state_process", "native" if model in NATIVE else "llamacpp",
         str(paths(model)), str(tmp_path / "state"), kv_type, str(threads), "1024", *arguments(orders)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == found[::-1]


@pytest.fixture(scope="module", params=[each for each in MODELS if each != NATIVE[1]])
def pair(request: pytest.FixtureRequest, paths: Callable[[str], Path]) -> Iterator[tuple[Any, Any]]:
    """Two contexts of one model."""
    backends = [made(paths(request.param), request.param) for _ in range(2)]
    yield backends[0], backends[1]
    for each in backends:
        each.close()


@pytest.fixture(scope="module")
def state(pair: tuple[Any, Any]) -> ContextState:
    """One that was taken of the first of them."""
    return begun(pair[0])


def test_whatever_was_there_before_leaves_no_trace(pair: tuple[Any, Any], state: ContextState) -> None:
    first, second = pair
    for order in places(first, state):
        found = followed(first, state, order)
        for before in ([], TOKENS[700:720], TOKENS[1000:1700]):
            second.load(ContextState((), room(0)))
            if before:
                second.sync(before, quiet, never)
                written(second, 20)
            assert followed(second, state, order) == found
        assert followed(first, state, order) == found


def test_loads_and_relays_of_all_kinds_can_be_mixed(pair: tuple[Any, Any]) -> None:
    """One context goes back to what it still holds, where only what changes is put in; the other one is loaded from
    nothing every time."""
    first, second = pair
    state = begun(first)
    mark = places(first, state)[-1]
    for _ in range(2):
        first.load(state)
        whole = written(first, 30)
        kept = first.save(room)
        first.load(kept)
        later = written(first)
        first.load(state, mark)
        first.load(kept)  # its rows are gone: all of it has to be put in
        assert written(first) == later
        first.load(state)
        assert written(first, 30) == whole
        for copied in (state, kept):
            second.load(ContextState((), room(0)))
            second.load(replace(copied, whole=copied.whole.copy()))
            assert written(second, 30 if copied is state else 24) == (whole if copied is state else later)


def test_relays_write_the_same_bytes(pair: tuple[Any, Any], state: ContextState) -> None:
    found = []
    for backend in pair:
        backend.load(state)
        written(backend, 40)
        relay(backend)
        written(backend, 40)
        found.append(backend.save(room))
    assert np.array_equal(found[0].whole, found[1].whole)
    assert found[0].tokens == found[1].tokens


def test_a_fork_of_what_was_loaded_changes_no_bit(pair: tuple[Any, Any], state: ContextState) -> None:
    first, second = pair
    first.load(state)
    with first.fork():
        first.sync([*state.tokens, *TOKENS[700:760]], quiet, never)
        written(first, 20)
    assert list(first.held) == list(state.tokens)
    assert np.array_equal(first.logits(), state.logits)
    second.load(state)
    assert written(first) == written(second)


def test_after_a_fork_of_what_was_written_it_is_what_a_loaded_one_is(
    pair: tuple[Any, Any], state: ContextState
) -> None:
    first, second = pair
    first.load(state)
    written(first, 30)
    kept, before = first.save(room), first.logits().copy()
    with first.fork():
        first.sync([*kept.tokens, *TOKENS[700:760]], quiet, never)
        written(first, 20)
    assert np.array_equal(first.logits(), before)
    second.load(kept)
    assert written(first) == written(second)


def test_a_reading_broken_off_leaves_no_trace_in_what_is_loaded(
    pair: tuple[Any, Any], state: ContextState
) -> None:
    first, second = pair
    second.load(state)
    found = written(second)
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        # Among the operations of a chunk, each of which asks; or among the layers.
        return asked > (5 if first.facts.backend == "native" else 60)

    for before in ([], list(state.tokens)):
        asked = 0
        with pytest.raises(Cancelled):
            first.sync([*before, *TOKENS[1000:1200]], quiet, cancelled)
        first.load(state)
        assert written(first) == found


@pytest.mark.parametrize("model", ["llama", "flash", *NATIVE[:1]])
@pytest.mark.parametrize("kv_type", ["f16", "f32"])
def test_where_the_exact_keys_are_equal_the_bits_are(
    paths: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, model: str, kv_type: str
) -> None:
    """Two numbers of threads, two sizes of chunks, three of contexts; what differs need not, and does in some."""
    if model in NATIVE:
        pytest.importorskip("torch", reason="PyTorch is not installed")
        from engine.backends import native as module
    else:
        from engine.backends import llamacpp as module

    found: dict[str, set[str]] = {}
    state: ContextState | None = None
    for chunk, threads, context_tokens in (
        (512, 1, 1024),
        (512, 1, 1536),
        (512, 1, 800),
        (512, 2, 1024),
        (128, 1, 1024),
    ):
        monkeypatch.setattr(module, "CHUNK_TOKENS", chunk)
        backend = made(paths(model), model, kv_type=kv_type, threads=threads, context_tokens=context_tokens)
        if state is None:
            state = begun(backend)
        backend.load(state)
        backend.sync([*state.tokens, *TOKENS[1000:1140]], quiet, never)
        found.setdefault(backend.facts.exact_key, set()).add(written(backend, 6))
        backend.close()
    assert len(found) == 3
    assert [len(each) for each in found.values()] == [1, 1, 1]
    if kv_type == "f16":
        assert len(set.union(*found.values())) > 1, "nothing that the key names changes anything"


@pytest.mark.parametrize("model", ["flash", *NATIVE[:1]])
def test_a_state_for_a_larger_context_is_refused(paths: Callable[[str], Path], model: str) -> None:
    large, small = made(paths(model), model), made(paths(model), model, context_tokens=512)
    state = begun(large)
    small.sync(TOKENS[:20], quiet, never)
    with pytest.raises(GenerationError, match="650 tokens and the context room for 512"):
        small.load(state)
    assert list(small.held) == []
    assert small.sync(TOKENS[:20], quiet, never) == SyncReport(0, 20)
    for each in (large, small):
        each.close()


def test_bytes_that_are_no_state_are_refused_and_the_context_goes_on(
    pair: tuple[Any, Any], state: ContextState
) -> None:
    first, second = pair
    first.load(state)
    found = written(first)
    whole = state.whole
    wrong = [whole[:length] for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1)]
    wrong.append(np.append(whole, np.uint8(0)))
    for at in (0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40):
        for value in (0xFF, 0x7F):
            changed = whole.copy()
            changed[at : at + 4] = value
            wrong.append(changed)
    refused = 0
    for each in wrong:
        try:
            second.load(replace(state, whole=each))
        except GenerationError as error:
            refused += 1
            assert "was not taken by the model" in error.text
            assert list(second.held) == []
    assert refused >= len(wrong) - 2
    for mark in state.marks:
        cut = replace(state, marks=(Mark(mark.tokens, mark.state[:-5]),))
        with pytest.raises(GenerationError):
            second.load(cut)
        swapped = replace(state, marks=(Mark(mark.tokens - 1, mark.state),))
        with pytest.raises(GenerationError, match=r"positions|rows|cells"):
            second.load(swapped, mark.tokens - 1)
    for length in (0, -1, len(state.tokens) + 1):
        with pytest.raises(GenerationError, match="cannot be brought back"):
            second.load(state, length)
    with pytest.raises(GenerationError, match="vocabulary"):
        second.load(replace(state, logits=np.zeros(5, np.float32)))
    with pytest.raises(GenerationError):
        second.load(replace(state, tokens=state.tokens[:-1]))
    second.load(state)
    assert written(second) == found


def test_states_of_other_models_are_refused(paths: Callable[[str], Path]) -> None:
    here = [each for each in MODELS if each not in NATIVE or importlib.util.find_spec("torch")]
    backends = [made(paths(model), model) for model in here]
    states = [begun(each) for each in backends]
    assert len({each.facts.state_key for each in backends}) == len(here)
    for backend, own in zip(backends, states, strict=True):
        for state in states:
            if state is not own:
                with pytest.raises(GenerationError):
                    backend.load(replace(state, logits=None))
        backend.load(own)
        written(backend, 2)
    for each in backends:
        each.close()


def test_what_a_window_has_lost_is_not_cut_back_to(paths: Callable[[str], Path]) -> None:
    """A state of a model with a window is without the tokens that its end no longer sees; llama.cpp would not mind."""
    backend = opened(paths("gemma3"))
    state = begun(backend)
    total = len(state.tokens)
    assert backend.facts.can_rewind
    assert not backend.facts.states_rewind
    assert backend.reusable(state.tokens[:-1]) == total - 1
    backend.load(ContextState((), room(0)))
    with pytest.raises(GenerationError, match="cannot be cut back"):
        backend.load(state, total - 1)
    backend.load(state)
    assert (backend.reusable(state.tokens), backend.reusable(state.tokens[:-1])) == (total, 0)
    written(backend, 5)
    longer = list(backend.held)
    with backend.fork():
        written(backend, 5)
    assert list(backend.held) == longer
    assert [backend.reusable([*longer[:length], 0]) for length in (total - 1, total, total + 3)] == [
        0, total, total + 3,
    ]  # fmt: skip
    asked = iter(range(1000))
    backend.load(state)
    with pytest.raises(Cancelled):  # of what was loaded, one token could be doubted, and that is all of it
        backend.sync([*state.tokens, *TOKENS[1000:1100]], quiet, lambda: next(asked) > 40)
    assert list(backend.held) == []
    assert backend.sync(state.tokens[:-1], quiet, never) == SyncReport(0, total - 1)
    backend.close()


def test_a_state_is_let_go_of(pair: tuple[Any, Any]) -> None:
    backend = pair[0]
    state = begun(backend)
    backend.load(state)
    backend.load(ContextState((), room(0)))
    whole = weakref.ref(state.whole)
    del state
    gc.collect()
    assert whole() is None


SAVES_INTO_A_FILE = """
import mmap, re, resource, sys
from pathlib import Path
import numpy as np
from tests.integration.state_process import TOKENS, never, opened, quiet, written
backend = opened(Path(sys.argv[1]), kv_type="f32", context_tokens=1024)
backend.sync(TOKENS[:900], quiet, never)
size = backend.state_bytes()
held = int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (held + size // 4,) * 2)
file = open(sys.argv[2], "w+b")
file.truncate(size)
pages = mmap.mmap(file.fileno(), size)
state = backend.save(lambda size_bytes: np.frombuffer(pages, np.uint8))
try:
    np.ones(size, np.uint8)
    sys.exit("the limit does not hold")
except MemoryError:
    pass
first = written(backend, 3)
backend.load(state)
assert written(backend, 3) == first
backend.sync(TOKENS[7:9], quiet, never)
backend.load(state)
assert written(backend, 3) == first
try:
    backend.save(lambda size_bytes: np.empty(size_bytes, np.uint8))
    sys.exit("saved without memory")
except MemoryError:
    pass
print(size)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and RLIMIT_DATA are Linux's")
def test_a_state_goes_into_a_file_past_the_memory(paths: Callable[[str], Path], tmp_path: Path) -> None:
    """With room for a quarter of it in memory of the process's own."""
    model = small_model(tmp_path / "many-heads.gguf", "llama", paths("flash"), heads=48)
    done = subprocess.run(
        [sys.executable, "-c", SAVES_INTO_A_FILE, str(model), str(tmp_path / "state")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == (tmp_path / "state").stat().st_size > 24 * 2**20
