"""What is put to a model to time it; how fast it is, is not tested."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine import model_bench
from engine.backends.base import SyncReport
from engine.errors import BadRequest
from engine.model_bench import run_model


class Noted:
    """A backend that notes what it is asked, and a clock that it moves: a second for each token."""

    def __init__(self) -> None:
        self.plan = None
        self.facts: Any = SimpleNamespace(
            context_tokens=4096, vocabulary_size=50, control_tokens={"a": 3, "b": 7}
        )
        self.held: list[int] = []
        self.now_s = 0.0

    def sync(self, tokens: Sequence[int], _progress: Callable[..., None], _cancelled: Any) -> SyncReport:
        same = next(
            (at for at, (a, b) in enumerate(zip(self.held, tokens, strict=False)) if a != b),
            min(len(self.held), len(tokens)),
        )
        self.now_s += len(tokens) - same
        self.held = list(tokens)
        return SyncReport(same, len(tokens) - same)

    def step(self, token_id: int) -> None:
        self.now_s += 0.5
        self.held.append(token_id)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    noted = Noted()
    monkeypatch.setattr(model_bench, "time", SimpleNamespace(perf_counter=lambda: noted.now_s))
    return noted


def test_each_prompt_is_read_anew_behind_each_depth(backend: Any) -> None:
    steps: list[str] = []
    runs = run_model(backend, [64, 16], [100, 0], steps.append)
    assert [(run.depth_tokens, run.prompt_tokens) for run in runs] == [(0, 16), (0, 64), (100, 16), (100, 64)]
    assert len(steps) == 4
    for run in runs:
        # Exactly the prompt, nothing of it from an earlier run.
        assert run.prefill_tokens_per_s == 1
        assert run.decode_tokens_per_s == 2
        assert run.decode_quick_s == run.decode_slow_s == 0.5
    assert {3, 7}.isdisjoint(backend.held)
    assert max(backend.held) < 50


def test_more_than_the_context_is_refused_with_its_numbers(backend: Any) -> None:
    with pytest.raises(BadRequest, match=r"4,124 tokens are asked for, and its context holds 4,096"):
        run_model(backend, [100], [4000], lambda _: None)


def test_a_real_model_is_timed(starter_path: Path) -> None:
    llamacpp = pytest.importorskip("engine.backends.llamacpp", reason="llama_cpp is not installed")
    backend = llamacpp.LlamaCppBackend.open(
        starter_path, name="s", context_tokens=256, threads=1, on_progress=lambda _fraction: True
    )
    try:
        (run,) = run_model(backend, [32], [16], lambda _: None, decoded_tokens=6)
    finally:
        backend.close()
    assert 0 < run.decode_quick_s <= run.decode_s <= run.decode_slow_s
    assert run.prefill_s > 0
