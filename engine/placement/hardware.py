"""What this machine is: its processor, its memory, its GPUs, the disk of a folder, and what it runs on.

Owns: how each is asked for, in ways that work on every platform, less what a container withholds. Does not know
what is done with the answer, or how fast any of it is (`bandwidth`).
GPUs are read from llama.cpp's own device list, in a process of its own: a driver that crashes takes only
that process with it.
"""

import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from engine import own_program
from engine.backends.ggml_library import FOLDER_VARIABLE
from engine.placement import control_groups

_ROOT = Path(__file__).resolve().parents[2]
_LLAMA_QUESTION = (
    "import sys; sys.path.insert(0, sys.argv[1]); from engine.backends.llama_report import main; main()"
)
_ANSWER = "llama.cpp says "
_FEATURE = re.compile(r"(\w+) = 1\b")
# Of all that a processor can, what llama.cpp has code for: as Linux calls it → as llama.cpp does.
_INSTRUCTIONS = {
    "sse3": "SSE3", "pni": "SSE3", "ssse3": "SSSE3", "avx": "AVX", "avx2": "AVX2", "f16c": "F16C", "fma": "FMA",
    "avx_vnni": "AVX_VNNI", "avx512f": "AVX512", "avx512vbmi": "AVX512_VBMI", "avx512_vnni": "AVX512_VNNI",
    "avx512_bf16": "AVX512_BF16", "amx_int8": "AMX_INT8", "asimd": "NEON", "asimddp": "DOTPROD",
    "i8mm": "MATMUL_INT8", "sve": "SVE", "sme": "SME",
}  # fmt: skip


@dataclass(frozen=True)
class Processor:
    """The CPU. `usable` is how many logical cores this process may run on.

    `cores`: the physical cores of those, a container's quota respected, at least one. `instructions`: the sets
    that llama.cpp has code for, as it calls them; empty where the system does not tell.
    """

    name: str
    physical: int
    logical: int
    usable: int
    cores: int = 1
    instructions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Memory:
    """RAM in bytes, as far as this process may have it. `limited`: a container's limit is below the machine's.

    What is available counts no swap: a model in swap space is slower than one read from disk.
    """

    total_bytes: int
    available_bytes: int
    swap_bytes: int = 0
    limited: bool = False


@dataclass(frozen=True)
class Gpu:
    """A GPU that llama.cpp can compute on; memory in bytes.

    `device` is ggml's name of it (`CUDA0`), `backend` the part of ggml that reaches it (`CUDA`), `integrated`: it
    has no memory of its own. `pci_id` is `domain:bus:device.function` in hexadecimal, "" where it is not known.
    """

    name: str
    total_bytes: int
    free_bytes: int
    device: str = ""
    backend: str = ""
    integrated: bool = False
    pci_id: str = ""


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp as it was built. `version` is that of llama-cpp-python; `features` are what it says of the CPU code
    in it, such as `AVX2`; `backends` the parts of ggml in it, with a device here or without; `gpu_offload`: one of
    them has a GPU here.

    `llama`, `ggml`: the libraries' own versions. `defaults`: what their structs hold at first, as this
    llama-cpp-python reads them: with other libraries the same, or the structs are laid out otherwise.
    `variant`, `left_out`: as in `ggml_backends.Backends`.
    """

    version: str
    gpu_offload: bool
    features: tuple[str, ...]
    gpus: tuple[Gpu, ...]
    backends: tuple[str, ...] = ()
    llama: str = ""
    ggml: str = ""
    defaults: str = ""
    variant: str = ""
    left_out: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What a machine's speed depends on besides its parts. `on_battery` None: it has none, or does not tell."""

    on_battery: bool | None
    container: str | None
    """The kind of container that this process is in, as far as it can be seen from inside; None for none."""


