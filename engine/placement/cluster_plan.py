"""How a cluster's GPUs share a DeepSeek-V4, for vLLM or SGLang: the planner.

Owns: which divisions there are, which is taken, what each leaves for contexts, and the smallest cluster where one is
too small. Pure: sizes by `cluster_weights` and `cluster_cache`. How a plan is launched is `cluster_launch`.

All GPUs are used. Of the divisions that hold what is asked for, the first in this order is taken: without a pipeline
before with one; heads cut within a machine before across machines, whose links are slower; then the most tensor
parallel, which answers one person soonest. What stays free on a GPU is an assumption (`reserved_bytes`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from convert.model_shape import ModelShape
from engine.errors import BadRequest, DoesNotFit
from engine.placement.cluster_cache import PAGE_TOKENS, CacheNeeds, cache_needs
from engine.placement.cluster_nodes import Cluster, memory_text
from engine.placement.cluster_weights import (
    Division,
    Engine,
    GpuWeights,
    gpu_weights,
    objection,
    stages,
    weights_of,
)

USED_SHARE = 0.92
"""Of a GPU's memory: what vLLM takes by itself (`--gpu-memory-utilization`); the rest is the driver's and NCCL's."""
WORKING_BYTES = 5_000_000_000
"""Assumed for a step's activations, the recorded graphs and the kernels' workspaces."""
STEPS = (8192, 4096, 2048)
"""Tokens of prompts that one step may read; fewer take less memory. The first is what both engines take by themselves
on GPUs of 80 GB and more."""
LEAST_CONTEXT_TOKENS = 32_768
"""Where no context is asked for, a division with less than that does not count as one that fits."""
MOST_SEQUENCES = 4096
_USUAL_GPUS = 8
_MOST_SUGGESTED = 16
"""Machines; more of such GPUs are no advice."""
ENGINES: dict[Engine, str] = {"vllm": "vLLM", "sglang": "SGLang"}


@dataclass(frozen=True)
class Needs:
    """What is asked of a cluster: `sequences` at once, each of up to `context_tokens`; None: as long as fits."""

    sequences: int
    context_tokens: int | None = None


@dataclass(frozen=True)
class StagePlan:
    """One stage of the pipeline: its layers, and bytes on each of its GPUs."""

    layers: range
    weights: GpuWeights
    cache: CacheNeeds
    budget_bytes: float
    """For weights and contexts."""


@dataclass(frozen=True)
class ClusterPlan:
    """One division for one engine. `step_tokens` of prompts are read in a step. `sequences`: of one data-parallel
    group; `capacity_tokens`: of all contexts of one group together; `context_tokens`: of each sequence, as many as the
    model knows at most; 0: not what was asked for."""

    engine: Engine
    cluster: Cluster
    division: Division
    stages: tuple[StagePlan, ...]
    step_tokens: int
    sequences: int
    capacity_tokens: int
    context_tokens: int

    @property
    def fullest(self) -> StagePlan:
        """The stage whose GPUs have the least left."""
        return min(self.stages, key=lambda stage: stage.budget_bytes - stage.weights.total)

    @property
    def heads_cross(self) -> bool:
        """Whether a layer's heads lie on several machines."""
        return self.division.tensor > self.cluster.gpus

    @property
    def groups_here(self) -> int:
        """Data-parallel groups on one machine; 0 where one is larger than that."""
        return self.cluster.gpus // self.division.tensor


def reserved_bytes(cluster: Cluster, shape: ModelShape, division: Division, step_tokens: int) -> float:
    """What is assumed to be neither weights nor contexts on a GPU: a share for the system, a step's working memory, and
    the tokens of all data-parallel groups, gathered for the experts and back."""
    gathered = 2 * 2 * step_tokens * shape.hidden_size * (division.data if division.data > 1 else 0)
    return (1 - USED_SHARE) * cluster.gpu_bytes + WORKING_BYTES + gathered


def plan_cluster(
    shape: ModelShape, name: str, cluster: Cluster, engine: Engine, needs: Needs
) -> tuple[ClusterPlan, tuple[ClusterPlan, ...]]:
    """The division that is taken, and all others that fit, in the same order.

    Raises BadRequest for needs that no machine could meet, DoesNotFit with the smallest cluster that would do.
    """
    _check(shape, needs)
    fitting = [plan for plan in _plans(shape, cluster, engine, needs) if plan.context_tokens]
    if not fitting:
        raise _too_small(shape, name, cluster, engine, needs)
    return fitting[0], tuple(fitting[1:])


