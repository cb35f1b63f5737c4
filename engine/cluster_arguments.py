"""The arguments of `seamount cluster`.

Owns: their words, and which call each is (`cluster_command` has it). Loads nothing until it is made.
"""

import argparse
from collections.abc import Callable

from engine.paths import DataFolder

COMMAND = "cluster"


def add_arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; docs/cluster.md tells what it does."""
    cluster = add(COMMAND, help="a DeepSeek-V4 on several machines, by vLLM or SGLang: how to launch it")
    actions = cluster.add_subparsers(dest="action", metavar="ACTION", required=True)
    plan = actions.add_parser("plan", help="print the commands for each machine; starts nothing")
    plan.add_argument(
        "--gpus", metavar="NxGB", required=True, help="the GPUs of one machine: 8x80, 8x80GiB, 8xH100"
    )
    plan.add_argument("--nodes", type=_number, metavar="N", default=1, help="machines (default: 1)")
    plan.add_argument(
        "--model", metavar="NAME", required=True, help="a DeepSeek-V4 of the library: flash-0731, pro-0813, …"
    )
    plan.add_argument(
        "--engine", choices=("vllm", "sglang", "both"), default="both", help="which (default: both)"
    )
    plan.add_argument(
        "--context", type=_number, metavar="TOKENS", help="of each conversation (default: as long as fits)"
    )
    plan.add_argument(
        "--sequences", type=_number, metavar="N", default=8, help="conversations at once (default: 8)"
    )
    plan.add_argument(
        "--quantised-as",
        choices=("released", "fp8"),
        default="released",
        help="the experts' numbers: as released (FP4), or the preview's repacked in FP8",
    )
    plan.add_argument("--json", action="store_true", help="as one JSON object")


def run(options: argparse.Namespace, folder: DataFolder) -> int:
    """Do what is asked; the exit status. Raises SeamountError and its kinds."""
    from engine import cluster_command

    return cluster_command.plan(
        folder,
        cluster_command.Asked(
            gpus=options.gpus,
            nodes=options.nodes,
            model=options.model,
            engine=options.engine,
            context_tokens=options.context,
            sequences=options.sequences,
            experts="fp8" if options.quantised_as == "fp8" else "fp4",
        ),
        as_json=options.json,
    )


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 31:
        raise argparse.ArgumentTypeError("a number from 0 on")
    return number
