"""A model loaded by llama.cpp, and what it says of itself.

Owns: the load by a plan, its progress and its refusal in words, and the facts read from a loaded model. Does not know
contexts or tokens (`llamacpp`).
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.backends.base import ModelFacts
from engine.backends.llama_library import llama
from engine.backends.llama_log import LlamaLog
from engine.backends.llama_placement import placement_of, set_parameters
from engine.backends.llama_vocabulary import GgufVocabulary
from engine.errors import ModelLoadError
from engine.placement.load_plan import LoadPlan

UNREWINDABLE = frozenset(("deepseek4",))
"""Architectures whose memory cannot be cut back: a ring, and rows compressed from what is gone."""

log = LlamaLog()
_log_callback = llama.llama_log_callback(log.line)  # kept: llama.cpp holds only its address


def begin_log() -> None:
    """Hand llama.cpp's lines over from now on, and forget the errors before."""
    log.forget()
    llama.llama_log_set(_log_callback, ctypes.c_void_p(0))


def reaches_gpu() -> bool:
    """Whether this build of llama.cpp can compute on a GPU."""
    return bool(llama.llama_supports_gpu_offload())


def load_model(
    path: Path,
    name: str,
    on_progress: Callable[[float], bool],
    plan: LoadPlan | None,
    *,
    repack: bool,
) -> Any:
    """The model in the file at `path`, by `plan`. `repack`: matrices may be copied into the order that the processor's
    kernels like best. Raises ModelLoadError, with llama.cpp's own reason where it has one."""
    failure: list[BaseException] = []
    stopped = False

    def progress(fraction: float, _data: object) -> bool:
        nonlocal stopped
        try:
            stopped = stopped or not on_progress(fraction)
        except BaseException as error:  # noqa: BLE001 - it cannot travel through C; raised again below
            failure.append(error)
            stopped = True
        return not stopped

    parameters = llama.llama_model_default_params()
    parameters.load_mode = llama.LLAMA_LOAD_MODE_MMAP
    set_parameters(parameters, plan.model_parameters() if plan else {})
    placement = placement_of(path, name, plan)  # kept until the model is loaded
    placement.apply(parameters)
    if not repack:
        parameters.use_extra_bufts = False
    callback = llama.llama_progress_callback(progress)
    parameters.progress_callback = callback
    model = llama.llama_model_load_from_file(str(path).encode("utf-8", "surrogateescape"), parameters)
    if model and not failure and not stopped:
        return model
    if model:
        llama.llama_model_free(model)
    if failure:
        raise failure[0]
    if stopped:
        raise ModelLoadError(f"{name} was not loaded", "loading was stopped", "choose it again to load it")
    raise ModelLoadError(
        f"{name} could not be loaded",
        log.reason(),
        "choose another model, or fetch the file again",
    )


def read_facts(
    model: Any, vocabulary: GgufVocabulary, name: str, context_tokens: int, threads: int
) -> ModelFacts:
    template_bytes = llama.llama_model_chat_template(model, None)
    architecture = architecture_of(model)
    return ModelFacts(
        name=name,
        architecture=architecture,
        backend="llama.cpp",
        context_tokens=context_tokens,
        context_train_tokens=int(llama.llama_model_n_ctx_train(model)),
        vocabulary_size=vocabulary.size,
        threads=threads,
        end_token_ids=vocabulary.end_ids,
        begin_token_id=vocabulary.begin_id if vocabulary.wants_begin else None,
        begin_token_text=vocabulary.text(vocabulary.begin_id),
        end_token_text=vocabulary.text(vocabulary.end_id),
        chat_template=None if template_bytes is None else template_bytes.decode("utf-8", "replace"),
        control_tokens=dict(vocabulary.control),
        release_names=tuple(
            filter(None, (_metadata(model, key) for key in (b"seamount.release", b"general.name"))),
        ),
        can_rewind=architecture not in UNREWINDABLE and not _is_recurrent(model),
        states_rewind=architecture not in UNREWINDABLE
        and not _is_recurrent(model)
        and int(llama.llama_model_n_swa(model)) == 0,
    )


def _is_recurrent(model: Any) -> bool:
    return bool(llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model))


def architecture_of(model: Any) -> str:
    return _metadata(model, b"general.architecture")


def trained_before(model: Any) -> int:
    """For how many tokens it was made before it was stretched to more; 0: it was not. What is longer than that some
    models read by other positions, from the first token on."""
    text = _metadata(model, f"{architecture_of(model)}.rope.scaling.original_context_length".encode())
    return int(text) if text.isdecimal() else 0


def _metadata(model: Any, key: bytes) -> str:
    buffer: Any = ctypes.create_string_buffer(256)
    length = llama.llama_model_meta_val_str(model, key, buffer, len(buffer))
    return buffer.value.decode("utf-8", "replace") if length >= 0 else ""
