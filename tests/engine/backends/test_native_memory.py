"""Marks, cutting back and states of one context; the backend over it is tests/engine/backends/test_native.py."""

from typing import Any

import numpy as np
import pytest

from engine.backends.base import ContextState
from tests.engine.backends.native_models import TOKENS, model, opened, read

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engine.backends.native_memory import NativeMemory  # noqa: E402 - it needs torch
from engine.model.saved_cache import state_bytes  # noqa: E402


def room(size_bytes: int) -> Any:
    return np.empty(size_bytes, np.uint8)


@pytest.fixture(scope="module")
def backend() -> Any:
    opened_one = opened(model(), context_tokens=400)
    yield opened_one
    opened_one.close()


@pytest.fixture
def memory(backend: Any) -> NativeMemory:
    """Of 300 tokens, with marks at 100, 200 and 250."""
    backend.load(ContextState((), room(0)))
    for length in (100, 200, 250, 300):
        read(backend, TOKENS[:length])
        backend._memory.keep()
    memory: NativeMemory = backend._memory
    memory.checkpoints.forget_beyond(250)
    return memory


def test_marks_are_places_to_come_back_to(memory: NativeMemory) -> None:
    places = list(memory.checkpoints.places)
    assert {100, 200, 250} <= set(places)
    assert memory.reach(TOKENS[:300]) == 300
    assert memory.reach(TOKENS[:260]) == 250
    assert memory.reach([*TOKENS[:240], 0]) == max(each for each in places if each <= 240)
    whole = memory.save(room)
    assert memory.cut(260) == 250 and len(memory.held) == 250 == memory.cache.position
    assert memory.cut(249) in (249, max(each for each in places if each <= 249))
    assert memory.cut(3) == 0 and memory.held == [] and memory.cache.position == 0
    assert whole is not None and memory.load(whole, 200) is None
    assert memory.held == TOKENS[:200] and memory.checkpoints.last_within(400).tokens < 200  # type: ignore[union-attr]


def test_a_mark_is_without_what_never_changes(memory: NativeMemory) -> None:
    mark = memory.checkpoints.last_within(250)
    whole = memory.save(room)
    assert mark is not None and whole is not None
    rows = whole.whole.nbytes - state_bytes(memory.cache, rows=False)
    kept = {4: 300 // 4, 128: 300 // 128}  # BF16 rows of 128 numbers, and keys of as many for ratio 4
    assert rows == 2 * 128 * (2 * kept[4] + kept[128])
    assert not mark.state.flags.writeable
    assert memory.size_bytes > memory.checkpoints.size_bytes > 0


def test_going_back_to_what_was_just_saved_reads_no_bytes(
    memory: NativeMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.backends import native_memory

    whole = memory.save(room)
    assert whole is not None
    monkeypatch.setattr(native_memory, "read_state", lambda *_parts, **_how: pytest.fail("it was read"))
    memory.cut(100)
    assert memory.load(whole, 300) is None
    again = memory.save(room)
    assert again is not None and np.array_equal(again.whole, whole.whole)


def test_a_state_that_nobody_has_any_more_makes_no_copy_of_the_rows(
    backend: Any, memory: NativeMemory
) -> None:
    memory.save(room)
    places = [each.rows.kept.data_ptr() for layer in memory.cache.layers for each in layer.compressors]
    assert memory.cut(250) == 250
    read(backend, [*TOKENS[:250], *TOKENS[:9]])
    rows = [each.rows.kept for layer in memory.cache.layers for each in layer.compressors]
    assert [each.data_ptr() for each in rows] == places


def test_within_a_fork_no_marks_are_kept(memory: NativeMemory) -> None:
    places, cache = list(memory.checkpoints.places), memory.cache
    with memory.fork():
        assert not memory.keeps_marks
        memory.keep()
        assert memory.cache is not cache
    assert memory.cache is cache and list(memory.checkpoints.places) == places


def test_an_error_within_a_fork_leaves_what_was_there(memory: NativeMemory) -> None:
    cache = memory.cache
    with pytest.raises(ZeroDivisionError), memory.fork():
        memory.held.append(1)
        raise ZeroDivisionError
    assert memory.cache is cache and len(memory.held) == 300 and memory.keeps_marks
