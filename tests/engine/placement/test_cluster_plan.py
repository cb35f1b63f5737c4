"""Which division a cluster gets, and what is said where none fits."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.model_shape import ModelShape
from engine.errors import BadRequest, DoesNotFit
from engine.placement.cluster_nodes import Cluster, read_cluster
from engine.placement.cluster_plan import (
    LEAST_CONTEXT_TOKENS,
    STEPS,
    ClusterPlan,
    Needs,
    divisions,
    plan_cluster,
    reserved_bytes,
    smallest_cluster,
)
from engine.placement.cluster_weights import Division, Engine, objection
from tests.convert.released_configs import FLASH, PRO

GB = 1_000_000_000
ENGINES: tuple[Engine, ...] = ("vllm", "sglang")


@cache
def shape(name: str) -> ModelShape:
    return ModelShape.from_config({"flash": FLASH, "pro": PRO}[name])


def planned(
    name: str, gpus: str, nodes: int = 1, engine: Engine = "vllm", needs: Needs | None = None
) -> ClusterPlan:
    found, _ = plan_cluster(shape(name), name, read_cluster(gpus, nodes), engine, needs or Needs(8))
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "gpus", "nodes", "division"),
    [
        ("flash", "4x80", 1, Division(4)),
        ("flash", "8x80", 1, Division(8)),
        ("flash", "2x141", 1, Division(2)),
        ("flash", "3x80", 1, Division(1, 1, 3)),  # neither 64 heads nor 256 experts on 3
        ("flash", "6x48", 1, Division(2, 1, 3)),
        ("flash", "16x80", 1, Division(8, 2)),  # 8 groups of heads, so no 16
        ("flash", "8x24", 2, Division(8, 2)),
        ("pro", "8x80", 2, Division(8, 2)),
        ("pro", "8x80", 3, Division(8, 3)),  # 384 experts on 24
        ("pro", "8x80", 5, Division(8, 1, 5)),  # but not on 40
        ("pro", "8x141", 1, Division(8)),
        ("pro", "16x80", 1, Division(16)),
        ("pro", "4xGB300", 1, Division(4)),
        ("pro", "4xB200", 2, Division(4, 2)),
    ],
)
def test_the_division(name: str, gpus: str, nodes: int, division: Division, engine: Engine) -> None:
    assert planned(name, gpus, nodes, engine).division == division


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "gpus", "nodes", "why", "remedy"),
    [
        ("flash", "1x80", 1, "156 GB of weights", "one machine with 3 GPUs of 80 GB"),
        ("flash", "8x24", 1, "of weights, and about 17.08 GB", "2 machines, each with 8 GPUs of 24 GB"),
        ("pro", "8x80", 1, "of weights, and about 68.6 GB", "2 machines, each with 8 GPUs of 80 GB"),
        ("pro", "1x8", 1, "of weights", "use GPUs with more memory"),
    ],
)
def test_what_does_not_fit_is_told_with_what_would(
    name: str, gpus: str, nodes: int, why: str, remedy: str, engine: Engine
) -> None:
    with pytest.raises(DoesNotFit) as refused:
        planned(name, gpus, nodes, engine)
    assert why in refused.value.why
    assert remedy in refused.value.remedy
    assert refused.value.text.count(".\n") == 0


def test_what_would_do_does_and_one_gpu_fewer_does_not() -> None:
    for engine in ENGINES:
        for name, cluster in (("flash", Cluster(1, 1, 48 * GB)), ("pro", Cluster(1, 8, 80 * GB))):
            found = smallest_cluster(shape(name), cluster, engine, Needs(8))
            assert found is not None
            assert plan_cluster(shape(name), name, found, engine, Needs(8))[0].context_tokens
            fewer = [
                Cluster(nodes, gpus, cluster.gpu_bytes)
                for nodes in range(1, 9)
                for gpus in {cluster.gpus, *range(1, 9)}
                if nodes * gpus < found.total and (nodes == 1 or gpus in (cluster.gpus, 8))
            ]
            assert fewer
            for less in fewer:
                with pytest.raises(DoesNotFit):
                    plan_cluster(shape(name), name, less, engine, Needs(8))


def test_contexts_that_do_not_fit_are_told_apart_from_weights() -> None:
    with pytest.raises(DoesNotFit) as refused:
        planned("pro", "8x80", 2, needs=Needs(64, 1_048_576))
    assert "too little for 64 conversations of 1,048,576 tokens at once" in refused.value.why
    assert refused.value.remedy.endswith("or ask for less at once")
    with pytest.raises(DoesNotFit) as refused:
        planned("flash", "4x48", 1, needs=Needs(1, 1_048_576))
    assert "one conversation of 1,048,576" in refused.value.why or "of weights" in refused.value.why


@pytest.mark.parametrize(
    ("needs", "why"),
    [
        (Needs(0), "0 conversations"),
        (Needs(5000), "5000 conversations"),
        (Needs(1, 0), "a context of 0 tokens"),
        (Needs(1, 2_000_000), "2,000,000 tokens"),
    ],
)
def test_what_cannot_be_asked_for(needs: Needs, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        planned("flash", "8x80", needs=needs)


def test_what_is_asked_for_may_want_another_division() -> None:
    """Groups of their own each keep their contexts alone, so there is room for more of them."""
    usual = planned("flash", "8x80", needs=Needs(8, 131_072))
    many = planned("flash", "8x80", needs=Needs(128, 131_072))
    assert usual.division == Division(8)
    assert many.division.data > 1
    assert many.context_tokens >= 131_072
    assert many.sequences * many.division.data >= 128


def test_a_step_is_shorter_where_that_makes_room() -> None:
    assert planned("pro", "8x80", 2).step_tokens < STEPS[0]
    assert planned("pro", "8x141", 2).step_tokens == STEPS[0]


def test_a_context_is_never_longer_than_the_model_knows() -> None:
    assert planned("flash", "8x141", 4).context_tokens == 1_048_576


def test_the_tokens_of_all_groups_are_gathered_and_so_take_room() -> None:
    cluster = Cluster(2, 8, 80 * GB)
    alone = reserved_bytes(cluster, shape("pro"), Division(8, 1, 2), 8192)
    gathered = reserved_bytes(cluster, shape("pro"), Division(8, 2), 8192)
    assert gathered - alone == 2 * 2 * 8192 * 7168 * 2


@given(
    nodes=st.integers(1, 6),
    gpus=st.integers(1, 16),
    memory=st.integers(16, 300),
    name=st.sampled_from(["flash", "pro"]),
    engine=st.sampled_from(ENGINES),
    sequences=st.integers(1, 40),
)
@settings(max_examples=30, deadline=None)
def test_whatever_the_cluster_a_plan_keeps_to_it(
    nodes: int, gpus: int, memory: int, name: str, engine: Engine, sequences: int
) -> None:
    cluster = Cluster(nodes, gpus, memory * GB)
    try:
        first, others = plan_cluster(shape(name), name, cluster, engine, Needs(sequences))
    except DoesNotFit:
        return
    for plan in (first, *others):
        division = plan.division
        assert division.gpus == cluster.total
        assert objection(shape(name), division) is None
        assert cluster.gpus % division.tensor == 0 or division.tensor % cluster.gpus == 0
        assert plan.sequences * division.data >= sequences
        assert LEAST_CONTEXT_TOKENS <= plan.context_tokens <= 1_048_576
        for stage in plan.stages:
            taken = stage.cache.bytes_for(plan.context_tokens * plan.sequences, plan.sequences)
            assert stage.weights.total + taken <= stage.budget_bytes < cluster.gpu_bytes
    piped = [plan.division.pipeline > 1 for plan in (first, *others)]
    assert piped == sorted(piped)


def test_every_division_uses_every_gpu_and_none_comes_twice() -> None:
    found = list(divisions(Cluster(2, 8, 80 * GB), shape("pro")))
    assert len(found) == len(set(found))
    assert {division.gpus for division in found} == {16}
    assert Division(16) in found
    assert all(division.pipeline == 1 or division.data == 1 for division in found)
