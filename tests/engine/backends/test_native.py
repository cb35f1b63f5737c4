"""The contract of a backend, kept by the native engine. Other processes are in tests/integration/test_states.py."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.backends.base import Cancelled, ContextState, SyncReport
from engine.errors import GenerationError, ModelFileError, ModelLoadError
from tests.engine.backends.native_models import TOKENS, model, opened, read

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engine.backends import native  # noqa: E402 - it needs torch

EMPTY = ContextState((), np.zeros(0, np.uint8))


def room(size_bytes: int) -> Any:
    return np.empty(size_bytes, np.uint8)


@pytest.fixture(scope="module")
def shared() -> Iterator[Any]:
    backend = opened(model(), cache_type="f32")
    yield backend
    backend.close()


@pytest.fixture
def backend(shared: Any) -> Any:
    """The one opened model, with an empty context."""
    shared.load(EMPTY)
    return shared


def test_facts(backend: Any) -> None:
    facts = backend.facts
    assert (facts.backend, facts.architecture, facts.name) == ("native", "deepseek4", "Model")
    assert (facts.context_tokens, facts.vocabulary_size, facts.threads) == (1024, 512, 1)
    assert facts.release_names[0] == "DeepSeek-V4-Flash-0731"
    assert facts.state_key and facts.exact_key and not facts.can_rewind and not facts.states_rewind
    assert {"<｜User｜>", "</think>", "<｜end▁of▁sentence｜>"} <= facts.control_tokens.keys()
    assert facts.end_token_ids == {facts.control_tokens["<｜end▁of▁sentence｜>"]}
    ids = backend.tokenize("The deep <｜User｜> sea.")
    assert not set(ids) & set(facts.control_tokens.values())
    assert b"".join(map(backend.token_bytes, ids)).decode() == "The deep <｜User｜> sea."
    assert backend.token_bytes(facts.control_tokens["<｜User｜>"]) == b""


def test_it_is_llama_cpps_model_to_what_both_round(backend: Any) -> None:
    """A mixed-up tensor is off by about the logits' own spread. How exact it is, is measured elsewhere."""
    llamacpp = pytest.importorskip("engine.backends.llamacpp", reason="llama_cpp is not installed")
    other = llamacpp.LlamaCppBackend.open(
        model(), name="Model", context_tokens=256, threads=1, kv_type="f32", on_progress=lambda _: True
    )
    read(other, TOKENS[:150])
    read(backend, TOKENS[:150])
    off = backend.logits() - other.logits()
    assert float(np.std(off)) < 0.1 * float(np.std(other.logits()))
    other.close()


def test_the_context_is_at_most_what_the_model_was_made_for() -> None:
    backend = opened(model(), context_tokens=1 << 30, checkpoint_bytes=0)
    assert backend.facts.context_tokens == backend.facts.context_train_tokens < 1 << 30
    backend.close()
    backend.close()


def test_loading_can_be_stopped() -> None:
    told: list[float] = []
    with pytest.raises(ModelLoadError, match="loading was stopped"):
        opened(model(), on_progress=lambda fraction: told.append(fraction) or fraction < 0.5)
    assert told == [0.0, 0.5]


def test_a_setting_of_the_operators_that_is_none_is_told_when_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEAMOUNT_KERNELS", "exact")
    with pytest.raises(ModelLoadError, match="SEAMOUNT_KERNELS is 'exact': it can be 'reference' or 'fast'"):
        opened(model())


def test_sync_reports_what_it_reused(backend: Any) -> None:
    told: list[tuple[int, int, int]] = []
    assert backend.sync(TOKENS[:600], lambda *each: told.append(each), lambda: False) == SyncReport(0, 600)
    assert told == [(0, 600, 0), (512, 600, 0), (599, 600, 0), (600, 600, 0)]
    assert read(backend, TOKENS[:600]) == SyncReport(600, 0)
    # Back to the mark before the last token, and to the one before the second chunk.
    assert backend.reusable(TOKENS[:599]) == 599
    assert read(backend, [*TOKENS[:599], 7, 8]) == SyncReport(599, 2)
    assert backend.reusable([*TOKENS[:550], 9]) == 512
    assert read(backend, [*TOKENS[:550], 9]) == SyncReport(512, 39)
    assert read(backend, [9, *TOKENS[:5]]) == SyncReport(0, 6)


