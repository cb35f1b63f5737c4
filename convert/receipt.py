"""The receipt of a conversion: what every tensor of the result was made of, and how exact it is.

Owns: the format of the file beside each GGUF (`NAME.gguf.receipt.json`, described in docs/conversion.md), and
its checks when it is read. Does not compare anything with it (`verification`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from convert.conversion_error import ConversionError
from convert.conversion_progress import Record
from convert.metadata import Origin
from convert.target_file import write_whole
from convert.tensor_map import Options, Role, Target

FORMAT, VERSION = "seamount-receipt", 1
MAX_BYTES = 64 << 20
_MANY = 4


@dataclass(frozen=True)
class ReceiptTensor:
    """One tensor: where its bytes lie in the file, what they and those of its sources hash to, and its error
    as a pair (largest, relative RMS), None where it is exact."""

    offset: int
    size_bytes: int
    sha256: str
    source_sha256: str
    error: tuple[float, float] | None


@dataclass(frozen=True)
class Receipt:
    """A receipt, as far as it is needed for a check of the file, and to tell what it was made of and how."""

    file_name: str
    size_bytes: int
    header_bytes: int
    header_sha256: str
    lossless: bool
    tensors: Mapping[str, ReceiptTensor]
    origin: Origin
    dense: str
    draft: str


def receipt_path(gguf: Path) -> Path:
    """Where the receipt of a file lies."""
    return gguf.with_name(f"{gguf.name}.receipt.json")


def write_receipt(
    gguf: Path,
    role: Role,
    *,
    targets: Sequence[Target],
    offsets: Sequence[int],
    records: Mapping[str, Record],
    left_out: Mapping[str, str],
    header: tuple[int, str],
    size_bytes: int,
    options: Options,
    origin: Origin,
) -> None:
    """Write the receipt of `gguf`. `header`: its length and SHA-256; `records` by "role/tensor".

    The same conversion gives the same bytes: there is no time or machine in it.
    """
    tensors: dict[str, Any] = {}
    for target, offset in zip(targets, offsets, strict=True):
        record = records[f"{role}/{target.name}"]
        tensors[target.name] = {
            "type": target.type_name,
            "shape": list(target.shape),
            "offset": offset,
            "size_bytes": target.size_bytes,
            "sha256": record.sha256,
            "made_of": _named(target.sources),
            "source_sha256": record.source_sha256,
            "exact": target.exact,
        }
        if not target.exact:
            error = {"max": record.max_error, "relative_rms": record.relative_rms}
            tensors[target.name]["error"] = error
    table = {
        "format": FORMAT,
        "version": VERSION,
        "file": {
            "name": gguf.name,
            "role": role,
            "size_bytes": size_bytes,
            "header_bytes": header[0],
            "header_sha256": header[1],
        },
        "release": origin.release,
        "options": {"dense": options.dense, "draft": options.draft},
        "source": {
            "repository": origin.repository,
            "revision": origin.revision,
            "fingerprint": origin.fingerprint,
            "config_sha256": origin.config_sha256,
            "tokenizer_sha256": origin.tokenizer_sha256,
        },
        "lossless": all(target.exact for target in targets),
        "experts_lossless": True,
        "left_out": dict(left_out),
        "tensors": tensors,
    }
    write_whole(receipt_path(gguf), (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode())


def read_receipt(gguf: Path) -> Receipt:
    """The receipt beside `gguf`. Raises ConversionError for one that is missing or cannot be used."""
    path = receipt_path(gguf)
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise _unusable(gguf, f"there is no {path.name} beside it") from error
    except OSError as error:
        raise _unusable(gguf, f"its receipt cannot be read ({error.strerror or error})") from error
    try:
        table: Any = json.loads(raw)
        if table["format"] != FORMAT:
            raise ValueError("another format")
        if table["version"] != VERSION:
            raise _unusable(gguf, f"its receipt is of version {table['version']}, which is not known here")
        file_entry, source = cast(dict[str, Any], table["file"]), cast(dict[str, Any], table["source"])
        return Receipt(
            file_name=str(file_entry["name"]),
            size_bytes=_whole(file_entry["size_bytes"]),
            header_bytes=_whole(file_entry["header_bytes"]),
            header_sha256=str(file_entry["header_sha256"]),
            lossless=table["lossless"] is True,
            tensors={str(name): _tensor(entry) for name, entry in table["tensors"].items()},
            origin=Origin(
                release=str(table["release"]),
                repository=str(source["repository"]),
                revision=str(source["revision"]),
                fingerprint=str(source["fingerprint"]),
                config_sha256=str(source["config_sha256"]),
                tokenizer_sha256=str(source["tokenizer_sha256"]),
            ),
            dense=str(table["options"]["dense"]),
            draft=str(table["options"]["draft"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable(gguf, f"its receipt is damaged ({str(error)[:80]})") from error


def _tensor(entry: Mapping[str, Any]) -> ReceiptTensor:
    error = None if entry["exact"] is True else entry["error"]
    return ReceiptTensor(
        _whole(entry["offset"]),
        _whole(entry["size_bytes"]),
        str(entry["sha256"]),
        str(entry["source_sha256"]),
        None if error is None else (float(error["max"]), float(error["relative_rms"])),
    )


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError("a size that is none")
    return value


def _named(sources: Sequence[str]) -> list[str]:
    """The sources, or the first and the last two of many (experts: weight and scale of each)."""
    return list(sources) if len(sources) <= _MANY else [*sources[:2], "…", *sources[-2:]]


def _unusable(gguf: Path, why: str) -> ConversionError:
    return ConversionError(
        "target", f"{gguf.name} cannot be checked", why, "check it against its checkpoint, or convert again"
    )
