"""What llama.cpp says of itself and of the devices that it reaches, run as a program of its own.

Owns: the questions, and the line of JSON that answers them. Does not start that program or judge the answer
(`placement.hardware`, `llama_builds`). A driver that crashes ends this process, and only this.
"""

import ctypes
import json
from typing import Any

from engine.backends.ggml_library import ggml_function

_ANSWER = "llama.cpp says "
_GPU_KINDS = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU
_INTEGRATED = 2
_ROOM_BYTES = 4096


class _Properties(ctypes.Structure):
    """ggml_backend_dev_props of ggml-backend.h, as far as it is read, and room for what else it may be given."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("description", ctypes.c_char_p),
        ("free", ctypes.c_size_t),
        ("total", ctypes.c_size_t),
        ("kind", ctypes.c_int),
        ("id", ctypes.c_char_p),
        ("rest", ctypes.c_ubyte * 256),
    )


def main() -> None:
    """Print the answer."""
    from engine.backends.llama_library import VERSION, backends, llama

    llama.llama_backend_init()
    registry_name = ggml_function("ggml_backend_reg_name", ctypes.c_char_p, ctypes.c_void_p)
    registries = ggml_function("ggml_backend_reg_count", ctypes.c_size_t)()
    registry = ggml_function("ggml_backend_reg_get", ctypes.c_void_p, ctypes.c_size_t)
    answer = {
        "version": VERSION,
        "gpu_offload": bool(llama.llama_supports_gpu_offload()),
        "system": _text(llama.llama_print_system_info()),
        "gpus": _gpus(registry_name),
        "backends": [_text(registry_name(registry(number))) for number in range(registries)],
        "llama": _text(ggml_function("llama_version", ctypes.c_char_p)()),
        "ggml": _text(ggml_function("ggml_version", ctypes.c_char_p)()),
        "defaults": json.dumps(
            [
                _defaults("llama_model_default_params", llama.llama_model_params),
                _defaults("llama_context_default_params", llama.llama_context_params),
            ]
        ),
        "variant": backends.variant,
        "left_out": backends.left_out,
    }
    print(_ANSWER + json.dumps(answer), flush=True)


def _gpus(registry_name: Any) -> list[list[Any]]:
    """Of each GPU what `hardware.Gpu` holds, in its order."""
    count = ggml_function("ggml_backend_dev_count", ctypes.c_size_t)()
    get = ggml_function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    properties = ggml_function(
        "ggml_backend_dev_get_props", None, ctypes.c_void_p, ctypes.POINTER(_Properties)
    )
    registry_of = ggml_function("ggml_backend_dev_backend_reg", ctypes.c_void_p, ctypes.c_void_p)
    found: list[list[Any]] = []
    for number in range(count):
        device, told = get(number), _Properties()
        properties(device, told)
        if told.kind in _GPU_KINDS:
            backend = _text(registry_name(registry_of(device)))
            name, description = _text(told.name), _text(told.description)
            integrated = told.kind == _INTEGRATED
            found.append([description, told.total, told.free, name, backend, integrated, _text(told.id)])
    return found


def _defaults(name: str, shape: Any) -> list[int | float | bool | None]:
    """What llama.cpp's struct holds before anybody changes it, read as this llama-cpp-python lays it out.

    It is returned into more room than it should need, so that a longer one spoils nothing.
    """

    class Roomy(ctypes.Structure):
        _fields_ = (("value", shape), ("rest", ctypes.c_ubyte * _ROOM_BYTES))

    value: Any = ggml_function(name, Roomy)().value
    held = [getattr(value, field[0]) for field in shape._fields_]
    return [each if isinstance(each, int | float | None) else bool(each) for each in held]


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
