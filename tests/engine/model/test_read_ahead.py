"""Drafts: the same tokens, logits and state as without, whether guesses are right or wrong."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from numpy.typing import NDArray  # noqa: E402

from engine.model.cache import SequenceCache  # noqa: E402
from engine.model.network import Network  # noqa: E402
from engine.model.read_ahead import DraftCounts, ReadAhead  # noqa: E402
from engine.model.saved_cache import state_bytes, write_state  # noqa: E402
from tests.engine.model.small_network import drawn_tokens, small_network  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def foreseeable(name: str, stored: NDArray[np.generic]) -> NDArray[np.generic]:
    """Weights with which the next token depends almost on the last one alone, and the draft block sees it: what the
    layers add is small, and the block's input is the embedding. So most guesses are right, and not all."""
    if name.endswith(("attn.wo_b.scale", "experts.w2.scale")) or (
        ".experts." in name and name.endswith("w2.scale")
    ):
        return stored - np.uint8(3)
    if name == "mtp.0.h_proj.scale":
        return stored - np.uint8(6)
    if name == "mtp.0.e_proj.weight":
        return (np.eye(len(stored)) * 0x38).astype(np.uint8)  # 1.0 in E4M3
    if name == "mtp.0.e_proj.scale":
        return np.full_like(stored, 127)
    if name.endswith(("norm.weight", "norm")) and stored.dtype == np.uint16:
        return np.full_like(stored, 0x3F80)  # 1.0 in BF16
    if name.endswith("_fn"):
        return stored * np.float32(0)
    return stored


def made(folder: Path, *, drafts: bool = True, foreseen: bool = False) -> Network:
    return small_network(
        folder,
        drafts=drafts,
        layers=3,
        compress_ratios=[0, 4, 128, 0],
        num_hash_layers=1,
        edit=foreseeable if foreseen else None,
    )


def content(cache: SequenceCache) -> bytes:
    room = np.zeros(state_bytes(cache), np.uint8)
    write_state(cache, room)
    return room.tobytes()


def begun(network: Network) -> "tuple[SequenceCache, torch.Tensor]":
    """A context with a prompt that ends before the window is full, and the logits after it."""
    cache = network.new_cache()
    return cache, network.forward([(cache, drawn_tokens(118, 1))])[0]


def same_as_without(network: Network, steps: int) -> tuple[DraftCounts, list[int]]:
    """Greedy text with and without, compared step by step, and the states at the end."""
    ahead_cache, logits = begun(network)
    plain_cache, same = begun(network)
    assert torch.equal(logits, same)
    ahead, text = ReadAhead(network, ahead_cache), [int(logits.argmax())]
    for step in range(steps):
        logits = ahead.step(text[-1])
        assert torch.equal(logits, network.forward([(plain_cache, torch.tensor([text[-1]]))])[0]), step
        text.append(int(logits.argmax()))
    ahead.settle()
    assert ahead_cache.position == plain_cache.position
    assert content(ahead_cache) == content(plain_cache)
    return ahead.counts, text


@pytest.mark.slow
def test_text_logits_and_state_are_the_same_where_most_guesses_are_right(tmp_path: Path) -> None:
    counts, text = same_as_without(made(tmp_path, foreseen=True), 16)
    assert counts.accepted > counts.guessed / 2
    assert len(set(text)) > 1


def test_and_where_hardly_one_is(tmp_path: Path) -> None:
    counts, _ = same_as_without(made(tmp_path), 8)
    assert counts.accepted < counts.guessed / 2


@pytest.mark.slow
@pytest.mark.parametrize("foreseen", [False, True])
def test_and_for_several_hundred_tokens(tmp_path: Path, foreseen: bool) -> None:
    counts, _ = same_as_without(made(tmp_path, foreseen=foreseen), 300)
    assert 290 < counts.guessed + counts.accepted <= 300


