"""`seamount cluster plan`: how a DeepSeek-V4 is launched on a cluster by vLLM or SGLang, as lines or as JSON.

Owns: which model a name means and where its sizes come from, and the entry for Seamount's own list. The planning is
`placement.cluster_plan`; no machine is asked anything.
"""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from convert.model_shape import ModelShape
from engine.errors import BadRequest, DoesNotFit, SeamountError
from engine.library.catalogue_entries import Entry, load_catalogue
from engine.library.foretelling import released_shapes
from engine.paths import DataFolder
from engine.placement import cluster_words
from engine.placement.cluster_launch import Checkpoint, Launch, adding, launch
from engine.placement.cluster_nodes import Cluster, read_cluster
from engine.placement.cluster_plan import ENGINES, ClusterPlan, Needs, plan_cluster
from engine.placement.cluster_weights import Engine
from engine.protocol import ErrorBody
from engine.protocol_remote import RemoteAddress, SetRemote

_FAMILIES = {"DeepSeek-V4-Flash": "flash", "DeepSeek-V4-Pro": "pro"}
_LATER = {"flash": "flash-0731", "pro": "pro-0813"}
_REPACKED = {
    "flash": "sgl-project/DeepSeek-V4-Flash-FP8",
    "pro": "sgl-project/DeepSeek-V4-Pro-FP8",
}
"""The previews with their experts repacked in FP8, by SGLang's makers."""


@dataclass(frozen=True)
class Asked:
    """What is to be planned. `engine` "both": one plan for each. `experts`: "fp4" as released, or "fp8"."""

    gpus: str
    model: str
    nodes: int = 1
    engine: Literal["vllm", "sglang", "both"] = "both"
    context_tokens: int | None = None
    sequences: int = 8
    experts: Literal["fp4", "fp8"] = "fp4"


@dataclass(frozen=True)
class _Model:
    title: str
    shape: ModelShape
    checkpoint: Checkpoint
    later: str | None


def plan(folder: DataFolder, asked: Asked, *, as_json: bool) -> int:
    """Print the plan; exit status 0, 1 where only one of two engines can, or, with `as_json`, for an error.

    Raises BadRequest, DoesNotFit unless `as_json`.
    """
    try:
        cluster = read_cluster(asked.gpus, asked.nodes)
        model = _model(folder, asked)
        found, refused = _planned(model, cluster, asked)
    except SeamountError as error:
        if not as_json:
            raise
        print(json.dumps({"error": _body(error)}, ensure_ascii=False))
        return 1
    if as_json:
        told = [
            cluster_words.facts(
                one, launched, _entry(model, launched).model_dump(mode="json"), model.checkpoint
            )
            for one, _, launched in found
        ]
        errors = {engine: _body(error) for engine, error in refused}
        print(json.dumps({"plans": told, "refused": errors}, ensure_ascii=False, indent=2))
        return 1 if refused else 0
    for line in cluster_words.opening(model.title, cluster, asked.sequences):
        print(line)
    if model.later is not None:
        print(f"This is the preview; {model.later} is the release that took its place, of the same size.")
    for one, others, launched in found:
        print()
        remote = _entry(model, launched)
        entry = adding(launched.url, remote.model, remote.name)
        for line in cluster_words.lines(one, launched, entry, others):
            print(line)
    for _, error in refused:
        print(f"\n{error.text}")
    return 1 if refused else 0


def _planned(
    model: _Model, cluster: Cluster, asked: Asked
) -> tuple[
    list[tuple[ClusterPlan, tuple[ClusterPlan, ...], Launch]],
    list[tuple[Engine, SeamountError]],
]:
    """The plans, and the engines that cannot. Raises BadRequest, DoesNotFit where none can."""
    needs = Needs(asked.sequences, asked.context_tokens)
    found: list[tuple[ClusterPlan, tuple[ClusterPlan, ...], Launch]] = []
    refused: list[tuple[Engine, SeamountError]] = []
    for engine in ENGINES:
        if asked.engine not in (engine, "both"):
            continue
        if engine == "vllm" and asked.experts == "fp8":
            refused.append((engine, _no_repacked()))
            continue
        try:
            one, others = plan_cluster(model.shape, model.title, cluster, engine, needs)
        except DoesNotFit as error:
            refused.append((engine, error))
            continue
        found.append((one, others, launch(one, model.shape, model.checkpoint)))
    if not found:
        raise refused[0][1]
    return found, refused


def _no_repacked() -> BadRequest:
    return BadRequest(
        "No cluster can be planned for vLLM with experts in FP8",
        "the checkpoint with them is SGLang's own",
        "leave --quantised-as out, or plan for SGLang alone",
    )


def _model(folder: DataFolder, asked: Asked) -> _Model:
    """The model of the catalogue that is meant. Raises BadRequest."""
    catalogue = load_catalogue(folder)
    known = {name: entry for name, entry in catalogue.entries.items() if _family(entry) is not None}
    entry = known.get(asked.model.strip().lower())
    if entry is None:
        raise BadRequest(
            "No cluster can be planned",
            f"{asked.model.strip()[:80]!r} is no checkpoint of a DeepSeek-V4 in the library",
            f"name one of {', '.join(known)}",
        )
    family = _family(entry) or ""
    shape = released_shapes()[family]
    checkpoint = Checkpoint(entry.repository, entry.revision if entry.pinned else None)
    if asked.experts == "fp8":
        if entry.name not in _REPACKED:
            raise BadRequest(
                "No cluster can be planned",
                f"{entry.title} is not known to be had with its experts in FP8",
                f"plan for {family}, the preview, or with the experts as released",
            )
        checkpoint = Checkpoint(_REPACKED[entry.name], experts="fp8")
        shape = replace(shape, expert_dtype="fp8")
    return _Model(entry.title, shape, checkpoint, _LATER.get(entry.name))


def _family(entry: Entry) -> str | None:
    """Which of the two shapes a checkpoint has, by the release it is of: those that only add a drafter, or were
    taught anew, have the shape of the first."""
    if entry.kind != "checkpoint" or entry.release is None:
        return None
    base = entry.release
    for suffix in ("-0731", "-0813", "-DSpark"):
        base = base.removesuffix(suffix)
    return _FAMILIES.get(base)


def _entry(model: _Model, launched: Launch) -> SetRemote:
    """What Seamount's list of remote models takes; the key is given there by hand."""
    return SetRemote(
        name=f"{model.title} on {ENGINES[launched.engine]}",
        addresses=[RemoteAddress(url=launched.url)],
        model=model.checkpoint.repository,
    )


def _body(error: SeamountError) -> dict[str, Any]:
    return ErrorBody(code=error.code, text=error.text).model_dump()
