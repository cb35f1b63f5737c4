"""A plan for a cluster in words: what lies where, what fits, what to paste.

Owns: the lines that a person reads, and the same as facts for a program. Pure; decides nothing (`cluster_plan`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from engine.model_table import size_text
from engine.placement.cluster_launch import ANSWER, HEAD, KEY, VERSIONS, Checkpoint, Launch, command_text
from engine.placement.cluster_nodes import Cluster
from engine.placement.cluster_plan import ENGINES, ClusterPlan
from engine.placement.cluster_weights import Division

MAX_EFFORT_TOKENS = 393_216
"""The window that DeepSeek asks for at the highest effort."""
MOST_OTHERS = 6
_KINDS = (
    ("experts", "routed experts"),
    ("heads", "attention by heads"),
    ("shared", "shared expert"),
    ("ends", "embedding and output"),
    ("whole", "on every GPU: routers, compressors, indexer, norms"),
)


def opening(title: str, cluster: Cluster, sequences: int) -> list[str]:
    """What was planned, and how far it can be trusted."""
    many = "one conversation" if sequences == 1 else f"{sequences} conversations"
    return [
        f"{title} on {cluster.text}, for {many} at once",
        "Sizes are computed from the checkpoint's tensors, options were read in "
        + " and ".join(f"{name} {VERSIONS[engine]}" for engine, name in ENGINES.items())
        + "; nothing of it was launched to make this plan.",
        "Both want GPUs of NVIDIA's Hopper generation or later for this model.",
    ]


def lines(plan: ClusterPlan, launched: Launch, entry: str, others: Sequence[ClusterPlan]) -> Iterator[str]:
    """All of a plan. `entry`: what is pasted into Seamount."""
    yield f"{ENGINES[plan.engine]} {VERSIONS[plan.engine]}: {division_text(plan.division)}"
    yield ""
    yield from ("  " + line for line in _memory(plan))
    yield from ("  " + line for line in _contexts(plan))
    yield ""
    yield "  On every machine:"
    yield f"    export {HEAD[1:]}=ADDRESS   # of machine 0, as the other machines and you reach it"
    yield f"    export {KEY[1:]}=SECRET   # the same everywhere, made once: openssl rand -hex 32"
    yield from (f'    export {name}="{value}"' for name, value in launched.environment)
    for number, command in enumerate(launched.commands):
        yield ""
        yield f"  Machine {number}:"
        yield from _pasted(command_text(command))
    yield ""
    yield f"  Whether it works ({ANSWER} in the last one's content):"
    for command, shown in launched.checks:
        yield from _pasted(f"{command}   # {shown}")
    yield ""
    yield "  Into Seamount:"
    yield from _pasted(entry)
    if others:
        yield ""
        yield "  It can be divided otherwise too:"
        for other in others[:MOST_OTHERS]:
            yield f"    {division_text(other.division)}: {other.context_tokens:,} tokens for each conversation"


def division_text(division: Division) -> str:
    """ "tensor parallel 8, data parallel 2, expert parallel 16"."""
    parts = [f"tensor parallel {division.tensor}"]
    parts += [f"data parallel {division.data}"] if division.data > 1 else []
    parts += [f"expert parallel {division.experts}"] if division.experts > 1 else []
    parts += [f"{division.pipeline} stages of layers"] if division.pipeline > 1 else []
    return ", ".join(parts)


def facts(
    plan: ClusterPlan, launched: Launch, entry: dict[str, Any], checkpoint: Checkpoint
) -> dict[str, Any]:
    """The same for a program."""
    return {
        "engine": plan.engine,
        "version": VERSIONS[plan.engine],
        "checkpoint": asdict(checkpoint),
        "tensor_parallel": plan.division.tensor,
        "data_parallel": plan.division.data,
        "expert_parallel": plan.division.experts,
        "pipeline_parallel": plan.division.pipeline,
        "step_tokens": plan.step_tokens,
        "sequences_per_group": plan.sequences,
        "context_tokens": plan.context_tokens,
        "capacity_tokens_per_group": plan.capacity_tokens,
        "stages": [
            {
                "layers": [stage.layers.start, stage.layers.stop],
                "weights": asdict(stage.weights) | {"total": stage.weights.total},
                "cache": asdict(stage.cache),
                "budget_bytes": int(stage.budget_bytes),
            }
            for stage in plan.stages
        ],
        "environment": dict(launched.environment),
        "commands": [list(command) for command in launched.commands],
        "checks": [{"command": command, "shows": shown} for command, shown in launched.checks],
        "remote": entry,
    }


def _memory(plan: ClusterPlan) -> Iterator[str]:
    stage = plan.fullest
    which = (
        "each GPU" if len(plan.stages) == 1 else f"each GPU of the fullest stage ({_layers(stage.layers)})"
    )
    yield f"Weights on {which}: {size_text(stage.weights.total)}"
    for name, said in _KINDS:
        yield f"  {size_text(getattr(stage.weights, name)):>7}  {said}"
    left = int(stage.budget_bytes) - stage.weights.total
    kept = plan.cluster.gpu_bytes - int(stage.budget_bytes)
    yield f"For contexts: {size_text(left)}"
    yield (
        f"Assumed to be free: {size_text(kept)}, for the system, what a step of {plan.step_tokens:,} tokens works "
        "with, and what the engines send each other"
    )


def _contexts(plan: ClusterPlan) -> Iterator[str]:
    stage, groups = plan.fullest, plan.division.data
    many = "one conversation" if plan.sequences == 1 else f"each of {plan.sequences} conversations"
    where = f" in each of {groups} groups" if groups > 1 else ""
    yield f"Context: up to {plan.context_tokens:,} tokens for {many}{where} at once"
    yield (
        f"  a token takes {stage.cache.token_bytes:,.0f} bytes of a GPU, a conversation "
        f"{size_text(stage.cache.sequence_bytes)} besides, all together {size_text(stage.cache.fixed_bytes)} once"
    )
    if plan.context_tokens < MAX_EFFORT_TOKENS:
        yield f"  DeepSeek asks for {MAX_EFFORT_TOKENS:,} at the highest effort: long thoughts may be cut off"
    if plan.heads_cross:
        yield "  A layer's heads lie on several machines: every token waits for the network between them"


def _layers(layers: range) -> str:
    return f"layers {layers.start} to {layers.stop - 1}"


def _pasted(text: str) -> Iterator[str]:
    yield from (f"    {line}" for line in text.splitlines())