@pytest.mark.slow
def test_right_and_wrong_guesses_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guesses from outside: the text that will follow, and others, as dice fall."""
    network = made(tmp_path)
    cache, logits = begun(network)
    text = [int(logits.argmax())]
    for _ in range(14):
        text.append(int(network.forward([(cache, torch.tensor([text[-1]]))])[0].argmax()))
    dice = np.random.default_rng(0)

    def oracle(context: SequenceCache, _token: int) -> torch.Tensor:
        true = text[context.position - 118 + 1]
        guess = true if dice.random() < 0.6 else (true + 1) % 512
        return torch.nn.functional.one_hot(torch.tensor(guess), 512).float()

    monkeypatch.setattr(network, "propose", oracle)
    counts, found = same_as_without(network, 12)
    assert found == text[:13]
    assert 2 < counts.accepted < counts.guessed


def test_any_token_may_follow_not_only_the_likeliest(tmp_path: Path) -> None:
    network = made(tmp_path, foreseen=True)
    ahead_cache, plain_cache = begun(network)[0], begun(network)[0]
    ahead = ReadAhead(network, ahead_cache)
    for token in drawn_tokens(8, 5).tolist():
        assert torch.equal(ahead.step(token), network.forward([(plain_cache, torch.tensor([token]))])[0])
    ahead.settle()
    assert content(ahead_cache) == content(plain_cache)


def test_settled_it_holds_what_was_asked_for_and_goes_on(tmp_path: Path) -> None:
    network = made(tmp_path, foreseen=True)
    cache, plain = begun(network)[0], begun(network)[0]
    ahead = ReadAhead(network, cache)
    for token in (3, 5, 8):
        ahead.step(token)
        network.forward([(plain, torch.tensor([token]))])
        ahead.settle()
        ahead.settle()
        assert (cache.position, content(cache)) == (plain.position, content(plain))
        twin = cache.fork()
        assert torch.equal(
            network.forward([(twin, drawn_tokens(3))]), network.forward([(plain.fork(), drawn_tokens(3))])
        )


def test_a_step_that_fails_leaves_what_was_asked_for_before(tmp_path: Path) -> None:
    network = made(tmp_path)
    cache, plain = begun(network)[0], begun(network)[0]
    ahead = ReadAhead(network, cache)
    ahead.step(3)
    network.forward([(plain, torch.tensor([3]))])
    with pytest.raises(Exception, match="token id"):
        ahead.step(512)
    assert content(cache) == content(plain)
    assert torch.equal(ahead.step(4), network.forward([(plain, torch.tensor([4]))])[0])


@pytest.mark.parametrize("right", [True, False])
def test_a_pass_that_could_not_be_closed_for_want_of_memory_is_closed_later(
    tmp_path: Path, right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = made(tmp_path)
    cache, plain = begun(network)[0], begun(network)[0]
    ahead = ReadAhead(network, cache)
    guess = 4 if right else 5
    monkeypatch.setattr(
        network, "propose", lambda *_: torch.nn.functional.one_hot(torch.tensor(guess), 512).float()
    )
    ahead.step(3)
    network.forward([(plain, torch.tensor([3]))])
    last = [each for layer in cache.layers for each in layer.compressors][-1]

    def no_memory(end: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(last, "prepare", no_memory)
        ahead.step(4)
    assert torch.equal(ahead.step(4), network.forward([(plain, torch.tensor([4]))])[0])
    ahead.settle()
    assert content(cache) == content(plain)


def test_at_the_end_of_the_context_nothing_is_read_ahead(tmp_path: Path) -> None:
    network = small_network(tmp_path, layers=1, compress_ratios=[0, 0], max_position_embeddings=12)
    cache = network.new_cache()
    network.forward([(cache, drawn_tokens(9))])
    ahead = ReadAhead(network, cache)
    for token in (1, 2, 3):
        ahead.step(token)
    ahead.settle()
    assert (cache.position, ahead.counts.guessed) == (12, 2)


def test_without_a_draft_block_it_takes_single_steps(tmp_path: Path) -> None:
    network = made(tmp_path, drafts=False)
    cache, plain = begun(network)[0], begun(network)[0]
    assert cache.draft is None
    ahead = ReadAhead(network, cache)
    assert torch.equal(ahead.step(3), network.forward([(plain, torch.tensor([3]))])[0])
    assert ahead.counts == DraftCounts()
