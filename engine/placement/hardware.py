"""What this machine is: its processor, its memory, its GPUs.

Owns: how each is asked for, in ways that work on every platform. Does not know what is done with the answer.
GPUs are read from llama.cpp's own device list, in a process of its own: a driver that crashes takes only
that process with it.
"""

import json
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

# llama.cpp lists its devices through ggml's C interface (ggml-backend.h), which its Python package does not
# wrap. A symbol is looked for in every library that lies beside it, because Windows does not look further.
_LLAMA_QUESTION = """
import ctypes, json, pathlib, llama_cpp
from llama_cpp import llama_cpp as low
libraries = [low._lib]
for path in sorted((pathlib.Path(llama_cpp.__file__).parent / "lib").glob("*ggml*")):
    try:
        libraries.append(ctypes.CDLL(str(path)))
    except OSError:
        pass
def function(name, result, *arguments):
    for library in libraries:
        found = getattr(library, name, None)
        if found is not None:
            found.restype, found.argtypes = result, arguments
            return found
    raise AttributeError(name)
count = function("ggml_backend_dev_count", ctypes.c_size_t)
get = function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
kind = function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
name = function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
size = ctypes.POINTER(ctypes.c_size_t)
room = function("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
low.llama_backend_init()
gpus = []
for number in range(count()):
    device = get(number)
    if kind(device) in (1, 2):  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        room(device, free, total)
        gpus.append([name(device).decode("utf-8", "replace"), total.value, free.value])
print("llama.cpp says " + json.dumps({
    "version": llama_cpp.__version__,
    "gpu_offload": bool(low.llama_supports_gpu_offload()),
    "system": low.llama_print_system_info().decode("utf-8", "replace"),
    "gpus": gpus,
}))
"""
_ANSWER = "llama.cpp says "
_FEATURE = re.compile(r"(\w+) = 1\b")


@dataclass(frozen=True)
class Processor:
    """The CPU. `usable` is how many logical cores this process may run on."""

    name: str
    physical: int
    logical: int
    usable: int


@dataclass(frozen=True)
class Memory:
    """RAM in bytes."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class Gpu:
    """A GPU that llama.cpp can compute on; memory in bytes."""

    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp as it was built. `features` are what it says of the CPU code in it, such as `AVX2`."""

    version: str
    gpu_offload: bool
    features: tuple[str, ...]
    gpus: tuple[Gpu, ...]


def processor() -> Processor:
    """The CPU of this machine."""
    logical = psutil.cpu_count(logical=True) or 1
    physical = psutil.cpu_count(logical=False) or logical
    return Processor(name=_processor_name(), physical=physical, logical=logical, usable=_usable(logical))


def memory() -> Memory:
    """RAM in all, and what programs can still have."""
    found = psutil.virtual_memory()
    return Memory(total_bytes=found.total, available_bytes=found.available)


def llama_cpp(timeout_s: float = 60.0) -> LlamaCpp | str:
    """How llama.cpp was built, asked in a process of its own; a string says why it cannot be had."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LLAMA_QUESTION],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {timeout_s:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return lines[-1] if lines else f"it ended with status {done.returncode}"
    told = next((line for line in done.stdout.splitlines() if line.startswith(_ANSWER)), None)
    if told is None:
        return "it did not say how it was built"
    answer = json.loads(told.removeprefix(_ANSWER))
    return LlamaCpp(
        version=answer["version"],
        gpu_offload=answer["gpu_offload"],
        features=tuple(_FEATURE.findall(answer["system"])),
        gpus=tuple(Gpu(*gpu) for gpu in answer["gpus"]),
    )


def _usable(logical: int) -> int:
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    return len(affinity()) if affinity is not None else logical


def _processor_name() -> str:
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    return value.strip()
        except OSError:
            pass
    return platform.processor() or platform.machine() or "unknown processor"
