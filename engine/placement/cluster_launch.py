"""How a plan for a cluster is started: one command for each machine, and how to see that it works.

Owns: the options of vLLM and SGLang that a plan comes to, each of which is there in the version named
(vLLM: `vllm/engine/arg_utils.py`, `vllm/entrypoints/`, its recipe and its pages on multi-node serving; SGLang:
`sglang/srt/arg_groups/fields/`). Pure; starts nothing. Addresses and the key are variables of the shell: what is
printed holds no secret.
"""

import json
import shlex
from dataclasses import dataclass

from convert.model_shape import ModelShape
from engine.placement.cluster_plan import USED_SHARE, ClusterPlan
from engine.placement.cluster_weights import Engine, replicates_shared

VERSIONS: dict[Engine, str] = {"vllm": "0.33.0", "sglang": "0.5.23"}
PORTS: dict[Engine, int] = {"vllm": 8000, "sglang": 30000}
HEAD, KEY = "$HEAD", "$CLUSTER_KEY"
QUESTION, ANSWER = "What is 17 * 19? Answer with the number alone.", "323"
"""What is asked of a fresh server: an answer from weights that were shared out wrongly is not a number."""
_RENDEZVOUS = {"vllm groups": 13345, "sglang": 20000}
_SHOWN_WIDTH = 96


@dataclass(frozen=True)
class Checkpoint:
    """What is served: a repository of the hub, the commit of it where that is known, and the format of its experts."""

    repository: str
    revision: str | None = None
    experts: str = "fp4"


@dataclass(frozen=True)
class Launch:
    """`commands`: one for each machine, that of the address `HEAD` first; `environment`: for each of them besides.
    `checks`: commands to run once it is up, with what they are to show."""

    engine: Engine
    environment: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, ...], ...]
    checks: tuple[tuple[str, str], ...]

    @property
    def url(self) -> str:
        """Where it answers, up to /v1, HEAD being a variable."""
        return f"http://{HEAD}:{PORTS[self.engine]}/v1"


def launch(plan: ClusterPlan, shape: ModelShape, checkpoint: Checkpoint) -> Launch:
    """The commands of a plan."""
    each = _vllm if plan.engine == "vllm" else _sglang
    return Launch(
        plan.engine,
        _environment(plan, shape, checkpoint),
        tuple(each(plan, checkpoint, node) for node in range(plan.cluster.nodes)),
        _checks(plan.engine, checkpoint),
    )


def adding(url: str, model: str, name: str) -> str:
    """The command that puts the server into Seamount's list; its key comes by the standard input."""
    words = (
        f'seamount remotes add "{url}" --model {shlex.quote(model)} --name {shlex.quote(name)} --key-stdin'
    )
    return f"printenv {KEY[1:]} |\\\n  {words}"


def command_text(arguments: tuple[str, ...]) -> str:
    """A command as it is pasted: an option and its value on one line, lines joined by a backslash."""
    parts = list[str]()
    for argument in arguments:
        if argument.startswith("--") or not parts:
            parts.append(_quoted(argument))
        else:
            parts[-1] += f" {_quoted(argument)}"
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < _SHOWN_WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"  {part}")
    return " \\\n".join(lines)


def _vllm(plan: ClusterPlan, checkpoint: Checkpoint, node: int) -> tuple[str, ...]:
    division, cluster = plan.division, plan.cluster
    command = ["vllm", "serve", checkpoint.repository, *_revision(checkpoint)]
    command += ["--tensor-parallel-size", str(division.tensor)]
    if division.pipeline > 1:
        command += ["--pipeline-parallel-size", str(division.pipeline)]
    if division.data > 1:
        command += ["--data-parallel-size", str(division.data)]
    if division.experts > 1:
        command.append("--enable-expert-parallel")
    if cluster.nodes > 1 and division.data > 1:
        here = plan.groups_here
        command += ["--data-parallel-size-local", str(here), "--data-parallel-address", HEAD]
        command += ["--data-parallel-rpc-port", str(_RENDEZVOUS["vllm groups"])]
        if node:
            command += ["--data-parallel-start-rank", str(node * here), "--headless"]
    elif cluster.nodes > 1:
        command += ["--nnodes", str(cluster.nodes), "--node-rank", str(node), "--master-addr", HEAD]
        if node:
            command.append("--headless")
    command += ["--kv-cache-dtype", "fp8", "--block-size", "256"]
    command += ["--max-model-len", str(plan.context_tokens), "--max-num-seqs", str(plan.sequences)]
    command += ["--max-num-batched-tokens", str(plan.step_tokens)]
    command += ["--gpu-memory-utilization", f"{USED_SHARE:g}"]
    command += ["--tokenizer-mode", "deepseek_v4", "--reasoning-parser", "deepseek_v4"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "deepseek_v4"]
    if not node:
        command += ["--host", HEAD, "--port", str(PORTS["vllm"])]
    return tuple(command)


