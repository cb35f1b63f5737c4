"""The commands of a plan: every option is one that the engine has, and what they say is the plan."""

import json
import shlex
from functools import cache

import pytest

from convert.model_shape import ModelShape
from engine.placement.cluster_launch import Checkpoint, Launch, command_text, launch, static_share
from engine.placement.cluster_nodes import read_cluster
from engine.placement.cluster_plan import ClusterPlan, Needs, plan_cluster
from engine.placement.cluster_weights import Engine
from tests.convert.released_configs import FLASH, PRO

ARGS, FRONT = "vllm/engine/arg_utils.py", "vllm/entrypoints/common/cli_args.py"
FIELDS = "sglang/srt/arg_groups/fields/"
OPTIONS: dict[Engine, dict[str, str]] = {
    "vllm": {
        "--revision": ARGS,
        "--tensor-parallel-size": ARGS,
        "--pipeline-parallel-size": ARGS,
        "--data-parallel-size": ARGS,
        "--data-parallel-size-local": ARGS,
        "--data-parallel-address": ARGS,
        "--data-parallel-rpc-port": ARGS,
        "--data-parallel-start-rank": ARGS,
        "--enable-expert-parallel": ARGS,
        "--nnodes": ARGS,
        "--node-rank": ARGS,
        "--master-addr": ARGS,
        "--kv-cache-dtype": ARGS,
        "--block-size": ARGS,
        "--max-model-len": ARGS,
        "--max-num-seqs": ARGS,
        "--max-num-batched-tokens": ARGS,
        "--gpu-memory-utilization": ARGS,
        "--tokenizer-mode": ARGS,
        "--reasoning-parser": ARGS,
        "--headless": FRONT,
        "--enable-auto-tool-choice": FRONT,
        "--tool-call-parser": FRONT,
        "--host": FRONT,
        "--port": FRONT,
    },
    "sglang": {
        "--model-path": FIELDS + "model.py",
        "--revision": FIELDS + "model.py",
        "--kv-cache-dtype": FIELDS + "model.py",
        "--context-length": FIELDS + "model.py",
        "--tp-size": FIELDS + "parallel.py",
        "--pp-size": FIELDS + "parallel.py",
        "--attn-dp-size": FIELDS + "parallel.py",
        "--enable-dp-lm-head": FIELDS + "parallel.py",
        "--ep-size": FIELDS + "parallel.py",
        "--nnodes": FIELDS + "parallel.py",
        "--node-rank": FIELDS + "parallel.py",
        "--dist-init-addr": FIELDS + "parallel.py",
        "--max-running-requests": FIELDS + "schedule.py",
        "--chunked-prefill-size": FIELDS + "schedule.py",
        "--mem-fraction-static": FIELDS + "schedule.py",
        "--reasoning-parser": "sglang/srt/server_args.py",
        "--tool-call-parser": "sglang/srt/server_args.py",
        "--host": FIELDS + "serving.py",
        "--port": FIELDS + "serving.py",
        "--api-key": FIELDS + "serving.py",
    },
}
"""Where each was read, in vLLM 0.33.0 and SGLang 0.5.23."""
ALONE = {"--enable-expert-parallel", "--headless", "--enable-auto-tool-choice", "--enable-dp-lm-head"}
CLUSTERS = [
    ("flash", "1xGB300", 1),
    ("flash", "8x80", 1),
    ("flash", "3x80", 1),
    ("flash", "8x24", 2),
    ("flash", "3x80", 2),
    ("pro", "8x80", 2),
    ("pro", "8x80", 3),
    ("pro", "4x80", 5),
    ("pro", "8x141", 2),
]
ENGINES: tuple[Engine, ...] = ("vllm", "sglang")


@cache
def shape(name: str) -> ModelShape:
    return ModelShape.from_config({"flash": FLASH, "pro": PRO}[name])


def launched(name: str, gpus: str, nodes: int, engine: Engine) -> tuple[ClusterPlan, Launch]:
    plan, _ = plan_cluster(shape(name), name, read_cluster(gpus, nodes), engine, Needs(8))
    return plan, launch(plan, shape(name), Checkpoint(f"owner/{name}", "0" * 40))


