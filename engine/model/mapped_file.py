"""A file of weights, mapped into memory, read only.

Owns: the mapping, the bytes of it as tensors without a copy, and whether the file is still what it was. Does not
know formats or names.

A mapping cannot be unmapped while a tensor looks at it, so nobody does: each tensor holds the mapping by reference,
and the system lets go of it with the last of them. `close` only ends the claim of whoever opened the file.

A file that is made shorter under its mapping kills the process at the next look beyond its new end (SIGBUS), and no
Python code can catch that. What can be done is done: the open file itself is looked at (`check`) before every pass,
so a model that shrank or was written to since is refused with a sentence instead of being read. A file that is
replaced by another of its name does no harm: the mapping goes on showing the old one.
"""

import mmap
import os
import stat
import warnings
from pathlib import Path

import torch

from convert.wording import byte_count, quoted
from engine.model.model_error import GET_AGAIN, ModelError


class MappedFile:
    """The file at `path`, mapped. Raises ModelError where it cannot be.

    `size_bytes`: what it has now, and keeps having or is refused by `check`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._what = f"{quoted(path.name)} cannot be used as a model"
        descriptor = -1
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for its writer
                raise ModelError(self._what, "it is not an ordinary file", "choose a model's file")
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            status = os.fstat(descriptor)
            if not status.st_size:
                raise ModelError(self._what, "it is empty", GET_AGAIN)
            mapping = mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            if descriptor >= 0:
                os.close(descriptor)
            why = getattr(error, "strerror", None) or str(error)
            raise ModelError(self._what, f"it cannot be read ({why})", "see that it may be read") from error
        except ModelError:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._state = _state(status)
        self.size_bytes = status.st_size
        self._bytes: torch.Tensor | None = _as_tensor(mapping)

    def bytes_at(self, offset: int, size_bytes: int, name: str) -> torch.Tensor:
        """uint8 [size_bytes], a view of the file; `name` is the tensor's, for the sentence.

        Raises ModelError for a place beyond the end.
        """
        if self._bytes is None:
            raise ValueError(f"{self.path.name} is closed")
        if offset < 0 or size_bytes < 0 or offset + size_bytes > self.size_bytes:
            why = f"its tensor {quoted(name)} would lie beyond its end, at {byte_count(offset)}"
            raise ModelError(self._what, why, GET_AGAIN)
        return self._bytes[offset : offset + size_bytes]

    def is_at(self, path: Path) -> bool:
        """Whether the open file is the one that `path` leads to, and neither changed since it was opened."""
        try:
            return _state(path.stat()) == self._state == _state(os.fstat(self._descriptor))
        except OSError:
            return False

    def check(self) -> None:
        """Raise ModelError where the file changed since it was opened. Takes microseconds."""
        try:
            changed = _state(os.fstat(self._descriptor)) != self._state
        except OSError as error:
            raise ModelError(self._what, f"it can no longer be read ({error})", "load it again") from error
        if changed:
            raise ModelError(
                self._what, "it was changed while it was loaded", "load it again once nothing writes to it"
            )

    def close(self) -> None:
        """Let go of the file; tensors that were made of it stay whole. Calling it again does nothing."""
        if self._bytes is not None:
            self._bytes = None
            os.close(self._descriptor)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _as_tensor(mapping: mmap.mmap) -> torch.Tensor:
    with warnings.catch_warnings():
        # True, and wanted: nothing here writes to a weight.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        return torch.frombuffer(mapping, dtype=torch.uint8)


def as_numbers(data: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """uint8 [n] as numbers of another type, in order: a view, or a copy where they do not lie on their own size.

    GGUF puts tensors on multiples of 32 and safetensors' own writer on multiples of 8; a file need not.
    """
    if data.storage_offset() % dtype.itemsize:
        data = data.clone()
    return data.view(dtype)
