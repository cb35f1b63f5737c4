"""The entries of the catalogue: the program's own, and those of a person's own file over them.

Owns: the shape of `assets/catalogue.toml` and of `catalogue.toml` in the data folder, and what such a file must
keep to. A person's file is from outside: it is bounded, every entry is checked by itself, and what is wrong with
one is said in a sentence while the rest counts. Does not fetch, and does not know what lies on this machine.
"""

import fnmatch
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from engine.conversation import clean_text
from engine.errors import DataFolderError, SeamountError
from engine.library.repository_names import is_commit, is_repository, is_revision
from engine.paths import DataFolder
from engine.protocol_jobs import ResultBytes

CATALOGUE = Path(__file__).resolve().parents[2] / "assets" / "catalogue.toml"
"""Beside `engine/`, in the checkout as in the wheel."""
OWN_NAME = "catalogue.toml"
FORMAT = 1
MAX_BYTES = 256 << 10
MOST_ENTRIES = 500
MOST_BYTES = 1 << 50

_Bytes = Annotated[int, Field(ge=0, le=MOST_BYTES)]


class Entry(BaseModel):
    """A model that can be had by name. `revision` "main": not pinned. `files`: patterns; empty: what a model needs.

    `download_bytes` None: not known before the hub is asked. `release`: the model's name, by which the way to write
    prompts is chosen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
    title: Annotated[str, Field(min_length=1, max_length=120)]
    about: Annotated[str, Field(max_length=400)] = ""
    kind: Literal["checkpoint", "gguf"]
    repository: str
    revision: str = "main"
    files: Annotated[list[Annotated[str, Field(min_length=1, max_length=500)]], Field(max_length=100)] = (
        Field(default_factory=list[str])
    )
    release: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    licence: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    download_bytes: _Bytes | None = None
    largest_shard_bytes: _Bytes | None = None
    results: Annotated[list[ResultBytes], Field(max_length=2)] = Field(default_factory=list[ResultBytes])

    @field_validator("title", "about", "release", "licence")
    @classmethod
    def _one_printable_line(cls, text: str | None) -> str | None:
        if text is not None and not (text.isprintable() and clean_text(text) == (text, 0)):
            raise ValueError("it is not one line of text")
        return text

    @field_validator("repository")
    @classmethod
    def _a_repository(cls, text: str) -> str:
        if not is_repository(text):
            raise ValueError("it is not OWNER/NAME")
        return text

    @field_validator("revision")
    @classmethod
    def _a_revision(cls, text: str) -> str:
        if not is_revision(text):
            raise ValueError("it is not a commit, tag or branch")
        return text

    @field_validator("files")
    @classmethod
    def _patterns(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            if not is_pattern(pattern):
                raise ValueError("one of them is no pattern of files in a repository")
        return patterns

    @field_validator("results")
    @classmethod
    def _sizes(cls, results: list[ResultBytes]) -> list[ResultBytes]:
        if any(
            not 0 <= size <= MOST_BYTES for each in results for size in (each.model_bytes, each.draft_bytes)
        ):
            raise ValueError("one of them has a size that none can have")
        return results

    @model_validator(mode="after")
    def _files_of_a_gguf(self) -> "Entry":
        if self.kind == "gguf" and not self.files:
            raise ValueError("files must say which GGUF is meant")
        return self

    @property
    def pinned(self) -> bool:
        """Whether the revision names the same files for ever."""
        return is_commit(self.revision)


@dataclass(frozen=True)
class Catalogue:
    """All entries by name; `own`: the names that the person's file gave. `problem`: what is wrong with that file."""

    entries: Mapping[str, Entry]
    own: frozenset[str] = frozenset()
    problem: SeamountError | None = None

    def find(self, name: str) -> Entry | None:
        """The entry of that name, or the one entry of that repository; None where there is none, or several."""
        entry = self.entries.get(name.lower())
        if entry is not None:
            return entry
        of_it = self.of_repository(name)
        return of_it[0] if len(of_it) == 1 else None

    def of_repository(self, repository: str) -> list[Entry]:
        """Every entry of a repository; the hub does not tell large letters from small ones."""
        wanted = repository.casefold()
        return [entry for entry in self.entries.values() if entry.repository.casefold() == wanted]


