"""What llama.cpp prints, as Python's logging has it.

Owns: its levels, finding the line that says why something failed, and what its lines tell of the buffers that it
made. Does not load llama.cpp: `llamacpp` hands the lines over.
"""

import logging
import re
from collections.abc import Sequence
from typing import NamedTuple

from engine.backends.base import TakenBytes

logger = logging.getLogger("seamount.llama.cpp")
logger.setLevel(logging.WARNING)  # below that, it says hundreds of lines per model

# ggml.h's ggml_log_level; the table in llama_cpp's own logger is that of an older ggml.
_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_CONTINUES = 5
_REASON = "error loading model: "
_NO_REASON = "failed to load model"  # every failed load ends with these words, whatever its reason
_KEPT_ERRORS = 20
_KEPT_BUFFERS = 1000
_BUFFER = re.compile(
    r"^\w+: +(\S+) +(model|KV|RS|DSV4 \w+ state|compute|output) buffer size = +([\d.]+) MiB$"
)
_MAPPED = "_Mapped"
_RAM = re.compile(r"^(CPU|AMX|BLAS)|_Host$")


class Buffer(NamedTuple):
    """A buffer that llama.cpp made, to a hundredth of a MiB. `kind`: "model", "KV", "compute" and others; `device`: its
    name for the memory, such as "CPU_REPACK" or "CUDA0"."""

    kind: str
    device: str
    size_bytes: int

    @property
    def mapped(self) -> bool:
        """Whether it is a part of the model's file, mapped."""
        return self.device.endswith(_MAPPED)

    @property
    def in_ram(self) -> bool:
        """Whether it lies in the processor's memory and not in a GPU's."""
        return _RAM.search(self.device) is not None


def taken_bytes(buffers: Sequence[Buffer], loaded_bytes: int) -> TakenBytes:
    """What these buffers take, of a model of `loaded_bytes`. A mapping is as long as from the first to the last tensor
    that is read in it, with others between them: what was copied elsewhere is not in use there."""
    held = [each for each in buffers if not each.mapped]
    mapped = sum(each.size_bytes for each in buffers if each.mapped)
    copied = sum(each.size_bytes for each in held if each.kind == "model")
    return TakenBytes(
        gpu_bytes=sum(each.size_bytes for each in held if not each.in_ram),
        ram_bytes=sum(each.size_bytes for each in held if each.in_ram),
        mapped_bytes=max(0, min(mapped, loaded_bytes - copied)),
    )


class LlamaLog:
    """Hands lines to Python's logging, unless it is to be `silent`, and remembers the errors among them, and the
    buffers."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._errors: list[str] = []
        self._buffers: list[Buffer] = []
        self._level = logging.DEBUG

    def forget(self) -> None:
        """Begin anew: errors and buffers from before are of no interest."""
        self._errors.clear()
        self._buffers.clear()

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """The buffers that were made since it was told to forget."""
        return tuple(self._buffers)

    def line(self, level: int, text: bytes, _user_data: object = None) -> None:
        """Called by llama.cpp, from any of its threads; never raises."""
        try:
            if level != _CONTINUES:
                self._level = _LEVELS.get(level, logging.DEBUG)
            line = text.decode("utf-8", "replace").strip()
            if not line or set(line) == {"."}:  # dots are its progress bar
                return
            if self._level >= logging.ERROR and len(self._errors) < _KEPT_ERRORS:
                self._errors.append(line)
            if (found := _BUFFER.match(line)) and len(self._buffers) < _KEPT_BUFFERS:
                self._keep(Buffer(found[2], found[1], round(float(found[3]) * (1 << 20))))
            if not self._silent:
                logger.log(self._level, "%s", line)
        except Exception:  # noqa: BLE001, S110 - nothing may be raised into C, and a log line is not worth it
            pass

    def _keep(self, buffer: Buffer) -> None:
        # Those to compute in are told of again whenever they are made anew; of other kinds there may be several.
        if buffer.kind == "compute":
            self._buffers = [each for each in self._buffers if each[:2] != buffer[:2]]
        self._buffers.append(buffer)

    def reason(self) -> str:
        """The error line that says most, without the name of the function that printed it."""
        telling = [line for line in self._errors if _NO_REASON not in line]
        for line in telling:
            if _REASON in line:
                return line.partition(_REASON)[2]
        if not telling:
            return "llama.cpp gave no reason"
        # Of several, the first is the cause and the later ones its consequences.
        return telling[0].partition(": ")[2] or telling[0]