def _sglang(plan: ClusterPlan, checkpoint: Checkpoint, node: int) -> tuple[str, ...]:
    division, cluster = plan.division, plan.cluster
    command = ["python3", "-m", "sglang.launch_server", "--model-path", checkpoint.repository]
    command += [*_revision(checkpoint), "--tp-size", str(division.experts)]
    if division.pipeline > 1:
        command += ["--pp-size", str(division.pipeline)]
    if division.data > 1:
        # The output by groups too: over all GPUs its rows need not come out even.
        command += ["--attn-dp-size", str(division.data), "--enable-dp-lm-head"]
    if division.experts > 1:
        command += ["--ep-size", str(division.experts)]
    if cluster.nodes > 1:
        command += ["--nnodes", str(cluster.nodes), "--node-rank", str(node)]
        command += ["--dist-init-addr", f"{HEAD}:{_RENDEZVOUS['sglang']}"]
    command += ["--kv-cache-dtype", "fp8_e4m3", "--context-length", str(plan.context_tokens)]
    command += ["--max-running-requests", str(plan.sequences * division.data)]
    command += ["--chunked-prefill-size", str(plan.step_tokens)]
    command += ["--mem-fraction-static", f"{static_share(plan):.2f}"]
    command += ["--reasoning-parser", "deepseek-v4", "--tool-call-parser", "deepseekv4"]
    if not node:  # the others only answer whether they are well, each on its own loopback address
        command += ["--host", HEAD, "--port", str(PORTS["sglang"]), "--api-key", KEY]
    return tuple(command)


def static_share(plan: ClusterPlan) -> float:
    """What SGLang is told to take of a GPU for weights and contexts, rounded down to hundredths."""
    return int(100 * plan.fullest.budget_bytes / plan.cluster.gpu_bytes) / 100


def _environment(plan: ClusterPlan, shape: ModelShape, checkpoint: Checkpoint) -> tuple[tuple[str, str], ...]:
    if plan.engine == "vllm":
        return (("VLLM_API_KEY", KEY),)
    found: list[tuple[str, str]] = []
    if replicates_shared(shape, plan.division):
        found.append(("SGLANG_SHARED_EXPERT_TP1", "1"))
    if checkpoint.experts == "fp8":
        found.append(("SGLANG_DSV4_FP4_EXPERTS", "0"))
    return tuple(found)


def _checks(engine: Engine, checkpoint: Checkpoint) -> tuple[tuple[str, str], ...]:
    at = f"http://{HEAD}:{PORTS[engine]}"
    bearer = f'-H "Authorization: Bearer {KEY}"'
    asked = {
        "model": checkpoint.repository,
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 4096,
    }
    return (
        (f'curl -fsS -o /dev/null -w "%{{http_code}}\\n" "{at}/health"', "200"),
        (f'curl -fsS {bearer} "{at}/v1/models"', checkpoint.repository),
        (
            f'curl -fsS {bearer} -H "Content-Type: application/json" "{at}/v1/chat/completions" \\\n'
            f"  -d {shlex.quote(json.dumps(asked))}",
            ANSWER,
        ),
    )


def _revision(checkpoint: Checkpoint) -> list[str]:
    return ["--revision", checkpoint.revision] if checkpoint.revision else []


def _quoted(argument: str) -> str:
    return f'"{argument}"' if argument.startswith("$") else shlex.quote(argument)
