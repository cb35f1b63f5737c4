"""A plan's placement of tensors, as llama.cpp takes it: patterns with the memory where what matches them goes.

Owns: the arrays of llama.cpp's `tensor_buft_overrides` and `devices`, and the check that every pattern means something
in this file and the GPU is there.
Does not know how a plan comes to its patterns. Importing this module loads llama.cpp.

What is kept from a GPU is sent to ggml's ordinary memory of the processor. llama.cpp then chooses among all that the
processor reaches (llama-model-loader.cpp, `buft_for_tensor`): in a file that is read and not mapped that is memory
which the GPU copies from by itself, pinned, which makes prompts several times faster; in a mapped one the mapping.
"""

import ctypes
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convert.gguf_header import GgufError, read_gguf_header
from engine.backends.ggml_library import ggml_function
from engine.backends.llama_library import llama
from engine.errors import ModelLoadError
from engine.library.model_files import parts_of
from engine.placement.load_plan import LoadPlan

_GPU_KINDS = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU and _IGPU of ggml-backend.h


class _Override(ctypes.Structure):
    """`llama_model_tensor_buft_override` of llama.h."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


class Placement:
    """Where a load puts what. llama.cpp reads it while the model is loaded, and then no more; who loads keeps this
    value until it is.

    Raises ImportError for a build that cannot be told, ModelLoadError for a GPU that it does not reach.
    """

    def __init__(self, patterns: Sequence[str], gpu: str | None = None, gpu_number: int = 0) -> None:
        self._texts = [pattern.encode("ascii") for pattern in patterns]
        processor = _processor_memory() if patterns else None
        # In both arrays, what comes after the last is nothing, which ends the list.
        self._overrides = (_Override * (len(patterns) + 1))()
        for override, text in zip(self._overrides, self._texts, strict=False):
            override.pattern, override.buffer_type = text, processor
        self._devices = None if gpu is None else (ctypes.c_void_p * 2)(_device(gpu, gpu_number))

    def apply(self, parameters: Any) -> None:
        """Put it into `llama_model_params`."""
        if self._texts:
            parameters.tensor_buft_overrides = ctypes.addressof(self._overrides)
        if self._devices is not None:
            parameters.devices = ctypes.addressof(self._devices)
            parameters.main_gpu = 0  # of the only one that it is given


def placement_of(path: Path, name: str, plan: LoadPlan | None) -> Placement:
    """What `plan` says of the tensors in the file at `path`.

    Raises ModelLoadError for a pattern that matches none of them, for a GPU that llama.cpp does not reach, and for a
    llama.cpp that cannot be told.
    """
    if plan is None:
        return Placement(())
    patterns = plan.tensors_in_ram()
    if patterns:
        try:
            names = [each.name for part in parts_of(path) for each in read_gguf_header(part).tensors]
        except (GgufError, OSError) as error:
            raise ModelLoadError(
                f"{name} could not be loaded", str(error), "choose another model, or fetch the file again"
            ) from error
        if missing := unmatched(patterns, names):
            raise ModelLoadError(
                f"{name} could not be loaded as planned",
                f"the plan keeps tensors in RAM that are called {missing[0]}, and this file has none of that name",
                "choose the model again, so that it is planned by the file as it is now",
            )
    try:
        return Placement(patterns, plan.gpu, plan.gpu_number)
    except ImportError as error:
        raise ModelLoadError(
            f"{name} could not be loaded as planned",
            f"this build of llama.cpp cannot be told where tensors go ({error})",
            "install llama-cpp-python anew, or set the model's GPU budget to nothing",
        ) from error


def unmatched(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """Those of the patterns that no tensor's name matches."""
    return [pattern for pattern in patterns if not any(re.search(pattern, name) for name in names)]


def set_parameters(parameters: Any, values: dict[str, int | bool | str]) -> None:
    """Set fields of one of llama.cpp's structures; a string is the name of one of its constants."""
    for field, value in values.items():
        setattr(parameters, field, getattr(llama, value) if isinstance(value, str) else value)


def _processor_memory() -> Any:
    return ggml_function("ggml_backend_cpu_buffer_type", ctypes.c_void_p)()


def _device(name: str, number: int) -> int:
    """The GPU that `hardware` found at that place among llama.cpp's. Raises ModelLoadError."""
    count = ggml_function("ggml_backend_dev_count", ctypes.c_size_t)
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    kind = ggml_function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    description = ggml_function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    devices = [device for at in range(count()) if kind(device := get(at)) in _GPU_KINDS]
    names = [description(device).decode("utf-8", "replace") for device in devices]
    if number < len(devices) and names[number] == name:
        return devices[number]
    if name in names:  # one before it has gone since the plan was made
        return devices[names.index(name)]
    reached = "it reaches " + ", ".join(names) if names else "it reaches no GPU"
    raise ModelLoadError(
        "The model could not be loaded as planned",
        f"the plan uses {name}, and this llama.cpp does not reach that: {reached}",
        "choose the model again, so that it is planned for what is there now; `seamount doctor` tells more",
    )