def test_within_the_window_it_is_cut_back_without_a_mark(backend: Any) -> None:
    """See `engine.model.cache`: to the beginning of a group of 4, while all lies in one window."""
    read(backend, TOKENS[:20])
    for token in TOKENS[20:23]:
        backend.step(token)
    assert backend.reusable([*TOKENS[:21], 9]) == 21
    assert read(backend, [*TOKENS[:21], 9, 10]) == SyncReport(21, 2)
    found = backend.logits().copy()
    backend.load(EMPTY)
    read(backend, [*TOKENS[:21], 9, 10])
    assert np.abs(found - backend.logits()).max() < 1e-4 * np.std(found)


def test_steps_are_a_prompt_of_one_token_each(backend: Any) -> None:
    """Sums are taken in another order, so in F32 the last bits may differ, and no more."""
    read(backend, TOKENS[:40])
    whole = backend.logits().copy()
    backend.load(EMPTY)
    read(backend, TOKENS[:10])
    for token in TOKENS[10:40]:
        found = backend.step(token)
    assert list(backend.held) == TOKENS[:40]
    assert np.abs(found - whole).max() < 1e-4 * np.std(whole)


def test_equal_work_gives_equal_bits(backend: Any) -> None:
    found: list[Any] = []
    for _ in range(2):
        backend.load(EMPTY)
        read(backend, TOKENS[:530])
        found.append([backend.step(token).copy() for token in TOKENS[530:540]])
    assert np.array_equal(found[0], found[1])


def test_a_reading_that_is_broken_off_keeps_the_chunks_before(backend: Any) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 8  # in the second chunk, between two layers

    with pytest.raises(Cancelled):
        backend.sync(TOKENS[:1000], lambda *_: None, cancelled)
    assert list(backend.held) == TOKENS[:512]
    with pytest.raises(ValueError, match="no logits"):
        backend.logits()
    assert read(backend, TOKENS[:600]) == SyncReport(512, 88)
    found = backend.logits().copy()
    backend.load(EMPTY)
    read(backend, TOKENS[:600])
    assert np.array_equal(found, backend.logits())


def test_a_listeners_error_comes_through_and_changes_nothing(backend: Any) -> None:
    read(backend, TOKENS[:20])

    def cancelled() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        backend.sync(TOKENS[:40], lambda *_: None, cancelled)
    assert read(backend, TOKENS[:21]) == SyncReport(20, 1)


