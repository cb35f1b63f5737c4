"""What a conversion has done so far, on disk beside its result.

Owns: the progress file (JSON, replaced as a whole after each group) and its checks. Does not convert.

    {"format": "seamount-conversion", "version": 1,
     "source": <Checkpoint.fingerprint() as it was at the start>,
     "headers": {"model": <SHA-256 of the GGUF header>, "draft": …},
     "groups": {"layer 0": {"model/blk.0.attn_norm.weight": {"sha256": …, "source_sha256": …,
                                                             "max_error": …, "relative_rms": …}}},
     "consumed": [<shards that may be gone>]}

The header holds the options, the release and every place in the file, so its digest stands for them all.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

from convert.conversion_error import ConversionError
from convert.target_file import write_whole

FORMAT, VERSION = "seamount-conversion", 1
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Record:
    """What is known of a tensor that is written: digests of its bytes and of those it was made of, and the
    error where it is not exact (None where it is)."""

    sha256: str
    source_sha256: str
    max_error: float | None = None
    relative_rms: float | None = None


@dataclass
class ConversionProgress:
    """The content of the progress file. Keys of a group's records are "role/tensor"."""

    path: Path
    source: dict[str, Any]
    headers: dict[str, str]
    groups: dict[str, dict[str, Record]] = field(default_factory=dict[str, dict[str, Record]])
    consumed: list[str] = field(default_factory=list[str])

    @classmethod
    def load(cls, path: Path) -> "ConversionProgress | None":
        """What is in `path`; None when there is no such file. Raises ConversionError for one that is broken."""
        try:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, f"it cannot be read ({error.strerror or error})") from error
        try:
            table: Any = json.loads(raw)
            if table["format"] != FORMAT:
                raise ValueError("another format")
            if table["version"] != VERSION:
                raise _unusable(path, f"it is of version {table['version']}, which is not known here")
            return cls(
                path,
                dict(table["source"]),
                {str(role): str(digest) for role, digest in table["headers"].items()},
                {str(group): _records(records) for group, records in table["groups"].items()},
                [str(name) for name in table["consumed"]],
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _unusable(path, f"it is damaged ({str(error)[:80]})") from error

    def save(self) -> None:
        """Write the file anew. Raises ConversionError; the file is then as it was."""
        table = {
            "format": FORMAT,
            "version": VERSION,
            "source": self.source,
            "headers": self.headers,
            "groups": {
                group: {name: asdict(record) for name, record in records.items()}
                for group, records in self.groups.items()
            },
            "consumed": self.consumed,
        }
        write_whole(self.path, json.dumps(table, ensure_ascii=False).encode())

    def records(self) -> dict[str, Record]:
        """The records of all groups."""
        return {name: record for records in self.groups.values() for name, record in records.items()}

    def refuse_changed_source(self, now: Mapping[str, Any]) -> None:
        """Raise unless the source, by its fingerprint, is what it was, but for shards that were consumed."""
        if changed := self.changed_source(now):
            raise source_changed(changed[0])

    def changed_source(self, now: Mapping[str, Any]) -> list[str]:
        """The files of the source that are not what they were; a shard that was consumed is none of them."""
        was, shards = cast(dict[str, Any], self.source.get("shards", {})), cast(dict[str, Any], now["shards"])
        gone = set(self.consumed)  # one that is back is not needed, and not looked at
        changed = [name for name, facts in shards.items() if was.get(name) != facts and name not in gone]
        changed += [name for name in was if name not in shards and name not in gone]
        files, files_now = (
            cast(dict[str, Any], self.source.get("files", {})),
            cast(dict[str, Any], now["files"]),
        )
        changed += [name for name in {*files, *files_now} if files.get(name) != files_now.get(name)]
        return sorted(changed)


def progress_path(target: Path) -> Path:
    """The progress file of a conversion to `target`."""
    return target.with_name(f"{target.name}.progress.json")


def consumed_shards(target: Path) -> frozenset[str]:
    """Names of the shards that an unfinished conversion to `target` needs no more: what was in them is safe.

    Empty where no conversion was begun. Raises ConversionError for a progress file that cannot be used.
    """
    progress = ConversionProgress.load(progress_path(target))
    return frozenset(progress.consumed) if progress is not None else frozenset()


def source_changed(name: str) -> ConversionError:
    """The error for a source that is not what it was when the conversion began."""
    return ConversionError(
        "changed",
        "The conversion cannot go on",
        f"{name[:120]} of the checkpoint has changed since it began",
        "put the checkpoint back as it was, or delete the .part and .progress.json files and begin anew",
    )


def _records(table: Mapping[str, Any]) -> dict[str, Record]:
    return {str(name): Record(**record) for name, record in table.items()}


def _unusable(path: Path, why: str) -> ConversionError:
    return ConversionError(
        "target",
        "The conversion cannot go on",
        f"its progress in {path.name} cannot be used: {why}",
        "delete that file and the .part file to begin anew",
    )
