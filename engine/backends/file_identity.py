"""By what large files are told apart without being read whole.

Owns: the fingerprint of a model's file and its pieces, and the digest of many parts that keys are made of. Does not
know what is kept by such a key (`llama_keys`, `native_keys`).
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from convert.gguf_header import GgufError, read_gguf_header
from engine.library.model_files import parts_of

_SAMPLE_BYTES = 64 * 1024
_SAMPLES = 32
DIGEST_BYTES = 16


def file_fingerprint(path: Path) -> str:
    """Of a model's file, or of all its parts: their sizes, their headers, and 32 samples of the tensors of each.

    Another model, another quantisation and a conversion begun anew differ; one changed number may be missed. Reads at
    most the header and 2 MiB of each part. Raises OSError.
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts_of(path):
        try:
            header_bytes = read_gguf_header(part).data_offset
        except GgufError:
            header_bytes = 0
        add_file(digest, part, header_bytes)
    return digest.hexdigest()


def files_fingerprint(paths: Sequence[Path]) -> str:
    """Of several files of any kind: their names, sizes and samples. Raises OSError."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path in paths:
        add_value(digest, path.name)
        add_file(digest, path, 0)
    return digest.hexdigest()


def add_file(digest: "hashlib.blake2b", path: Path, header_bytes: int) -> None:
    """The size, the first `header_bytes` and samples of what is behind them."""
    with path.open("rb") as file:
        size_bytes = os.fstat(file.fileno()).st_size
        add_value(digest, size_bytes)
        left = begin = min(header_bytes, size_bytes)
        while left and (piece := file.read(min(left, 1 << 20))):
            digest.update(piece)
            left -= len(piece)
        last = max(begin, size_bytes - _SAMPLE_BYTES)
        for number in range(_SAMPLES):
            file.seek(begin + (last - begin) * number // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))


def add_value(digest: "hashlib.blake2b", value: object) -> None:
    """A plain value, so that no two lists of them are taken for one."""
    digest.update(f"{value!r};".encode())


def key_of(*parts: object) -> str:
    """One key of plain values."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=DIGEST_BYTES).hexdigest()
