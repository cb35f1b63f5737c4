"""By what states of the native engine's contexts are told apart: which fit into each other's place, which go on alike.

Owns: the two keys of `base.ModelFacts` for it. Does not know what a state is made of (`engine.model`).

A state fits where the model's file and the form of the cache are the same, with the draft block's part or without. That
what follows is the same to the bit needs in addition: the same operators (their source, and whether the reference is
forced), the same torch on the same instructions of the processor or the same card, with the experts computed by the
same of the two, the same threads, since a sum may be divided among them, and prompts cut into the same chunks.
"""

import hashlib
import logging
import os
import platform
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from engine.backends.base import ModelFacts
from engine.backends.file_identity import (
    DIGEST_BYTES,
    add_value,
    file_fingerprint,
    files_fingerprint,
    key_of,
)
from engine.placement import hardware

_logger = logging.getLogger(__name__)
_FORM = 1
"""Of the keys, and of what this program adds to a state; raised when either changes."""
KERNELS_VARIABLE = "SEAMOUNT_KERNELS"
_ROOMS = ("kernels", "engine/model")
"""What computes, beside torch."""


def with_keys(
    facts: ModelFacts,
    files: tuple[Path, ...],
    *,
    cache_format: str,
    drafts: bool,
    activations: str,
    device: torch.device,
    experts_on: str,
    chunks: tuple[int, ...],
) -> ModelFacts:
    """`facts` with both keys. `files`: the model's, and a drafter's after it; `chunks`: how prompts are divided.
    Without keys where a file can no longer be read."""
    try:
        fingerprints = [_fingerprint(path) for path in files]
        source = _source()
    except OSError as error:
        _logger.warning("states of this model's context will not be kept: %s", error)
        return facts
    state = key_of(_FORM, "native", fingerprints, cache_format, drafts)
    exact = key_of(
        state,
        source,
        os.environ.get(KERNELS_VARIABLE, ""),
        torch.__version__,
        _machine(device, experts_on),
        facts.threads,
        activations,
        list(chunks),
    )
    return replace(facts, state_key=state, exact_key=exact)


def _fingerprint(path: Path) -> str:
    if path.is_dir():
        return files_fingerprint(sorted(each for each in path.iterdir() if each.is_file()))
    return file_fingerprint(path)


def _machine(device: torch.device, experts_on: str) -> list[object]:
    """What the arithmetic runs on. Where an expert's bytes lie is no part of it: sums are the same."""
    found: list[object] = [device.type, experts_on]
    if "cpu" in found:
        found += [platform.machine(), hardware.processor().name, torch.backends.cpu.get_cpu_capability()]
    if device.type == "cuda":
        capability = list(torch.cuda.get_device_capability(device))
        found += [torch.cuda.get_device_name(device), capability, torch.version.cuda]
    return found


@cache
def _source() -> str:
    """The operators and the network as they were written."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for room in _ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            add_value(digest, path.relative_to(root).as_posix())
            digest.update(path.read_bytes())
    return digest.hexdigest()
