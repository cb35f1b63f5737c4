"""The network over contexts: cuts, sequences, bits, cancelling, and what is refused."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

import numpy as np  # noqa: E402

from engine.model import expert_store  # noqa: E402
from engine.model.cache import SequenceCache  # noqa: E402
from engine.model.model_error import ModelError  # noqa: E402
from engine.model.network import Network, PassCancelled  # noqa: E402
from engine.model.row_formats import CacheFormat  # noqa: E402
from engine.model.saved_cache import read_state, state_bytes, write_state  # noqa: E402
from tests.engine.model.small_network import drawn_tokens, small_network  # noqa: E402

NOISE = 1e-4
"""Of the logits' deviation. Other cuts take sums in another order: 6e-8 of each number, through four layers of a dozen
products that are each normed; 1e-5 is seen. Half of what the network may differ from another implementation."""
FORMATS: tuple[CacheFormat, ...] = ("f32", "bf16", "mixed")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """Layers of every kind: window, by 4, by 128; the first two routed by token."""
    return made(tmp_path_factory.mktemp("network"), "f32")


def made(folder: Path, cache_format: CacheFormat) -> Network:
    return small_network(
        folder, cache_format=cache_format, layers=3, compress_ratios=[0, 4, 128, 0], num_hash_layers=1
    )


def content(cache: SequenceCache) -> bytes:
    room = np.zeros(state_bytes(cache), np.uint8)
    write_state(cache, room)
    return room.tobytes()


def read_in(
    network: Network, tokens: "torch.Tensor", cuts: list[int]
) -> "tuple[torch.Tensor, SequenceCache]":
    """Logits of all tokens, read in passes that end at `cuts`."""
    cache = network.new_cache()
    parts = [
        network.forward([(cache, tokens[start:end])], logits="all")
        for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True)
        if start < end
    ]
    return torch.cat(parts), cache


def random_cuts(seed: int, count: int, longest: int) -> list[int]:
    steps = torch.randint(1, longest + 1, (count,), generator=torch.Generator().manual_seed(seed)).cumsum(0)
    return [int(each) for each in steps if each < count]


def distance(a: "torch.Tensor", b: "torch.Tensor") -> float:
    return float((a - b).abs().max() / b.std())


@pytest.mark.parametrize("seed", range(3))
def test_how_tokens_are_cut_into_passes_makes_no_difference_but_noise(network: Network, seed: int) -> None:
    tokens = drawn_tokens(620, seed)
    whole, state = read_in(network, tokens, [])
    assert distance(read_in(network, tokens, random_cuts(seed, 620, 150))[0], whole) < NOISE
    assert state.position == 620


@pytest.mark.slow
def test_few_tokens_together_have_the_bits_of_single_steps(network: Network) -> None:
    """Past the window, the choice of rows, and the end of a group of 128; what is remembered is the same too."""
    tokens = drawn_tokens(145)
    single, of_single = read_in(network, tokens, [*range(1, 13), *range(121, 145)])
    cuts = [*random_cuts(0, 12, 8), 12, 121, *(121 + cut for cut in random_cuts(1, 24, 8))]
    few, of_few = read_in(network, tokens, cuts)
    assert torch.equal(few, single)
    assert content(of_few) == content(of_single)
    assert distance(single, read_in(network, tokens, [])[0]) < NOISE


def test_two_runs_are_the_same_bits(network: Network) -> None:
    tokens = drawn_tokens(300, 7)
    first, second = (read_in(network, tokens, [200, 201, 290]) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert content(first[1]) == content(second[1])


@pytest.mark.parametrize(
    ("cache_format", "prompt", "steps"),
    [("f32", 250, 12), *(pytest.param(each, 210, 200, marks=pytest.mark.slow) for each in FORMATS)],
)
def test_a_saved_context_goes_on_to_the_bit(
    tmp_path: Path, cache_format: CacheFormat, prompt: int, steps: int
) -> None:
    """From the end of a prompt that fills the window, past the end of a group of 128."""
    network = made(tmp_path, cache_format)
    _, cache = read_in(network, drawn_tokens(prompt, 3), [100])
    kept = np.frombuffer(content(cache), np.uint8)
    restored = read_state(kept, network.config, cache_format, drafts=True)
    for token in drawn_tokens(steps, 4).split(1):
        ours, theirs = (network.forward([(each, token)]) for each in (cache, restored))
        assert torch.equal(ours, theirs)
    assert content(cache) == content(restored)


@pytest.mark.slow
@pytest.mark.parametrize("cache_format", FORMATS[1:])
def test_what_is_kept_in_fewer_bits_does_not_depend_on_the_cuts(
    tmp_path: Path, cache_format: CacheFormat
) -> None:
    """Rows are read as they were rounded in the pass that makes them too. A number near the middle of two codes may be
    rounded to either, after noise, so that not all logits are as near as in F32: nine of ten are."""
    network = made(tmp_path, cache_format)
    tokens = drawn_tokens(260, 5)
    whole, of_whole = read_in(network, tokens, [])
    cut, of_cut = read_in(network, tokens, random_cuts(1, 260, 40))
    near = ((cut - whole).abs().amax(dim=1) / whole.std()) < (0.02 if cache_format == "bf16" else 0.1)
    assert near.float().mean() > 0.9
    assert of_cut.size_bytes == of_whole.size_bytes
    single, few = (
        read_in(network, tokens[:18], cuts)[0] for cuts in (list(range(1, 18)), random_cuts(2, 18, 8))
    )
    assert torch.equal(single, few)


def test_sequences_together_are_what_each_is_alone(network: Network) -> None:
    texts = [drawn_tokens(count, count) for count in (3, 150, 41)]
    caches = [network.new_cache() for _ in texts]
    network.forward([(cache, text[:2]) for cache, text in zip(caches, texts, strict=True)])
    together = network.forward(
        [(cache, text[2:]) for cache, text in zip(caches, texts, strict=True)], logits="all"
    )
    alone = torch.cat([read_in(network, text, [])[0][2:] for text in texts])
    assert distance(together, alone) < NOISE
    assert [cache.position for cache in caches] == [3, 150, 41]


def test_few_tokens_of_several_sequences_have_the_bits_of_single_steps(network: Network) -> None:
    contexts = [read_in(network, drawn_tokens(count, count), [])[1] for count in (9, 140, 131)]
    twins = [cache.fork() for cache in contexts]
    together = network.forward([(cache, drawn_tokens(2, 9)) for cache in contexts], logits="all")
    alone = [network.forward([(twin, token)]) for twin in twins for token in drawn_tokens(2, 9).split(1)]
    assert torch.equal(together, torch.cat(alone))
    assert [content(each) for each in contexts] == [content(each) for each in twins]


@pytest.mark.parametrize(
    ("read", "kept"),
    [
        (7, 5),
        (103, 100),
        (131, 130),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((6, 2), (128, 128), (135, 134))),
    ],
)
def test_a_context_that_was_cut_back_goes_on_as_if_nothing_had_followed(
    network: Network, read: int, kept: int
) -> None:
    tokens, together = drawn_tokens(read, 1), max(1, kept - 4)
    _, cache = read_in(network, tokens, list(range(together, read)))
    cache.cut(kept)
    _, fresh = read_in(network, tokens[:kept], list(range(together, kept)))
    for token in drawn_tokens(4, 2).split(1):
        assert torch.equal(network.forward([(cache, token)]), network.forward([(fresh, token)]))


def test_a_cancelled_pass_changes_nothing(network: Network) -> None:
    _, cache = read_in(network, drawn_tokens(140, 1), [])
    before, more = content(cache), drawn_tokens(20, 2)
    for layers in range(network.config.num_hidden_layers):
        answers = iter([False] * layers + [True])
        with pytest.raises(PassCancelled):
            network.forward([(cache, more)], cancelled=lambda answers=answers: next(answers))
        assert (content(cache), cache.position, cache.pass_tokens) == (before, 140, 0)
    asked: list[int] = []
    network.forward([(cache, more)], cancelled=lambda: bool(asked.append(0)))
    assert (cache.position, len(asked)) == (160, network.config.num_hidden_layers)


class Noted:
    """A watch that remembers, fails at a layer, or forces choices."""

    def __init__(self, fails_at: int | None = None, forced: "dict[str, torch.Tensor] | None" = None) -> None:
        self.seen: dict[tuple[str, int], torch.Tensor] = {}
        self.fails_at, self.forced = fails_at, forced or {}

    def note(self, name: str, layer: int, value: "torch.Tensor") -> None:
        if name == "moe" and layer == self.fails_at:
            raise MemoryError("no more")
        self.seen[name, layer] = value

    def choose(self, name: str, layer: int, values: "torch.Tensor") -> "torch.Tensor | None":
        return self.forced.get(f"{name} {layer}")


def test_a_pass_that_fails_changes_nothing(network: Network) -> None:
    _, cache = read_in(network, drawn_tokens(140, 1), [])
    before = content(cache)
    with pytest.raises(MemoryError):
        network.forward([(cache, drawn_tokens(20, 2))], watch=Noted(fails_at=2))
    assert (content(cache), cache.position, cache.pass_tokens) == (before, 140, 0)


def test_contexts_of_one_pass_are_committed_all_or_none(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = [network.new_cache(), network.new_cache()]
    for cache in caches:
        network.forward([(cache, drawn_tokens(7))])
    before = [content(cache) for cache in caches]
    compressor = next(each for layer in caches[1].layers for each in layer.compressors)

    def no_memory(end: int) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(compressor, "prepare", no_memory)
        network.forward([(cache, drawn_tokens(3)) for cache in caches])
    assert [content(cache) for cache in caches] == before
    assert [cache.position for cache in caches] == [7, 7]


def test_where_experts_are_is_counted_before_a_first_look_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at first, everything would lie in memory by the time that it is counted."""
    fresh = made(tmp_path, "f32")
    checks, order = fresh.weights.checks, list[str]()
    assert checks is not None
    found, look = expert_store.found_mapped, checks.experts
    monkeypatch.setattr(expert_store, "found_mapped", lambda *a: order.append("counted") or found(*a))
    monkeypatch.setattr(checks, "experts", lambda *a: order.append("looked") or look(*a))
    fresh.forward([(fresh.new_cache(), torch.tensor([3]))])
    assert [each for each, _ in groupby(order)] == ["counted", "looked"] * fresh.config.num_hidden_layers


