"""The native network computes what `transformers` does, part by part, and whatever is wrong in it is found and named.

More seeds, 16,384 tokens and Flash's true shapes: `python -m tests.integration.native_exactness`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test` says why")

from engine.model.checkpoint_weights import open_checkpoint  # noqa: E402
from engine.model.expert_store import MappedExperts  # noqa: E402
from engine.model.network import Network  # noqa: E402
from engine.model.tensor_source import OpenModel  # noqa: E402
from engine.model.weights import BlockWeights, NetworkWeights  # noqa: E402
from kernels.product import cpu  # noqa: E402
from tests.integration import native_distances as distances  # noqa: E402
from tests.integration import native_exactness as exactness  # noqa: E402
from tests.integration.native_trace import Reference, Trace  # noqa: E402
from tests.integration.reference_comparison import MISSING, READY  # noqa: E402
from tests.integration.reference_comparison import cases as sharp_cases  # noqa: E402

pytestmark = pytest.mark.skipif(not READY.exists(), reason=MISSING)

SMALL = exactness.Case("preview", "flash", 1, 5, layers=4, tokens=150, config={"index_n_heads": 2})
"""One layer of each kind but two of the first. Of two heads of the indexer often none is above zero: many rows tie."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Known:
    """A checkpoint, and what the reference computes of it."""

    source: Path
    reference: Reference

    def traced(self, opened: OpenModel, weights: NetworkWeights, banks: Sequence[Any] | None = None) -> Trace:
        """What the network with these weights computes, in one pass."""
        banks = [block.moe.experts for block in weights.blocks] if banks is None else banks
        model = Network(opened.config, weights, cache_format="f32", experts=MappedExperts(banks))
        trace = Trace(self.reference)
        exactness.follow(model, SMALL.ids, [SMALL.tokens], trace)
        return trace


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder = tmp_path_factory.mktemp("known")
    source = SMALL.write(folder)
    task = {"checkpoint": str(source), "tokens": SMALL.ids, "trace": str(folder / "reference")}
    exactness.run_reference(folder, [task])
    return Known(source, Reference(folder / "reference"))


