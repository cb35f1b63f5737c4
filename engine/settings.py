"""What the person chose, in `settings.toml`.

Owns: reading the file so that nothing in it can stop Seamount from starting, and writing it whole or not at
all. Does not know what the settings are used for; their names, ranges and defaults are `protocol.Settings`.

The schema is flat and known, so the file is written out by hand; what a person added to it is not kept.
"""

import json
import tomllib
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from engine.atomic_file import is_disk_full, name_beside, write_atomically
from engine.conversation import clean_text
from engine.errors import DataFolderError, DiskFull, NewerData
from engine.protocol import ErrorBody, Settings

FORMAT = 1
MAX_BYTES = 16 << 20


def load_settings(path: Path) -> tuple[Settings, ErrorBody | None]:
    """The settings at `path`, and a sentence for the person when the file was not in order.

    No file: the defaults. A value that cannot be: the default in its place; the sentence names it and the
    file stays. A file that is not TOML at all: the defaults, and the file is set aside under another name.
    One of a newer Seamount: the defaults, and the file stays. Raises nothing.
    """
    try:
        table = _table(path)
        if (written := table.pop("format", FORMAT)) != FORMAT:
            if _is_newer_format(written):
                return Settings(), _body(
                    f"The settings in {path} cannot be used",
                    f"a newer Seamount wrote them (format {written}; this Seamount knows {FORMAT})",
                    "the ordinary settings are used, and the file stays as it is",
                )
            raise ValueError(f"its format is {written!r}, and this Seamount knows {FORMAT}")
    except FileNotFoundError:
        return Settings(), None
    except OSError as error:
        return Settings(), _body(
            f"The settings in {path} cannot be read",
            error.strerror or str(error),
            "the ordinary settings are used; give yourself permission to read the file",
        )
    except (ValueError, RecursionError) as error:
        return Settings(), _set_aside(path, error)
    settings, complaints = _lenient(table)
    if complaints:
        return settings, _body(
            f"Some settings in {path} cannot be used",
            "; ".join(complaints),
            "the ordinary values are used in their place; choose them again in the settings",
        )
    return settings, None


def newer_format(path: Path) -> int | None:
    """The format of the settings at `path` where a newer Seamount wrote them, else None. Raises nothing."""
    try:
        written = _table(path).get("format", FORMAT)
    except (OSError, ValueError, RecursionError):
        return None
    return written if _is_newer_format(written) else None


def settings_now(path: Path, before: Settings) -> Settings:
    """The settings at `path` for who reads them again while others write; `before` where that cannot be done now.

    Nothing is set aside: the file may just be being edited. Raises nothing.
    """
    try:
        table = _table(path)
        if table.pop("format", FORMAT) != FORMAT:
            return before
    except FileNotFoundError:
        return Settings()
    except (OSError, ValueError, RecursionError):
        return before
    return _lenient(table)[0]


def save_settings(path: Path, settings: Settings) -> None:
    """Write the settings; after a crash there are the old ones or the new.

    Raises DiskFull, DataFolderError; NewerData rather than write over what a newer Seamount wrote.
    """
    if (found := newer_format(path)) is not None:
        raise NewerData(
            "The settings cannot be saved",
            f"a newer Seamount wrote those in {path} (format {found})",
            "nothing was changed; use that Seamount, or name another data folder with --data",
        )
    try:
        write_atomically(path, _toml(settings).encode("utf-8"))
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(
                "The settings cannot be saved",
                f"the disk that holds {path.parent} is full",
                "free some space there and try again",
            ) from error
        raise DataFolderError(
            "The settings cannot be saved",
            f"{path} cannot be written ({error.strerror or error})",
            "give yourself permission to write there",
        ) from error


def _table(path: Path) -> dict[str, Any]:
    """What the file says. Raises OSError, ValueError (which TOML's and UTF-8's errors are), RecursionError."""
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    return tomllib.loads(path.read_bytes().decode("utf-8"))


def _is_newer_format(written: object) -> bool:
    return isinstance(written, int) and not isinstance(written, bool) and written > FORMAT


def _toml(settings: Settings) -> str:
    """The settings as TOML 1.0. A value of None is written as no line."""
    lines = ["# Written by Seamount; changes by hand are read at the next start.", f"format = {FORMAT}"]
    values: dict[str, Any] = settings.model_dump(exclude_none=True)
    # Tables come last in TOML: what follows a table's heading belongs to it.
    sampling: dict[str, Any] | None = values.pop("sampling", None)
    lines += [f"{name} = {_value(value)}" for name, value in values.items()]
    if sampling is not None:
        lines += ["", "[sampling]", *(f"{name} = {_value(value)}" for name, value in sampling.items())]
    return "\n".join(lines) + "\n"


def _value(value: str | int | float | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped, and for lone
        # surrogates, which neither can hold.
        return json.dumps(clean_text(value)[0], ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value) if isinstance(value, bool) else repr(value)


def _lenient(table: dict[str, Any]) -> tuple[Settings, list[str]]:
    """The settings in `table` with the ordinary value for each that cannot be, and what is said of those."""
    complaints: list[str] = []
    while True:
        try:
            return Settings.model_validate(table), complaints
        except ValidationError as error:
            for problem in error.errors(include_url=False):
                place = [str(step) for step in problem["loc"]]
                given = json.dumps(problem["input"], default=str, ensure_ascii=False)[:80]
                complaints.append(
                    f"{'.'.join(place)} is {given}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
                )
                holder = table
                for step in place[:-1]:
                    holder = cast(dict[str, Any], holder[step])
                holder.pop(place[-1], None)


def _set_aside(path: Path, error: Exception) -> ErrorBody:
    """Rename the file, so that the next save does not overwrite what the person wrote."""
    what = f"The settings in {path} cannot be used"
    aside = name_beside(path, "broken")
    try:
        path.rename(aside)
    except OSError:
        return _body(what, str(error), "the ordinary settings are used; correct the file or remove it")
    return _body(what, str(error), f"the ordinary settings are used, and the file is kept as {aside.name}")


def _body(what: str, why: str, remedy: str) -> ErrorBody:
    error = DataFolderError(what, clean_text(why)[0], remedy)
    return ErrorBody(code=error.code, text=error.text)
