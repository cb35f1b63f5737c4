"""A checkpoint folder: its config, its index, its shards, and where in them each tensor lies.

Owns: the layout that Hugging Face's tools write (config.json, model.safetensors.index.json with its shards, or
one model.safetensors), and that all of it agrees: every tensor in exactly one shard, the one that the index
names. Reads headers only. Does not know which tensors a model should have (`model_shape`).

A name in the index must be that of a file in the folder itself: no path, no drive. A link is followed, because
the hub's cache keeps its files elsewhere and only links to them; what a link leads to must be an ordinary file.

Shards that are still on their way count as they will be: their headers are read from their beginnings.
"""

import hashlib
import re
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from convert.arrivals import Arrivals
from convert.checkpoint_error import CheckpointError, Problem
from convert.foreign_files import recognised
from convert.json_cursor import JsonCursor, JsonError, read_json_object
from convert.safetensors_header import MAX_NAME_BYTES, MAX_TENSORS, SafetensorsHeader, read_safetensors_header
from convert.wording import byte_count, listed, printable, quoted

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
TOKENIZER = "tokenizer.json"

MAX_CONFIG_BYTES = 1 << 20
MAX_INDEX_BYTES = 100_000_000
MAX_INDEX_METADATA_BYTES = 64 << 10
MAX_SHARDS = 4096

# A plain name: what separates folders, drives and streams on any system is not in it.
_LEADS_AWAY = re.compile(r"[/\\:\x00-\x1f]|^\.\.?$")
_SHARD_NAME = re.compile(r"[^/\\:\x00-\x1f]{1,200}\.safetensors")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor lies: `offset` from the start of `shard`; `shape` with the slowest-changing extent first."""

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Shard:
    """One file of tensors, as it was when its header was read, or as it will be when it is whole."""

    path: Path
    size_bytes: int
    modified_ns: int
    header_sha256: str
    promised: bool = False
    """Only its beginning was there when its header was read."""

    def is_unchanged(self) -> bool:
        """Whether the file is still there with its size and time of change."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.modified_ns)

    def is_as_promised(self) -> bool:
        """Whether the file is there, is unchanged, and begins with the header that was read."""
        try:
            return self.is_unchanged() and read_safetensors_header(self.path).sha256 == self.header_sha256
        except CheckpointError:
            return False


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds. `tensors` and `shards` are in the order of the files' names."""

    folder: Path
    config: Mapping[str, Any]
    shards: tuple[Shard, ...]
    tensors: Mapping[str, Source]
    tokenizer: Path | None
    """tokenizer.json, where there is one."""
    problems: tuple[CheckpointError, ...]
    """Everything that is not in order with its shards; empty for what `open` returns."""
    digests: Mapping[str, str]
    """SHA-256 of config.json and of the index."""

    @classmethod
    def open(
        cls, folder: Path, *, consumed: Collection[str] = (), arrivals: Arrivals | None = None
    ) -> "Checkpoint":
        """The checkpoint in `folder`, in order throughout. Raises CheckpointError for the first thing that is not.

        `consumed` names shards that may be gone because everything in them has been written elsewhere; those of
        them that are gone are left out, with their tensors. Of a shard that is not there and not consumed,
        `arrivals` is asked for the beginning.
        """
        checkpoint = cls.survey(folder, consumed=consumed, arrivals=arrivals)
        if checkpoint.problems:
            raise checkpoint.problems[0]
        return checkpoint

    @classmethod
    def survey(
        cls, folder: Path, *, consumed: Collection[str] = (), arrivals: Arrivals | None = None
    ) -> "Checkpoint":
        """As much of the checkpoint as can be read; what is wrong with its shards is in `problems`.

        Raises CheckpointError where nothing can be said: no folder, no readable config, no weights, or an index
        that cannot be read or points outside the folder.
        """
        return _Survey(folder, consumed, arrivals).checkpoint()

    @property
    def tensor_bytes(self) -> int:
        """What all tensors take together."""
        return sum(source.size_bytes for source in self.tensors.values())

    def fingerprint(self) -> dict[str, Any]:
        """What changes when the source changes underneath, fit for JSON: digests of config, index and every
        shard's header, size and time of change of every shard."""
        return {
            "files": dict(self.digests),
            "shards": {
                shard.path.name: [shard.size_bytes, shard.modified_ns, shard.header_sha256]
                for shard in self.shards
            },
        }


def read_config(folder: Path) -> dict[str, Any]:
    """The object in the folder's config.json, of at most 1 MiB. Raises CheckpointError."""
    return _config(folder)[0]