@pytest.mark.slow
@pytest.mark.parametrize("kernels", ["fast", "reference"])
def test_a_small_model_is_exact_in_every_part_and_its_ties_are_named(
    known: Known, kernels: exactness.Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrices: list[str] = []
    times = cpu._times

    def counted(x: Any, m: Any, start: int, end: int) -> Any:
        matrices.append(m.kind)
        return times(x, m, start, end)

    monkeypatch.setattr(cpu, "_times", counted)
    ties = 0
    for sizes in ([SMALL.tokens], exactness.way_of("steps", SMALL.tokens, 0)):
        trace = Trace(known.reference)
        with exactness.network(known.source) as model, exactness.computed_by(kernels):
            exactness.follow(model, SMALL.ids, sizes, trace)
        assert trace.misses == [], "\n".join(trace.misses)
        assert trace.compared == known.reference.told
        ties += len(trace.ties)
    assert set(matrices) == ({"fp4", "fp8"} if kernels == "fast" else set())
    assert ties > 0, "no tie parted the two: nothing was forced, and that is not tested any more"


Edit = Callable[[BlockWeights], BlockWeights]


def _sink(block: BlockWeights) -> BlockWeights:
    """Each head has its neighbour's sink."""
    return replace(block, attention=replace(block.attention, sinks=block.attention.sinks.roll(1)))


def _ape(block: BlockWeights) -> BlockWeights:
    """The first two places of a group have each other's bias."""
    compressor = block.attention.compressor
    assert compressor is not None
    ape = compressor.ape.clone()
    ape[[0, 1]] = compressor.ape[[1, 0]]
    return replace(block, attention=replace(block.attention, compressor=replace(compressor, ape=ape)))


def _index_ape(block: BlockWeights) -> BlockWeights:
    """The same in the indexer's compressor."""
    indexer = block.attention.indexer
    assert indexer is not None
    ape = indexer.compressor.ape.flip(0)
    other = replace(indexer, compressor=replace(indexer.compressor, ape=ape))
    return replace(block, attention=replace(block.attention, indexer=other))


def _comb(hyper_connections: str) -> Edit:
    """Streams are mixed by the transposed matrix."""

    def edit(block: BlockWeights) -> BlockWeights:
        weights = getattr(block, hyper_connections)
        fn, base = weights.fn.clone(), weights.base.clone()
        fn[8:] = weights.fn[8:].view(4, 4, -1).transpose(0, 1).reshape(16, -1)
        base[8:] = weights.base[8:].view(4, 4).T.reshape(16)
        return replace(block, **{hyper_connections: replace(weights, fn=fn, base=base)})

    return edit


def _bias(block: BlockWeights) -> BlockWeights:
    """One expert is chosen before its turn."""
    assert block.moe.bias is not None
    bias = block.moe.bias.clone()
    bias[3] += 0.5
    return replace(block, moe=replace(block.moe, bias=bias))


def _table(block: BlockWeights) -> BlockWeights:
    """Each token has the experts of the one before it."""
    assert block.moe.table is not None
    return replace(block, moe=replace(block.moe, table=block.moe.table.roll(1, dims=0)))


def _clamped(block: BlockWeights) -> BlockWeights:
    """The shared expert's up and gate matrices in each other's place."""
    shared = block.moe.shared
    return replace(block, moe=replace(block.moe, shared=replace(shared, gate=shared.up, up=shared.gate)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layer", "edit", "named"),
    [
        (0, _sink, "attention"),
        (3, _sink, "attention"),
        (2, _ape, "compressed"),
        (3, _ape, "compressed"),
        (2, _index_ape, "index_keys"),
        (1, _comb("hc_attn"), "attention_streams"),
        (2, _comb("hc_ffn"), "streams"),
        (1, _bias, "router_choice"),
        (0, _table, "router_choice"),
        (3, _clamped, "moe"),
    ],
)
def test_what_is_wrong_in_one_place_is_named_first(known: Known, layer: int, edit: Edit, named: str) -> None:
    opened = open_checkpoint(known.source)
    try:
        blocks = list(opened.weights.blocks)
        blocks[layer] = edit(blocks[layer])
        trace = known.traced(opened, replace(opened.weights, blocks=blocks))
    finally:
        opened.close()
    first = trace.differences[0]
    assert (first.layer, first.name) == (layer, named), "\n".join(trace.misses)
    assert trace.logits_worst > 2e-4


class Exchanged:
    """A bank whose first two experts stand in each other's place."""

    def __init__(self, bank: Any) -> None:
        self._bank = bank

    def __len__(self) -> int:
        return len(self._bank)

    def matrices(self, expert: int) -> Any:
        """Of another expert than it was asked for, of two."""
        return self._bank.matrices({0: 1, 1: 0}.get(expert, expert))


def test_a_wrong_expert_is_named(known: Known) -> None:
    opened = open_checkpoint(known.source)
    try:
        banks: list[Any] = [block.moe.experts for block in opened.weights.blocks]
        banks[2] = Exchanged(banks[2])
        trace = known.traced(opened, opened.weights, banks)
    finally:
        opened.close()
    assert (trace.differences[0].layer, trace.differences[0].name) == (2, "moe"), trace.misses


@pytest.mark.slow
def test_every_release_and_kind_of_layers_is_exact_from_every_file(tmp_path: Path) -> None:
    cases = exactness.cases([1])
    assert {case.hashed for case in cases} == {0, 1, 3}
    assert {(case.release, case.ratios) for case in cases} == {
        ("preview", "flash"), ("preview", "pro"), ("0731", "flash"), ("0731", "pro"),
    }  # fmt: skip
    plan: exactness.Plan = (
        ("folder", "one pass", "fast"), ("folder", "chunks", "fast"), ("bf16", "chunks", "fast"),
        ("f32", "steps", "fast"), ("q8_0", "one pass", "fast"),
        ("folder", "one pass", "reference"), ("folder", "chunks", "reference"), ("bf16", "chunks", "reference"),
    )  # fmt: skip
    outcomes = 0
    for outcome in exactness.prove(tmp_path, [(case, plan) for case in cases]):
        assert exactness.told(outcome), "\n".join(outcome.trace.misses)
        outcomes += 1
    assert outcomes == len(cases) * len(plan)


@pytest.mark.slow
def test_llama_cpp_is_as_far_away_as_from_transformers_and_smaller_formats_are_near(tmp_path: Path) -> None:
    flash, pro, *_ = sharp_cases([1])
    for found in distances.small_from_llama(tmp_path, [flash, pro]):
        print(found)
        assert found.misses == []
    halves = distances.halves(
        str(pro), distances.sharp_checkpoint(tmp_path / "halves", pro), distances.tokens_of(pro)
    )
    print(halves)
    assert halves.misses == []