def values(command: tuple[str, ...]) -> dict[str, str]:
    """Options and their values; an option that comes twice is an error."""
    found: dict[str, str] = {}
    for at, word in enumerate(command):
        if word.startswith("--"):
            assert word not in found, word
            found[word] = "" if word in ALONE else command[at + 1]
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "gpus", "nodes"), CLUSTERS)
def test_every_option_is_one_the_engine_has_and_has_its_value(
    name: str, gpus: str, nodes: int, engine: Engine
) -> None:
    plan, found = launched(name, gpus, nodes, engine)
    assert len(found.commands) == nodes
    for command in found.commands:
        options = values(command)
        assert set(options) <= set(OPTIONS[engine])
        assert all(
            value and not value.startswith("--") for name, value in options.items() if name not in ALONE
        )
        assert options["--revision"] == "0" * 40
        # The same in a shell: nothing is split or lost.
        text = (
            command_text(command).replace("\\\n", " ").replace("$HEAD", "HEAD").replace("$CLUSTER", "CLUSTER")
        )
        assert tuple(shlex.split(text)) == tuple(
            word.replace("$HEAD", "HEAD").replace("$CLUSTER", "CLUSTER") for word in command
        )
        assert str(plan.context_tokens) in (options.get("--max-model-len"), options.get("--context-length"))


@pytest.mark.parametrize(("name", "gpus", "nodes"), CLUSTERS)
def test_vllm_is_told_the_division(name: str, gpus: str, nodes: int) -> None:
    plan, found = launched(name, gpus, nodes, "vllm")
    division = plan.division
    ranks = list[int]()
    for node, command in enumerate(found.commands):
        options = values(command)
        assert int(options["--tensor-parallel-size"]) == division.tensor
        assert int(options.get("--data-parallel-size", "1")) == division.data
        assert int(options.get("--pipeline-parallel-size", "1")) == division.pipeline
        assert ("--enable-expert-parallel" in options) == (division.experts > 1)
        assert ("--headless" in options) == (node > 0)
        assert ("--host" in options) == (node == 0)  # one machine answers, at the address that was named
        local = int(options.get("--data-parallel-size-local", str(division.data)))
        if nodes > 1 and division.data > 1:
            assert local * division.tensor == plan.cluster.gpus
            first = int(options.get("--data-parallel-start-rank", "0"))
            ranks += range(first, first + local)
        elif nodes > 1:
            assert (int(options["--nnodes"]), int(options["--node-rank"])) == (nodes, node)
    assert ranks in ([], list(range(division.data)))
    assert dict(found.environment) == {"VLLM_API_KEY": "$CLUSTER_KEY"}


@pytest.mark.parametrize(("name", "gpus", "nodes"), CLUSTERS)
def test_sglang_is_told_the_division(name: str, gpus: str, nodes: int) -> None:
    """Its tensor parallel size counts the groups of data-parallel attention too."""
    plan, found = launched(name, gpus, nodes, "sglang")
    division = plan.division
    for node, command in enumerate(found.commands):
        options = values(command)
        assert int(options["--tp-size"]) == division.tensor * division.data
        assert int(options.get("--attn-dp-size", "1")) == division.data
        assert int(options.get("--ep-size", "1")) == division.experts
        assert int(options.get("--pp-size", "1")) == division.pipeline
        assert ("--api-key" in options) == ("--host" in options) == (node == 0)
        assert int(options["--max-running-requests"]) == plan.sequences * division.data
        share = float(options["--mem-fraction-static"])
        assert share <= plan.fullest.budget_bytes / plan.cluster.gpu_bytes < share + 0.01
        if nodes > 1:
            assert (options["--nnodes"], options["--node-rank"]) == (str(nodes), str(node))
            assert options["--dist-init-addr"] == "$HEAD:20000"


def test_the_shared_expert_of_pro_is_kept_whole_where_it_cannot_be_cut() -> None:
    assert ("SGLANG_SHARED_EXPERT_TP1", "1") in launched("pro", "8x80", 2, "sglang")[1].environment
    assert launched("pro", "8x80", 3, "sglang")[1].environment == ()


def test_experts_in_fp8_are_told_to_sglang() -> None:
    plan, _ = plan_cluster(shape("flash"), "flash", read_cluster("8x80", 1), "sglang", Needs(8))
    found = launch(plan, shape("flash"), Checkpoint("owner/flash", experts="fp8"))
    assert found.environment == (("SGLANG_DSV4_FP4_EXPERTS", "0"),)
    assert "--revision" not in found.commands[0]


def test_what_is_sent_to_try_it_is_json_in_one_word() -> None:
    for engine in ENGINES:
        _, found = launched("flash", "8x80", 1, engine)
        words = shlex.split(found.checks[2][0].replace("\\\n", " "))
        asked = json.loads(words[words.index("-d") + 1])
        assert asked["model"] == "owner/flash"
        assert int(found.checks[2][1]) == 17 * 19
        assert found.url == f"http://$HEAD:{8000 if engine == 'vllm' else 30000}/v1"


def test_no_more_is_taken_of_a_gpu_than_is_left() -> None:
    plan, _ = launched("flash", "8x24", 2, "sglang")
    assert static_share(plan) == 0.70
