"""By what states of llama.cpp's contexts are told apart: which fit into each other's place, and which go on alike.

Owns: the two keys of `base.ModelFacts`. Does not know what a state is made of (`llama_states`), nor how a model's file
is told from another (`file_identity`). Importing this module loads llama.cpp.

A state fits where the model, the types of its cache and the form in which attention keeps it are the same. That what
follows is the same to the bit needs more, since sums are then taken in the same order only if all of these are
equal: the library and the processor's features it uses, the threads (one token's attention over 512 cells and more is
divided among them, and its parts are added up), the tokens of a chunk, where a prompt is divided, and whether weights
were copied into another order. What was found to change bits and what not is in docs/reuse.md.

On a GPU that llama.cpp reaches by CUDA what follows was the same too, between processes on one H100 (docs/reuse.md),
where the card and what lies on it are equal. What other GPUs compute was not compared, so nothing is promised there:
such a key is equal to none of another process. Nor where llama.cpp finds a GPU and there is no plan: it decides by
itself then what it computes there. A plan that uses no GPU gives the model none.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from engine.backends.base import ModelFacts
from engine.backends.file_identity import DIGEST_BYTES, add_file, add_value, file_fingerprint, key_of
from engine.backends.ggml_library import library_folder
from engine.backends.llama_library import VERSION, backends, llama
from engine.placement.load_plan import LoadPlan

_logger = logging.getLogger(__name__)
_PROCESS = secrets.token_hex(8)
_CUDA = "CUDA : "
"""With this llama.cpp begins its account of a build for CUDA."""
_FORM = 1
"""Of the keys, and of what this program adds to a state; raised when either changes."""


def with_keys(
    facts: ModelFacts,
    path: Path,
    context: Any,
    parameters: Any,
    *,
    chunks: Sequence[int],
    plan: LoadPlan | None,
    repacked: bool,
    watched: bool,
    first_tokens: int,
) -> ModelFacts:
    """`facts` with both keys. `parameters`: those that `context` was made with; `chunks`: how prompts are divided;
    `repacked`: weights may be copied into the order that the processor's kernels like best; `watched`: it stops on the
    way through a layer, so that operations are not joined; `first_tokens`: for how many the model was made at first, 0
    if for all. Without keys where the model's file can no longer be read.
    """
    try:
        fingerprint = file_fingerprint(path)
        library = _library(library_folder())
    except (OSError, ImportError) as error:
        _logger.warning("states of this model's context will not be kept: %s", error)
        return facts
    state = key_of(
        _FORM,
        fingerprint,
        int(llama.LLAMA_STATE_SEQ_VERSION),
        int(parameters.n_seq_max),
        int(parameters.type_k),
        int(parameters.type_v),
        int(parameters.flash_attn_type),
        bool(parameters.swa_full),
        0 < first_tokens < facts.context_tokens,
    )
    system = (llama.llama_print_system_info() or b"").decode("utf-8", "replace")
    exact = key_of(
        state,
        library + backends.variant,
        system,
        int(llama.llama_n_threads(context)),
        int(llama.llama_n_threads_batch(context)),
        int(llama.llama_n_batch(context)),
        int(llama.llama_n_ubatch(context)),
        list(chunks),
        repacked,
        watched,
        _places(plan, system),
    )
    return replace(facts, state_key=state, exact_key=exact)


def _places(plan: LoadPlan | None, system: str) -> object:
    """What computes besides the processor, and of what. `system`: what the build says of itself."""
    if plan is None:
        return _PROCESS if llama.llama_supports_gpu_offload() else ""
    if plan.gpu is None:  # then the model is given no device at all (`LoadPlan.model_parameters`)
        return ""
    if not system.startswith(_CUDA):
        return _PROCESS
    whole, single = list(plan.expert_layers_in_ram), [list(each) for each in plan.matrices_in_ram]
    return [plan.gpu, plan.gpu_number, plan.gpu_layers, whole, single]


@cache
def _library(folder: Path) -> str:
    """The build: its version, and its libraries as `file_fingerprint` looks at files."""
    digest = hashlib.blake2b(VERSION.encode(), digest_size=DIGEST_BYTES)
    for path in _once(sorted(folder.glob("*"))):
        add_value(digest, path.name)
        add_file(digest, path, 0)
    return digest.hexdigest()


def _once(paths: Iterable[Path]) -> list[Path]:
    """Files under one of their names."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.is_file():
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())