def test_want_of_memory_ends_the_answer_and_nothing_else(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(backend, TOKENS[:520])
    before = backend.save(room)
    with monkeypatch.context() as patch:
        for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")):
            patch.setattr(backend._network, "forward", _raising(error))
            with pytest.raises(GenerationError, match="1 tokens behind 520; close other programs"):
                backend.step(5)
            with pytest.raises(GenerationError, match="79 tokens behind 520"):
                read(backend, TOKENS[:600])
        patch.setattr(backend._network, "forward", _raising(RuntimeError("a shape is wrong")))
        with pytest.raises(RuntimeError, match="a shape is wrong"):
            backend.step(5)
    after = backend.save(room)
    assert list(backend.held) == TOKENS[:520]
    assert np.array_equal(before.whole, after.whole)


def _raising(error: Exception) -> Any:
    def forward(*_parts: Any, **_how: Any) -> Any:
        raise error

    return forward


def test_a_token_that_is_none_is_refused(backend: Any) -> None:
    read(backend, TOKENS[:5])
    with pytest.raises(GenerationError, match="not among the model's 512"):
        backend.step(512)
    with pytest.raises(GenerationError, match="not among the model's 512"):
        read(backend, [-1])
    assert read(backend, TOKENS[:6]).read_tokens == 6  # `sync` had made room for the other prompt


def test_what_is_no_number_ends_the_answer(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        backend._network, "forward", lambda *_parts, **_how: torch.full((1, 512), float("nan"))
    )
    with pytest.raises(GenerationError, match="no number"):
        backend.step(5)


def test_a_full_context_is_an_error() -> None:
    backend = opened(model(), context_tokens=16)
    with pytest.raises(ValueError, match="17 tokens in a context of 16"):
        read(backend, TOKENS[:17])
    read(backend, TOKENS[:15])
    backend.step(5)
    with pytest.raises(GenerationError, match="the context of 16 tokens is full"):
        backend.step(5)
    assert len(backend.held) == 16
    backend.close()


def test_a_state_brings_back_context_marks_and_logits(backend: Any) -> None:
    assert backend.save(room) is None and backend.state_bytes() == 0
    read(backend, TOKENS[:600])
    state = backend.save(room)
    assert state.whole.nbytes == backend.state_bytes()
    assert [mark.tokens for mark in state.marks] == [512, 599]
    after = [backend.step(token).copy() for token in TOKENS[600:605]]
    for each in (state, replace(state, whole=state.whole.copy())):
        backend.load(each)
        assert np.array_equal(backend.logits(), state.logits)
        assert np.array_equal([backend.step(token) for token in TOKENS[600:605]], after)
    backend.load(state, 512)
    assert list(backend.held) == TOKENS[:512]
    assert read(backend, TOKENS[:600]).reused_tokens == 512
    assert np.array_equal(backend.logits(), state.logits)


def test_a_state_that_is_not_taken_leaves_an_empty_context(backend: Any) -> None:
    read(backend, TOKENS[:600])
    state = backend.save(room)
    for wrong, tokens, why in (
        (replace(state, whole=state.whole[:-1].copy()), None, "bytes long"),
        (replace(state, tokens=state.tokens[:-1]), None, "600 tokens and not 599"),
        (replace(state, logits=np.zeros(5, np.float32)), None, "another vocabulary"),
        (replace(state, tokens=state.tokens * 2), None, "1,200 tokens"),
        (state, 550, "cannot be brought back to 550"),
    ):
        with pytest.raises(GenerationError, match=why):
            backend.load(wrong, tokens)
        assert list(backend.held) == []
    backend.load(state)
    assert len(backend.held) == 600


def test_a_fork_leaves_no_trace(backend: Any) -> None:
    read(backend, TOKENS[:530])
    kept, logits = backend.save(room), backend.logits().copy()
    with backend.fork():
        read(backend, [*TOKENS[:530], *TOKENS[700:760]])
        backend.step(5)
    assert list(backend.held) == TOKENS[:530]
    assert np.array_equal(backend.logits(), logits)
    assert np.array_equal(backend.save(room).whole, kept.whole)
    assert [mark.tokens for mark in backend.save(room).marks] == [mark.tokens for mark in kept.marks]


def test_memory_is_given_back_and_had_again(backend: Any) -> None:
    read(backend, TOKENS[:600])
    whole = backend.save(room)
    assert backend.relieve(1 << 40) == sum(mark.state.nbytes for mark in whole.marks) > 0
    assert backend.save(room).marks == ()
    assert read(backend, [*TOKENS[:550], 9]).reused_tokens == 0
    assert backend.allow(1 << 40) > 0
    taken = backend.taken
    assert taken.mapped_bytes == model().stat().st_size and taken.ram_bytes > 0


def test_experts_of_written_tokens_are_counted(backend: Any) -> None:
    before = backend.expert_counts
    read(backend, TOKENS[:20])
    assert backend.expert_counts == before
    backend.step(5)
    assert backend.expert_counts.wanted - before.wanted == 4 * 2


def half_right(following: list[int]) -> Any:
    """Guesses of which every other one comes true, which a model with random weights seldom sees to."""
    guesses = iter([guess for token in following for guess in (token, 0)])
    return lambda *_: torch.nn.functional.one_hot(torch.tensor(next(guesses)), 512)


@pytest.mark.slow
def test_drafts_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a guess for every token, right ones among them: whatever is asked for between two steps as well."""
    found: list[list[Any]] = []
    for wanted in (False, True):
        backend = opened(model(drafts=True), cache_type="f32")
        monkeypatch.setattr(native.DraftTrial, "wanted", wanted)
        if wanted:
            monkeypatch.setattr(backend._network, "propose", half_right(TOKENS[31:60]))
        read(backend, TOKENS[:30])
        logits = [backend.step(token).copy() for token in TOKENS[30:42]]
        assert backend.reusable([*TOKENS[:42], 1]) == 42
        state = backend.save(room)
        logits += [backend.step(token).copy() for token in TOKENS[42:45]]
        with backend.fork():
            logits += [backend.step(token).copy() for token in TOKENS[60:63]]
        logits += [backend.step(token).copy() for token in TOKENS[45:47]]
        backend.load(state)
        logits += [backend.step(token).copy() for token in TOKENS[42:44]]
        read(backend, [*backend.held, 9])
        logits.append(backend.logits().copy())
        found.append([*logits, state.whole])
        counts = backend.drafts
        assert (counts.guessed > 0) == (counts.accepted > 0) == wanted
        backend.close()
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)


def test_a_guess_that_could_not_be_closed_for_want_of_memory_loses_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: list[Any] = []
    for wanted in (False, True):
        backend = opened(model(drafts=True), cache_type="f32")
        monkeypatch.setattr(native.DraftTrial, "wanted", wanted)
        read(backend, TOKENS[:30])
        backend.step(TOKENS[30])
        if wanted:
            compressor = backend._memory.cache.layers[-1].compressors[0]
            with monkeypatch.context() as patch, pytest.raises(GenerationError, match="not enough memory"):
                patch.setattr(compressor, "prepare", _raising(MemoryError()))
                backend.step(TOKENS[31])
            assert list(backend.held) == TOKENS[:31]
        monkeypatch.setattr(native.DraftTrial, "wanted", False)
        found.append([backend.step(token).copy() for token in TOKENS[31:34]])
        backend.close()
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_a_draft_file_beside_it_is_used_and_a_broken_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from convert.conversion import convert
    from tests.convert.conversions import checkpoint, job

    source = checkpoint(tmp_path / "source", "preview", layers=3, seed=1)
    path, draft = convert(job(source, tmp_path / "m.gguf", draft="separate"))
    backend = opened(path)
    with_draft = backend.facts.state_key
    assert backend._network.draft is not None
    backend.close()
    draft.write_bytes(b"no GGUF")
    backend = opened(path)
    assert backend._network.draft is None and backend.facts.state_key != with_draft
    assert "without the drafter in m-draft.gguf" in caplog.text
    backend.close()


def test_a_checkpoints_folder_is_the_same_model(tmp_path: Path) -> None:
    from convert.conversion import convert
    from tests.convert.conversions import checkpoint, job

    source = checkpoint(tmp_path, "0731", layers=3, seed=2)
    (path,) = convert(job(source, tmp_path / "m.gguf", draft="skip", dense="bf16"))
    found: list[Any] = []
    for each in (source, path):
        backend = opened(each, cache_type="f32")
        read(backend, TOKENS[:40])
        facts = backend.facts
        found.append([backend.logits().copy(), facts.control_tokens, facts.end_token_ids])
        assert backend.tokenize("deep sea") and facts.release_names[0] == "DeepSeek-V4-Flash-0731"
        assert backend.token_bytes(facts.control_tokens["<｜User｜>"]) == b""
        backend.close()
    # Experts are the same bytes; FP8 with its scales is rounded nowhere in BF16.
    assert np.abs(found[0][0] - found[1][0]).max() < 1e-4 * np.std(found[0][0])
    assert found[0][1:] == found[1][1:]


def test_what_is_no_model_of_it_is_refused(tmp_path: Path, starter_path: Path) -> None:
    with pytest.raises(ModelFileError, match="llama"):
        opened(starter_path)
    broken = tmp_path / "m.gguf"
    broken.write_bytes(model().read_bytes()[:-1000])
    with pytest.raises(ModelFileError):
        opened(broken)
