"""Releases of DeepSeek-V4: what differs between them is data, never a condition in the code.

Owns: reading `assets/releases.toml`, and choosing the release of a model by its name and its checkpoint's
config. Does not know how a prompt is rendered. A model whose release is not known is refused by name: a
prompt of the wrong release looks right and answers badly.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

from engine.conversation import Task
from engine.errors import UnknownRelease

RELEASES = Path(__file__).resolve().parents[2] / "assets" / "releases.toml"
FORMAT = 1
NO_THINKING = "none"
ARCHITECTURES = {"deepseek4", "deepseek_v4"}
"""What GGUF files and configs call DeepSeek-V4."""

_REMEDY = "name its release in the settings if you know it, or use a newer Seamount"


@dataclass(frozen=True)
class Tokens:
    """The literals of a release's control tokens; empty for one that it does not have."""

    begin: str
    end: str
    user: str
    assistant: str
    think: str
    think_end: str
    dsml: str
    latest_reminder: str
    extracted_url: str
    system: str
    tasks: Mapping[Task, str] = field(hash=False)

    def literals(self) -> tuple[str, ...]:
        """All of them."""
        named = (self.begin, self.end, self.user, self.assistant, self.think, self.think_end, self.dsml)
        rest = (self.latest_reminder, self.extracted_url, self.system, *self.tasks.values())
        return tuple(filter(None, (*named, *rest)))


@dataclass(frozen=True)
class Dsml:
    """The names that stand behind the DSML token in a tool call's tags."""

    calls: str
    invoke: str
    parameter: str


@dataclass(frozen=True, eq=False)
class Release:
    """How prompts of one release are written. There is one object for each release."""

    id: str
    title: str
    tokens: Tokens
    dsml: Dsml
    models: tuple[str, ...]
    efforts: Mapping[str, str] = field(hash=False)
    """Effort → the text that is put first in a prompt for thinking."""
    default_effort: str
    modes: Mapping[str, str] = field(hash=False)
    """Thinking mode, as a person chooses it ("high", "max") → effort."""
    api_efforts: Mapping[str, str] = field(hash=False)
    """What other programs say → effort, or NO_THINKING."""


@cache
def releases(path: Path = RELEASES) -> Mapping[str, Release]:
    """Every release by its id. Raises ValueError for a file that is not in order: it is part of the program."""
    table = tomllib.loads(path.read_text("utf-8"))
    if table.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {table.get('format')!r}, not {FORMAT}")
    return {
        release_id: Release(
            id=release_id,
            title=entry["title"],
            # A release overrides the tokens and names that it has changed.
            tokens=Tokens(**_merged(table["tokens"], entry.get("tokens", {}))),
            dsml=Dsml(**_merged(table["dsml"], entry.get("dsml", {}))),
            models=tuple(entry["models"]),
            efforts={
                effort: table["texts"][text] if text else "" for effort, text in entry["efforts"].items()
            },
            default_effort=entry["default_effort"],
            modes=entry["modes"],
            api_efforts=entry["api_efforts"],
        )
        for release_id, entry in table["release"].items()
    }


def release(release_id: str) -> Release:
    """The release with that id. Raises UnknownRelease."""
    known = releases()
    if release_id not in known:
        raise UnknownRelease(
            "The prompt cannot be written",
            f"there is no release {release_id!r} of DeepSeek-V4 here",
            f"choose one of {', '.join(known)}",
        )
    return known[release_id]


def choose_release(names: Sequence[str], config: Mapping[str, Any] | None = None) -> Release:
    """The release of the model that bears `names` (repository, folder, GGUF's own), the surest first.

    `config`: the checkpoint's config.json, where there is one; its architecture must be DeepSeek-V4's, and
    its drafter (`dspark_*` keys) must be the named model's. Raises UnknownRelease, by name.
    """
    given = [name for name in names if name.strip()]
    what = f"{given[0][:120] if given else 'This model'} cannot hold a conversation"
    if config is not None:
        kind = str(config.get("model_type", ""))
        if kind not in ARCHITECTURES:
            raise UnknownRelease(
                what, f"its config says {kind or 'no model_type'}, not deepseek_v4", "choose a V4 model"
            )
    strange = ""
    for name in given:
        found, unknown = _by_name(name)
        if found is None:
            strange = strange or unknown
            continue
        model, chosen = found
        if config is not None:
            _check_drafter(what, model, chosen, config)
        return chosen
    why = f"its release is not known here ({strange})" if strange else "nothing about it names its release"
    raise UnknownRelease(what, why, _REMEDY)


def _check_drafter(what: str, model: str, chosen: Release, config: Mapping[str, Any]) -> None:
    drafts = any(key.startswith("dspark_") for key in config)
    # Of the preview only the -DSpark repositories have that drafter, of later releases all.
    wants = chosen.id != "preview" or model.endswith("-DSpark")
    if drafts != wants:
        has = "has" if drafts else "lacks"
        raise UnknownRelease(
            what, f"it is called {model} but its config {has} a DSpark drafter, unlike that model", _REMEDY
        )


def _by_name(name: str) -> tuple[tuple[str, Release] | None, str]:
    """((model, release), "") for a known name; (None, what is strange about it) for one that is not."""
    words = _words(name)
    candidates = [
        (len(model_words), model, each)
        for each in releases().values()
        for model in each.models
        if words[: len(model_words := _words(model))] == model_words
    ]
    if not candidates:
        return None, name[:120]
    length, model, chosen = max(candidates, key=lambda candidate: candidate[0])
    for word in words[length:]:
        if not _packaging().fullmatch(word):
            return None, f"{name[:120]}: what is “{word}”?"
    return (model, chosen), ""


def _words(name: str) -> list[str]:
    """The words of a model's name, its owner and its file's ending left out."""
    bare = name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold().removesuffix(".gguf")
    bare = re.sub(r"^deepseek[-_. ]?ai[-_ ]+", "", bare)
    return [word for word in re.split(r"[-_\s]+", bare) if word]


@cache
def _packaging() -> re.Pattern[str]:
    table = tomllib.loads(RELEASES.read_text("utf-8"))
    return re.compile("|".join(table["packaging"]))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merged[key] = _merged(base[key], cast(dict[str, Any], value))
        else:
            merged[key] = value
    return merged