def is_pattern(text: str) -> bool:
    """Whether `text` can be a pattern of files in a repository: no way out of it, nothing unprintable."""
    return (
        text.isprintable()
        and not text.startswith("/")
        and "\\" not in text
        and ":" not in text
        and ".." not in text.split("/")
    )


def own_catalogue(folder: DataFolder) -> Path:
    """The person's own file; it need not be there."""
    return folder.root / OWN_NAME


def load_catalogue(folder: DataFolder) -> Catalogue:
    """The program's entries with the person's over them. Raises nothing: what is wrong is in `problem`."""
    entries = dict(_builtin())
    path = own_catalogue(folder)
    try:
        found, complaints = _own_entries(path)
    except FileNotFoundError:
        return Catalogue(entries)
    except OSError as error:
        return Catalogue(
            entries, problem=_problem(path, error.strerror or str(error), "check its permissions")
        )
    except (ValueError, RecursionError) as error:
        return Catalogue(entries, problem=_problem(path, str(error), "correct it; only it is left out"))
    problem = None
    if complaints:
        more = f" (and {len(complaints) - 1:,} more)" if len(complaints) > 1 else ""
        problem = _problem(path, f"{complaints[0]}{more}", "correct it; the other entries are used")
    return Catalogue(entries | found, frozenset(found), problem)


def why_refused(repository: str) -> str | None:
    """Why a repository that is known cannot be used, as a clause; None where nothing is known against it."""
    for pattern, why in _refusals():
        if fnmatch.fnmatchcase(repository.casefold(), pattern.casefold()):
            return why
    return None


def starter_entry(path: Path = CATALOGUE) -> dict[str, Any]:
    """The starter model: `name`, `package`, `file`, `licence`, `sampling`."""
    return _table(path)["starter"]


@cache
def _builtin() -> Mapping[str, Entry]:
    entries = [Entry.model_validate(each) for each in _table(CATALOGUE)["model"]]
    return {entry.name: entry for entry in entries}


@cache
def _refusals() -> tuple[tuple[str, str], ...]:
    return tuple((each["repository"], each["why"]) for each in _table(CATALOGUE)["refused"])


@cache
def _table(path: Path) -> dict[str, Any]:
    """The program's own file. Raises ValueError for one that is not in order: it is part of the program."""
    table = tomllib.loads(path.read_text("utf-8"))
    if table.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {table.get('format')!r}, not {FORMAT}")
    return table


def _own_entries(path: Path) -> tuple[dict[str, Entry], list[str]]:
    """The entries of a person's file, and a clause for each that cannot be used. Raises OSError, ValueError."""
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    table = tomllib.loads(raw.decode("utf-8-sig"))
    if (written := table.pop("format", FORMAT)) != FORMAT:
        raise ValueError(f"its format is {_shown(written)}, and this Seamount knows {FORMAT}")
    models: Any = table.pop("model", [])
    if not isinstance(models, list):
        raise ValueError("its entries are not written as [[model]]")
    listed = cast(list[Any], models)
    complaints = [f"it has {_shown(key)}, which is not known here" for key in table]
    if len(listed) > MOST_ENTRIES:
        complaints.append(f"it has more than {MOST_ENTRIES:,} entries, and only the first of them count")
    found: dict[str, Entry] = {}
    for number, each in enumerate(listed[:MOST_ENTRIES], 1):
        try:
            entry = Entry.model_validate(each)
        except ValidationError as error:
            complaints.append(f"its entry {number} cannot be used, {_first(error)}")
            continue
        if entry.name in found:
            complaints.append(f"its entry {number} bears the name {entry.name} again and is left out")
            continue
        found[entry.name] = entry
    return found, complaints


def _first(error: ValidationError) -> str:
    """The first thing that is wrong with an entry, as a clause."""
    problem = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(step) for step in problem["loc"])
    why = problem["msg"].removeprefix("Value error, ")
    why = f"{why[:1].lower()}{why[1:]}"
    return f"{_shown(place)}: {why}" if place else why


def _shown(value: object) -> str:
    text = clean_text(str(value))[0][:60]
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _problem(path: Path, why: str, remedy: str) -> SeamountError:
    shown = clean_text(why)[0][:300].splitlines() or [""]
    return DataFolderError(
        f"The catalogue in {clean_text(str(path))[0]} cannot be used as it is", shown[0], remedy
    )