def processor() -> Processor:
    """The CPU of this machine."""
    logical = psutil.cpu_count(logical=True) or 1
    physical = min(psutil.cpu_count(logical=False) or logical, logical)
    usable = min(_usable(logical), logical)
    # Of the processors allowed, as many are cores of their own as in the whole machine.
    cores = max(1, usable * physical // logical)
    quota = control_groups.limits().cores
    name, instructions = _processor_facts()
    return Processor(
        name=name,
        physical=physical,
        logical=logical,
        usable=usable,
        cores=cores if quota is None else min(cores, max(1, int(quota))),
        instructions=instructions,
    )


def memory() -> Memory:
    """RAM in all, and what programs can still have; in a container that is limited, of the container."""
    found, swap, limits = psutil.virtual_memory(), psutil.swap_memory(), control_groups.limits()
    limit = limits.memory_bytes
    limited = limit is not None and limit < found.total
    return Memory(
        total_bytes=found.total if limit is None else min(found.total, limit),
        available_bytes=found.available
        if limits.free_bytes is None
        else min(found.available, limits.free_bytes),
        swap_bytes=swap.total if limits.swap_bytes is None else min(swap.total, limits.swap_bytes),
        limited=limited,
    )


def surroundings() -> Surroundings:
    """Battery and container."""
    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError):  # not on every platform; drivers that answer nonsense
        battery = None
    plugged: bool | None = getattr(battery, "power_plugged", None)
    return Surroundings(on_battery=None if plugged is None else not plugged, container=_container())


def disk_of(folder: Path) -> str:
    """The device that holds `folder`, or the next folder above it that is there; its mount point's name."""
    real = os.path.realpath(folder)
    held = [
        part for part in psutil.disk_partitions(all=True) if _is_within(real, part.mountpoint)
    ]  # a bind mount and what lies under it are both listed
    best = max(held, key=lambda part: len(part.mountpoint), default=None)
    return "unknown" if best is None else f"{best.device} {best.fstype}"


def llama_cpp(timeout_s: float = 60.0, libraries: Path | None = None) -> LlamaCpp | str:
    """How llama.cpp was built, asked in a process of its own; a string says why it cannot be had.

    `libraries`: the folder whose libraries are asked; None: those that this process uses.
    """
    environment = None if libraries is None else {**os.environ, FOLDER_VARIABLE: str(libraries)}
    try:
        done = subprocess.run(
            own_program.code_command(_LLAMA_QUESTION, str(_ROOT)),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return f"it did not answer within {timeout_s:.0f} s"
    except OSError as error:
        return str(error)
    if done.returncode:
        return own_program.ending(done.returncode, done.stderr)
    told = next((line for line in done.stdout.splitlines() if line.startswith(_ANSWER)), None)
    if told is None:
        return "it did not say how it was built"
    answer = json.loads(told.removeprefix(_ANSWER))
    return LlamaCpp(
        version=answer["version"],
        gpu_offload=answer["gpu_offload"],
        features=tuple(_FEATURE.findall(answer["system"])),
        gpus=tuple(Gpu(*gpu) for gpu in answer["gpus"]),
        backends=tuple(answer["backends"]),
        llama=answer["llama"],
        ggml=answer["ggml"],
        defaults=answer["defaults"],
        variant=answer["variant"],
        left_out=tuple((kind, why) for kind, why in answer["left_out"]),
    )


def _usable(logical: int) -> int:
    affinity = getattr(psutil.Process(), "cpu_affinity", None)  # not on macOS
    return len(affinity()) if affinity is not None else logical


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _container() -> str | None:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    for marker, name in (
        ("/.dockerenv", "Docker"),
        ("/run/.containerenv", "Podman"),
        ("/.flatpak-info", "Flatpak"),
    ):
        if sys.platform == "linux" and Path(marker).exists():
            return name
    return os.environ.get("container") or None  # systemd's convention  # noqa: SIM112


def _processor_facts() -> tuple[str, tuple[str, ...]]:
    """Name and instruction sets; Linux tells both in one file."""
    name, flags = "", set[str]()
    if sys.platform == "linux":
        try:
            for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
                key, _, value = line.partition(":")
                if key.strip() == "model name" and not name:
                    name = value.strip()
                if key.strip() in ("flags", "Features") and not flags:
                    flags = set(value.split())
        except OSError:
            pass
    known = [told for flag, told in _INSTRUCTIONS.items() if flag in flags]
    return name or platform.processor() or platform.machine() or "unknown processor", tuple(
        dict.fromkeys(known)
    )