def _config(folder: Path) -> tuple[dict[str, Any], str]:
    path = folder / CONFIG
    what = f"{quoted(folder.name)} cannot be used as a checkpoint"
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            raise CheckpointError("not_checkpoint", what, "it is not a folder")
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise CheckpointError("unreadable", what, f"its {CONFIG} is not an ordinary file")
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise CheckpointError("unreadable", what, "there is no such folder") from error
        raise CheckpointError("not_checkpoint", what, f"it holds no {CONFIG}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError("unreadable", what, f"its {CONFIG} cannot be read ({_why(error)})") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise CheckpointError("damaged", what, f"its {CONFIG} is longer than {byte_count(MAX_CONFIG_BYTES)}")
    try:
        return read_json_object(raw), hashlib.sha256(raw).hexdigest()
    except JsonError as error:
        why = recognised(raw[:512], "config") or printable(str(error))
        raise CheckpointError("damaged", what, f"its {CONFIG} cannot be used ({why})") from error


class _Survey:
    """One reading of a folder; collects what is wrong on the way."""

    def __init__(self, folder: Path, consumed: Collection[str], arrivals: Arrivals | None) -> None:
        self._folder = folder
        self._consumed = set(consumed)
        self._arrivals = arrivals
        self._what = f"{quoted(folder.name)} cannot be used as a checkpoint"
        self._problems: list[CheckpointError] = []
        self._shards: list[Shard] = []
        self._tensors: dict[str, Source] = {}

    def checkpoint(self) -> Checkpoint:
        config, config_sha256 = _config(self._folder)
        digests = {CONFIG: config_sha256}
        places, total_bytes = self._index(digests)
        by_shard: dict[str, list[str]] = {}
        for tensor, shard in places.items():
            by_shard.setdefault(shard, []).append(tensor)
        if len(by_shard) > MAX_SHARDS:
            raise self._error("damaged", f"its index names {len(by_shard):,} shards")
        gone = [name for name in sorted(by_shard) if self._is_gone(name) and not self._is_coming(name)]
        if missing := [name for name in gone if name not in self._consumed]:
            of_all = f"{len(missing):,} of its {len(by_shard):,} shards are missing"
            self._problem("incomplete", f"{of_all}: {listed(missing)}")
        for name in sorted(by_shard.keys() - set(gone)):
            self._shard(name, by_shard[name], places)
        if INDEX not in digests:
            self._shard(SINGLE, None, {})
        found_bytes = sum(source.size_bytes for source in self._tensors.values())
        if not self._problems and not gone and total_bytes not in (None, found_bytes):
            self._problem(
                "inconsistent",
                f"its index says that its tensors take {total_bytes:,} bytes, but they take {found_bytes:,}",
            )
        return Checkpoint(
            folder=self._folder,
            config=config,
            shards=tuple(self._shards),
            tensors=self._tensors,
            tokenizer=_file(self._folder / TOKENIZER),
            problems=tuple(self._problems),
            digests=digests,
        )

    def _error(self, problem: Problem, why: str) -> CheckpointError:
        return CheckpointError(problem, self._what, why)

    def _problem(self, problem: Problem, why: str, shard: str | None = None) -> None:
        self._problems.append(CheckpointError(problem, self._what, why, shard))

    def _is_gone(self, name: str) -> bool:
        """Whether nothing stands there, not even a link: a broken link is told as what it is."""
        try:
            (self._folder / name).lstat()
        except FileNotFoundError:
            return True
        except OSError:
            pass  # it is there, and reading it will say what is wrong with it
        return False

    def _is_coming(self, name: str) -> bool:
        """Whether a shard that was not there is on its way, or has just arrived."""
        if self._arrivals is None or name in self._consumed:
            return False
        return self._arrivals.beginning(name) is not None or not self._is_gone(name)

    # --- the index ----------------------------------------------------------------------------------

    def _index(self, digests: dict[str, str]) -> tuple[dict[str, str], int | None]:
        """Tensor → shard, and the bytes of all tensors as the index says; nothing where there is no index."""
        path = self._folder / INDEX
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise self._error("unreadable", f"its {INDEX} is not an ordinary file")
            if found.st_size > MAX_INDEX_BYTES:
                raise self._error("damaged", f"its {INDEX} has {byte_count(found.st_size)}")
            with path.open("rb") as file:
                if sign := recognised(file.peek(512)[:512], "list of tensors"):
                    raise self._error("damaged", f"its {INDEX} cannot be used ({sign})")
                places, total_bytes, digests[INDEX] = self._read_index(JsonCursor(file, found.st_size))
        except FileNotFoundError as error:
            if path.is_symlink():
                why = f"its {INDEX} is a link to a file that is not there"
                raise self._error("unreadable", why) from error
            self._need_single()
            return {}, None
        except JsonError as error:
            why = f"its {INDEX} is damaged ({printable(str(error))})"
            raise self._error("damaged", why) from error
        except (OSError, ValueError) as error:
            raise self._error("unreadable", f"its {INDEX} cannot be read ({_why(error)})") from error
        return places, total_bytes

    def _read_index(self, cursor: JsonCursor) -> tuple[dict[str, str], int | None, str]:
        places: dict[str, str] | None = None
        total_bytes: int | None = None
        for key in cursor.members(MAX_NAME_BYTES, 64):
            if key == "weight_map":
                places = self._weight_map(cursor)
                continue
            value = cursor.value(MAX_INDEX_METADATA_BYTES)
            if key == "metadata" and isinstance(value, dict):
                total = cast(dict[str, Any], value).get("total_size")
                if total is not None and type(total) is not int:
                    raise JsonError("its total_size is not a whole number")
                total_bytes = total
        if not places:
            raise JsonError("it names no tensor")
        return places, total_bytes, cursor.end()

    def _weight_map(self, cursor: JsonCursor) -> dict[str, str]:
        names: dict[str, str] = {}  # one text for all tensors of a shard
        places: dict[str, str] = {}
        for tensor in cursor.members(MAX_NAME_BYTES, MAX_TENSORS):
            shard = cursor.text(MAX_NAME_BYTES)
            if shard not in names and not _SHARD_NAME.fullmatch(shard):
                raise self._error("unsafe", _unsafe(shard))
            places[tensor] = names.setdefault(shard, shard)
        return places

    def _need_single(self) -> None:
        """Without an index there must be the one file."""
        if not self._is_gone(SINGLE) or self._is_coming(SINGLE):
            return
        if any(self._folder.glob("*.safetensors")):
            raise self._error("incomplete", f"its {INDEX} is missing")
        raise self._error("not_checkpoint", "it holds no safetensors files")

    # --- shards -------------------------------------------------------------------------------------

    def _shard(self, name: str, indexed: list[str] | None, places: dict[str, str]) -> None:
        """Take in the tensors of one shard; `indexed` are those that the index places there, None: no index."""
        path = self._folder / name
        try:
            shard, header = self._promised(name) or self._present(path)
        except CheckpointError as error:
            error.shard = name
            self._problems.append(error)
            return
        self._shards.append(shard)
        if indexed is not None:
            self._check_agreement(name, indexed, places, header)
        for tensor in header.tensors.values():
            if indexed is None or places.get(tensor.name) == name:
                self._tensors[tensor.name] = Source(
                    path, tensor.dtype, tensor.shape, tensor.offset, tensor.size_bytes
                )

    @staticmethod
    def _present(path: Path) -> tuple[Shard, SafetensorsHeader]:
        """A shard that is there. Raises CheckpointError."""
        modified_ns = _modified_ns(path)  # before reading: what changes meanwhile is noticed later
        header = read_safetensors_header(path)
        return Shard(path, header.size_bytes, modified_ns, header.sha256), header

    def _promised(self, name: str) -> tuple[Shard, SafetensorsHeader] | None:
        """A shard of which only the beginning is there; None: it is whole. Raises CheckpointError."""
        if self._arrivals is None or not self._is_gone(name):
            return None
        beginning = self._arrivals.beginning(name)
        if beginning is None:
            return None
        try:
            header = read_safetensors_header(beginning.path, name=name, size_bytes=beginning.size_bytes)
        except CheckpointError:
            if self._is_gone(name):
                raise
            return None  # it was completed, and got its name, in between
        path = self._folder / name
        shard = Shard(path, beginning.size_bytes, beginning.modified_ns, header.sha256, promised=True)
        return shard, header

    def _check_agreement(
        self, name: str, indexed: list[str], places: dict[str, str], header: SafetensorsHeader
    ) -> None:
        """Note where the index and a shard's header contradict each other."""
        if lacking := [tensor for tensor in indexed if tensor not in header.tensors]:
            why = f"its index places tensors into {quoted(name)} that are not there: {listed(lacking)}"
            self._problem("inconsistent", why, name)
        if unknown := [tensor for tensor in header.tensors if tensor not in places]:
            why = f"its shard {quoted(name)} holds tensors that the index lacks: {listed(unknown)}"
            self._problem("inconsistent", why, name)
        elsewhere = [tensor for tensor in header.tensors if places.get(tensor, name) != name]
        if elsewhere:
            why = (
                f"its shard {quoted(name)} holds tensors that the index places elsewhere: {listed(elsewhere)}"
            )
            self._problem("inconsistent", why, name)


def _unsafe(shard: str) -> str:
    if _LEADS_AWAY.search(shard):
        return f"its index names {quoted(shard)}, which is not the name of a file in its folder"
    return f"its index names {quoted(shard)}, which is not the name of a safetensors file"


def _file(path: Path) -> Path | None:
    """`path` where it is an ordinary file that may be looked at."""
    try:
        return path if stat.S_ISREG(path.stat().st_mode) else None
    except OSError:
        return None


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0  # reading it will say what is wrong


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
