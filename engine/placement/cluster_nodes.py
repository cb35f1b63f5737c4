"""A cluster as a person describes it: so many machines, each with so many GPUs of so much memory.

Owns: reading "8x80", "8xH100", "8x80GiB". Pure. Machines are all alike, since the engines that share a model out
give every GPU an equal part. A card's memory is what its maker sells it as, in bytes of powers of 1000: cards report
a little more, so plans err on the safe side.
"""

import re
from dataclasses import dataclass

from engine.errors import BadRequest

MOST_NODES = 64
MOST_GPUS = 72
"""In one machine; racks that are one domain of NVLink have as many."""
MOST_CHARACTERS = 64
_GB, _GIB = 1_000_000_000, 1 << 30
_LEAST_BYTES, _MOST_BYTES = 8 * _GB, 1024 * _GB
CARDS: dict[str, int] = {
    "H100": 80,
    "H200": 141,
    "H20": 96,
    "B200": 180,
    "B300": 268,
    "GB300": 268,
    "RTXPRO6000": 96,
}
"""What may be written in a number's place, in GB: cards that an engine's recipes for DeepSeek-V4 name."""
_PART = re.compile(r"(\d{1,6})\s*[x×*]\s*(?:(\d{1,6})\s*(gb|gib|g)?|([a-z][a-z0-9 -]{1,15}))", re.ASCII)
_WHAT = "No cluster can be planned"


@dataclass(frozen=True)
class Cluster:
    """`nodes` machines with `gpus` GPUs each, every one with `gpu_bytes` of memory."""

    nodes: int
    gpus: int
    gpu_bytes: int

    @property
    def total(self) -> int:
        """All GPUs."""
        return self.nodes * self.gpus

    @property
    def text(self) -> str:
        """ "2 machines of 8 GPUs of 80 GB"."""
        machines = "one machine with" if self.nodes == 1 else f"{self.nodes} machines, each with"
        gpus = "one GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
        return f"{machines} {gpus} of {memory_text(self.gpu_bytes)}"


def read_cluster(gpus: str, nodes: int) -> Cluster:
    """The cluster that `--gpus` and `--nodes` describe. Raises BadRequest."""
    if not 1 <= nodes <= MOST_NODES:
        raise BadRequest(_WHAT, f"{nodes} machines were named", f"name 1 to {MOST_NODES}")
    text = gpus.strip().lower()
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(_WHAT, "what stands behind --gpus is too long", "write it as 8x80")
    parts = re.split(r"\s*[+,;]\s*", text)
    found = [_read(part, gpus) for part in parts]
    if len({size_bytes for _, size_bytes in found}) > 1:
        raise BadRequest(
            _WHAT,
            f"{gpus.strip()} are GPUs of several kinds, and every GPU gets an equal part of a model",
            "plan with the larger group alone, or with all of them as if each had the smallest's memory",
        )
    count, gpu_bytes = sum(each for each, _ in found), found[0][1]
    if not 1 <= count <= MOST_GPUS:
        raise BadRequest(_WHAT, f"{count} GPUs in one machine were named", f"name 1 to {MOST_GPUS}")
    return Cluster(nodes, count, gpu_bytes)


def memory_text(size_bytes: int) -> str:
    """80 GB, or 85.9 GB where it is not whole."""
    return f"{size_bytes / _GB:.4g} GB"


def _read(part: str, whole: str) -> tuple[int, int]:
    found = _PART.fullmatch(part)
    if found is None:
        raise BadRequest(
            _WHAT,
            f"{whole.strip() or 'nothing'} does not say how many GPUs and how much memory",
            "write GPUs of one machine, x, and GB of one GPU, as in 8x80",
        )
    if found[4] is not None:
        size = CARDS.get(re.sub(r"[ -]", "", found[4]).removeprefix("nvidia").upper())
        if size is None:
            known = ", ".join(CARDS)
            raise BadRequest(
                _WHAT, f"the GPU {found[4].strip()} is not known", f"give its memory in GB, or one of {known}"
            )
        return int(found[1]), size * _GB
    size_bytes = int(found[2]) * (_GIB if found[3] == "gib" else _GB)
    if not _LEAST_BYTES <= size_bytes <= _MOST_BYTES:
        raise BadRequest(
            _WHAT,
            f"{memory_text(size_bytes)} of memory for one GPU cannot be",
            "give what one GPU has, from 8 to 1024 GB",
        )
    return int(found[1]), size_bytes
