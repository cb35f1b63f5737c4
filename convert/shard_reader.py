"""Bytes of a checkpoint's tensors, read into memory of their own: nothing is mapped, nothing is kept.

Owns: the open shard and what it means when one cannot be read. Does not know what the bytes are. One thread.
"""

import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint import Source
from convert.conversion_error import ConversionError
from convert.conversion_progress import source_changed


class ShardReader:
    """Reads from one shard after the other; the one that was read last stays open."""

    def __init__(self, tensors: Mapping[str, Source]) -> None:
        self._tensors = tensors
        self._path: Path | None = None
        self._file: FileIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, name: str, at: int, count: int) -> NDArray[np.uint8]:
        """`count` bytes of the tensor `name`, from its byte `at` on. Raises ConversionError."""
        source = self._tensors[name]
        if at + count > source.size_bytes:
            raise ValueError(f"bytes {at} to {at + count} of {name}")
        data = np.empty(count, np.uint8)
        view = memoryview(data.data)
        try:
            file = self._opened(source.shard)
            file.seek(source.offset + at)
            while view:
                got = file.readinto(view)
                if not got:
                    raise source_changed(source.shard.name)
                view = view[got:]
        except OSError as error:
            raise ConversionError(
                "checkpoint",
                "The checkpoint could not be read",
                f"{source.shard.name}: {error.strerror or error}",
                "look after the disk and convert again; it goes on where it was",
            ) from error
        return data

    def close(self) -> None:
        """Close the shard, and let the system drop its copy of it."""
        if self._file is not None:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self._file.close()
        self._file = self._path = None

    def _opened(self, path: Path) -> FileIO:
        if self._file is None or self._path != path:
            self.close()
            self._file, self._path = path.open("rb", buffering=0), path
        return self._file