def test_a_watch_sees_each_part(network: Network) -> None:
    watch, cache, tokens = Noted(), network.new_cache(), drawn_tokens(130, 1)
    plain = network.forward([(network.new_cache(), tokens)])
    watched = network.forward([(cache, tokens)], watch=watch)
    assert torch.equal(watched, plain)
    c = network.config
    shapes = {key: tuple(value.shape) for key, value in watch.seen.items()}
    for layer in range(3):
        assert shapes["streams", layer] == (130, c.hc_mult, c.hidden_size)
        assert shapes["attention", layer] == shapes["moe", layer] == (130, c.hidden_size)
        assert shapes["router_scores", layer] == (130, c.n_routed_experts)
        assert shapes["router_choice", layer] == shapes["router_weights", layer] == (130, 2)
    assert shapes["compressed", 1] == (32, c.head_dim)
    assert shapes["compressed", 2] == (1, c.head_dim)
    assert shapes["index_keys", 1] == (32, c.index_head_dim)
    assert shapes["index_scores", 1] == (130, 32)
    assert shapes["index_choice", 1] == (130, c.index_topk)
    choice, scores = watch.seen["index_choice", 1], watch.seen["index_scores", 1]
    for t in (3, 50, 129):
        own = choice[t][choice[t] >= 0]
        assert own.tolist() == sorted(own.tolist())
        assert len(own) == min((t + 1) // 4, c.index_topk)
        left = scores[t, : (t + 1) // 4].clone()
        least = left[own].min()
        left[own] = -torch.inf
        assert left.max() <= least


def test_a_choice_can_be_forced(network: Network) -> None:
    tokens = drawn_tokens(70, 1)
    watch = Noted()
    plain = network.forward([(network.new_cache(), tokens)], watch=watch, logits="all")
    own = {f"{name} {layer}": value for (name, layer), value in watch.seen.items() if name.endswith("choice")}
    assert set(own) == {"router_choice 0", "router_choice 1", "router_choice 2", "index_choice 1"}
    same = network.forward([(network.new_cache(), tokens)], watch=Noted(forced=own), logits="all")
    assert torch.equal(same, plain)
    for name in ("router_choice 2", "index_choice 1"):
        other = own[name].clone()
        other[-1] = (own[name][-1] + 1) % 4 if name.startswith("router") else own[name][-1] * 0
        found = network.forward(
            [(network.new_cache(), tokens)], watch=Noted(forced={name: other}), logits="all"
        )
        assert torch.equal(found[:-1], plain[:-1])
        assert distance(found[-1], plain[-1]) > NOISE


def test_logits_are_those_that_were_asked_for(network: Network) -> None:
    texts = [drawn_tokens(count, count) for count in (4, 9)]

    def found(wanted: str) -> "torch.Tensor":
        parts = [(network.new_cache(), text) for text in texts]
        return network.forward(parts, logits=wanted)  # type: ignore[arg-type]

    every, last, none = found("all"), found("last"), found("none")
    assert (every.shape, none.shape) == ((13, 512), (0, 512))
    assert every.dtype == torch.float32
    # Two rows of the head's product are computed alone, thirteen together: equal but for noise.
    assert distance(last, every[[3, 12]]) < NOISE


@pytest.mark.parametrize("token", [-1, 512, 2**40])
def test_tokens_that_the_model_does_not_have_are_refused(network: Network, token: int) -> None:
    cache = network.new_cache()
    with pytest.raises(ModelError, match=f"token id {token} is not among the model's 512"):
        network.forward([(cache, torch.tensor([1, token, 2]))])
    assert cache.position == 0
    network.forward([(cache, torch.tensor([1]))])
    with pytest.raises(ModelError, match="token id"):
        network.propose(cache, token)


def test_a_context_does_not_become_longer_than_the_model_allows(tmp_path: Path) -> None:
    network = small_network(tmp_path, layers=1, max_position_embeddings=32, compress_ratios=[0, 0])
    cache = network.new_cache()
    network.forward([(cache, drawn_tokens(30))])
    before = content(cache)
    with pytest.raises(ModelError, match="it would be 33 tokens long, and the model is made for 32"):
        network.forward([(cache, drawn_tokens(3))])
    assert content(cache) == before
    network.forward([(cache, drawn_tokens(2))])
    assert cache.position == 32


def test_a_caller_that_asks_for_nonsense_is_told(network: Network, tmp_path: Path) -> None:
    cache = network.new_cache()
    for parts in (
        [],
        [(cache, drawn_tokens(2)), (cache, drawn_tokens(2))],
        [(cache, drawn_tokens(0))],
        [(cache, drawn_tokens(4).view(2, 2))],
        [(cache, drawn_tokens(2).float())],
        [(made(tmp_path, "bf16").new_cache(), drawn_tokens(2))],
    ):
        with pytest.raises(ValueError, match=r"a pass needs|tokens are|another network"):
            network.forward(parts)


LONG_PASS = """
import resource, sys
from pathlib import Path
import torch
from tests.engine.model.small_network import drawn_tokens, small_network
torch.set_num_threads(1)
network = small_network(
    Path(sys.argv[1]), layers=2, compress_ratios=[4, 128, 0], num_hash_layers=0, drafts=False
)
network.forward([(network.new_cache(), drawn_tokens(64))], logits="none")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
network.forward([(network.new_cache(), drawn_tokens(16384))], logits="none")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux alone")
def test_a_long_pass_does_not_hold_tokens_times_rows(tmp_path: Path) -> None:
    """16,384 tokens at once, 4,096 rows to choose from: a score of each for each is 256 MiB, and choosing from them
    takes four times as much again. The pass's own rows and streams are about 18 KiB a token: 294 MiB are seen."""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", LONG_PASS, str(tmp_path)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 400 << 10
