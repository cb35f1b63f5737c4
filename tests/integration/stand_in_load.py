"""One load by a plan, in a process of its own, with the llama.cpp that the environment names.

Reads a question as JSON on its standard input and prints the answer as one line of JSON: what was planned, what was
taken, and which tokens came. A process has the libraries that it began with, so a test that wants others starts this.
"""

import json
import sys
from pathlib import Path
from typing import Any


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    """`path`: the model. `budget_bytes`: of the GPU's memory; None: all that is free. `planned_for`: another file,
    whose plan is used. `prompt`: tokens to read; none: nothing is computed. `tokens`: how many are written."""
    from engine.backends.llamacpp import LlamaCppBackend
    from engine.backends.opening import gpus_now, open_backend, rehearsal_of
    from engine.errors import SeamountError
    from engine.placement.planner import Wishes
    from engine.placement.present_plan import plan_for, sizes_of_file
    from engine.protocol import ModelEntry

    path = Path(asked["path"])
    wishes = Wishes(
        asked.get("context_tokens", 512),
        cache_type=asked.get("cache_type", "f16"),
        threads=1,
        gpu_budget_bytes=asked.get("budget_bytes"),
    )
    gpus = gpus_now()
    told: dict[str, Any] = {"devices": [gpu.name for gpu in gpus]}
    try:
        if asked.get("planned_for") is None:
            entry = ModelEntry(id="m", name="m", path=str(path), size_bytes=0, source="file")
            backend = open_backend(entry, wishes=wishes, on_progress=lambda _: True)
        else:
            other = Path(asked["planned_for"])
            plan = plan_for(sizes_of_file(other), wishes, gpus, rehearse=rehearsal_of(other, here=True))
            told["patterns"] = plan.tensors_in_ram()
            backend = LlamaCppBackend.open(
                path, name="m", context_tokens=512, threads=1, on_progress=lambda _: True, plan=plan
            )
    except SeamountError as error:
        return told | {"error": error.text}
    try:
        plan, taken = backend.plan, backend.taken
        assert plan is not None
        assert taken is not None
        told |= {
            "gpu": plan.gpu,
            "gpu_bytes": plan.held_bytes("gpu"),
            "driver_bytes": plan.part_bytes("driver", "gpu"),
            "ram_bytes": plan.held_bytes("ram") - plan.part_bytes("states", "ram"),
            "weights_on_gpu_bytes": sum(
                plan.part_bytes(what, "gpu") for what in ("experts", "dense", "output")
            ),
            "patterns": plan.tensors_in_ram(),
            "taken_gpu_bytes": taken.gpu_bytes,
            "taken_ram_bytes": taken.ram_bytes + taken.mapped_bytes,
            "why": [f"{each.what}: {each.why}" for each in plan.decisions],
        }
        if asked.get("prompt"):
            backend.sync(asked["prompt"], lambda _done, _total, _reused: None, lambda: False)
            logits = backend.logits()
            told["logits"] = [float(each) for each in logits]
            written = [int(logits.argmax())]
            while len(written) < asked["tokens"]:
                written.append(int(backend.step(written[-1]).argmax()))
            told["written"] = written
        return told
    finally:
        backend.close()


if __name__ == "__main__":
    print("answer " + json.dumps(answer(json.load(sys.stdin))), flush=True)
