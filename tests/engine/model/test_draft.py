"""The draft block: its window's rows give what the whole block gives over all pairs at once."""

from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.attention import Span  # noqa: E402
from engine.model.cache import DraftCache, SequenceCache  # noqa: E402
from engine.model.network import Network  # noqa: E402
from kernels import ops  # noqa: E402
from tests.engine.model.small_network import drawn_tokens, small_network  # noqa: E402

NOISE = 1e-4
"""Of the logits' deviation: as for the network itself."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return small_network(
        tmp_path_factory.mktemp("draft"), layers=2, compress_ratios=[0, 4, 0], num_hash_layers=1
    )


class Streams:
    """A watch that keeps the streams after the last layer."""

    def __init__(self) -> None:
        self.last = torch.zeros(0)

    def note(self, name: str, layer: int, value: torch.Tensor) -> None:
        if name == "streams":
            self.last = value

    def choose(self, name: str, layer: int, values: torch.Tensor) -> torch.Tensor | None:
        return None


def over_all_pairs(network: Network, tokens: torch.Tensor) -> torch.Tensor:
    """The draft's logits for every token after the first, each with the streams before it: the report's formula, with
    matrices decoded whole, then one pass of the block."""
    watch, c, draft = Streams(), network.config, network.weights.draft
    assert draft is not None and network.draft is not None
    network.forward([(network.new_cache(), tokens)], watch=watch)
    pairs = len(tokens) - 1
    embedded = ops.dequantised(network.weights.embed)[tokens[1:]]

    def normed(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + c.rms_norm_eps).sqrt() * weight

    by_token = normed(embedded, draft.enorm) @ ops.dequantised(draft.e_proj).T
    by_stream = normed(watch.last[:-1], draft.hnorm) @ ops.dequantised(draft.h_proj).T
    streams = by_token[:, None] + by_stream
    room = DraftCache(c, "f32", torch.device("cpu"))
    positions = torch.arange(1, len(tokens))
    out = network.draft.block(streams, tokens[1:], positions, [Span(0, pairs, 1, False)], [room.layer], None)
    w = draft.hc_head
    x = ops.collapse_streams(out, w.fn, w.base, w.scale, norm_eps=c.rms_norm_eps, eps=c.hc_eps)
    return normed(x, draft.norm) @ ops.dequantised(network.weights.head).T


def context(network: Network, tokens: torch.Tensor, cuts: list[int]) -> SequenceCache:
    cache = network.new_cache()
    for start, end in zip([0, *cuts], [*cuts, len(tokens)], strict=True):
        network.forward([(cache, tokens[start:end])])
    return cache


@pytest.mark.slow
@pytest.mark.parametrize("cuts", [[], [1], [1, 2, 3], [130], [5, 133, 134, 250]])
def test_a_proposal_is_what_the_block_gives_over_all_pairs(network: Network, cuts: list[int]) -> None:
    """Past the window, and whatever passes the text came in."""
    tokens = drawn_tokens(300, 3)
    wanted = over_all_pairs(network, tokens)
    for read in (1, 4, 128, 299):
        cache = context(network, tokens[:read], [cut for cut in cuts if cut < read])
        found = network.propose(cache, int(tokens[read]))
        assert found is not None
        assert (found - wanted[read - 1]).abs().max() < NOISE * wanted.std()


def test_proposing_changes_nothing(network: Network) -> None:
    cache = context(network, drawn_tokens(140), [])
    twin = cache.fork()
    first, second = (network.propose(cache, 7) for _ in range(2))
    assert first is not None and second is not None
    assert torch.equal(first, second)
    assert not torch.equal(first, network.propose(cache, 8))
    ours, theirs = (network.forward([(each, torch.tensor([9]))]) for each in (cache, twin))
    assert torch.equal(ours, theirs)


def test_nothing_is_proposed_before_there_are_streams(network: Network) -> None:
    cache = network.new_cache()
    assert network.propose(cache, 1) is None
    network.forward([(cache, drawn_tokens(6))])
    assert network.propose(cache, 1) is not None
    cache.cut(5)
    assert network.propose(cache, 1) is None


def test_after_a_cut_drafts_begin_anew(network: Network) -> None:
    """The pair that reaches over the cut is left out; the next ones are there again."""
    cache = context(network, drawn_tokens(7), [])
    cache.cut(5)
    assert cache.draft is not None
    network.forward([(cache, drawn_tokens(1))])
    assert (cache.draft.ring.first, cache.draft.ring.end) == (6, 6)
    network.forward([(cache, drawn_tokens(2))])
    assert (cache.draft.ring.first, cache.draft.ring.end) == (6, 8)
    assert network.propose(cache, 3) is not None


def test_a_proposal_waits_for_an_open_pass(network: Network) -> None:
    cache = context(network, drawn_tokens(6), [])
    network.forward([(cache, drawn_tokens(2))], logits="all", commit=False)
    with pytest.raises(ValueError, match="is open"):
        network.propose(cache, 1)


def test_what_drafts_add_to_a_context(network: Network) -> None:
    """A window of rows but for token 0, and the streams after the last token."""
    c = network.config
    streams = 4 * c.hc_mult * c.hidden_size
    for tokens, rows in ((1, 0), (100, 99), (128, 127), (129, 128), (300, 128)):
        cache = context(network, drawn_tokens(tokens), [])
        assert cache.draft_bytes == rows * 4 * c.head_dim + streams