def divisions(cluster: Cluster, shape: ModelShape) -> Iterator[Division]:
    """All that are possible, the best first."""
    total, found = cluster.total, list[Division]()
    for tensor in _divisors(total):
        for pipeline in _divisors(total // tensor):
            division = Division(tensor, total // tensor // pipeline, pipeline)
            # Where stages and groups come together the engines place ranks each in its own way: left out.
            mixed = division.pipeline > 1 and division.data > 1
            aligned = cluster.gpus % tensor == 0 or tensor % cluster.gpus == 0
            # A group that spans machines takes whole ones; several such groups are left out as well.
            spread = tensor > cluster.gpus and division.data > 1
            if not mixed and aligned and not spread and objection(shape, division) is None:
                found.append(division)
    return iter(
        sorted(
            found,
            key=lambda each: (each.pipeline > 1, each.tensor > cluster.gpus, each.pipeline, -each.tensor),
        )
    )


def smallest_cluster(shape: ModelShape, cluster: Cluster, engine: Engine, needs: Needs) -> Cluster | None:
    """The fewest GPUs of that memory that hold the model: in one machine with up to eight, or in several like the
    one given, or of eight where it has fewer."""
    several = max(cluster.gpus, _USUAL_GPUS)
    candidates = [Cluster(1, gpus, cluster.gpu_bytes) for gpus in range(1, _USUAL_GPUS + 1)]
    candidates += [
        Cluster(nodes, gpus, cluster.gpu_bytes)
        for gpus in sorted({cluster.gpus, several})
        for nodes in range(1, _MOST_SUGGESTED + 1)
    ]
    candidates.sort(key=lambda each: (each.total, each.nodes))
    weights = weights_of(shape).total
    for candidate in candidates:
        if candidate.total * (USED_SHARE * candidate.gpu_bytes - WORKING_BYTES) < weights:
            continue  # however it is cut
        if any(plan.context_tokens for plan in _plans(shape, candidate, engine, needs)):
            return candidate
    return None


def _plans(shape: ModelShape, cluster: Cluster, engine: Engine, needs: Needs) -> Iterator[ClusterPlan]:
    """Every division with the longest step that leaves room for what is asked for."""
    for division in divisions(cluster, shape):
        found = [_plan(shape, cluster, engine, needs, division, step) for step in STEPS]
        yield next((plan for plan in found if plan.context_tokens), found[-1])


def _plan(
    shape: ModelShape, cluster: Cluster, engine: Engine, needs: Needs, division: Division, step_tokens: int
) -> ClusterPlan:
    sequences = -(-needs.sequences // division.data)
    budget = cluster.gpu_bytes - reserved_bytes(cluster, shape, division, step_tokens)
    pairs = zip(
        stages(shape.num_hidden_layers, division.pipeline, engine),
        gpu_weights(shape, division, engine),
        strict=True,
    )
    parts = tuple(
        StagePlan(layers, own, _cache(shape, layers, engine, division, sequences, step_tokens), budget)
        for layers, own in pairs
    )
    capacity = min(part.cache.tokens_in(budget - part.weights.total, sequences) for part in parts)
    context = min(capacity // sequences // PAGE_TOKENS * PAGE_TOKENS, shape.max_position_embeddings)
    if context < (needs.context_tokens or LEAST_CONTEXT_TOKENS):
        context = 0
    return ClusterPlan(engine, cluster, division, parts, step_tokens, sequences, capacity, context)


def _cache(
    shape: ModelShape, layers: range, engine: Engine, division: Division, sequences: int, step_tokens: int
) -> CacheNeeds:
    return cache_needs(
        shape,
        layers,
        engine,
        sequences=sequences,
        step_tokens=step_tokens,
        pipeline=division.pipeline,
    )


def _check(shape: ModelShape, needs: Needs) -> None:
    most = shape.max_position_embeddings
    if not 1 <= needs.sequences <= MOST_SEQUENCES:
        raise BadRequest(
            "No cluster can be planned",
            f"{needs.sequences} conversations at once were asked for",
            f"ask for 1 to {MOST_SEQUENCES}",
        )
    if needs.context_tokens is not None and not PAGE_TOKENS <= needs.context_tokens <= most:
        raise BadRequest(
            "No cluster can be planned",
            f"a context of {needs.context_tokens:,} tokens was asked for",
            f"ask for {PAGE_TOKENS} to {most:,}, which is what the model knows at most",
        )


def _too_small(shape: ModelShape, name: str, cluster: Cluster, engine: Engine, needs: Needs) -> DoesNotFit:
    """What stands in the way: no division at all, the weights, or the contexts; and what would do."""
    plans = list(_plans(shape, cluster, engine, needs))
    less = ""
    if not plans:
        why = f"{cluster.total} GPUs share out neither its heads, nor its experts, nor its layers"
    else:
        best = max(plans, key=lambda plan: plan.fullest.budget_bytes - plan.fullest.weights.total).fullest
        left = best.budget_bytes - best.weights.total
        if left <= 0:
            why = (
                f"even at best one GPU would hold {memory_text(best.weights.total)} of weights, and about "
                f"{memory_text(max(0, int(best.budget_bytes)))} of it can be had for them"
            )
        else:
            wanted = needs.context_tokens or LEAST_CONTEXT_TOKENS
            many = "one conversation" if needs.sequences == 1 else f"{needs.sequences} conversations"
            why = (
                f"at best about {memory_text(int(left))} are left on a GPU beside the weights, too little for "
                f"{many} of {wanted:,} tokens at once"
            )
            less = ", or ask for less at once"
    found = smallest_cluster(shape, cluster, engine, needs)
    remedy = "use GPUs with more memory" if found is None else f"the smallest that would do is {found.text}"
    return DoesNotFit(f"{name} does not fit {cluster.text} with {ENGINES[engine]}", why, remedy + less)


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
