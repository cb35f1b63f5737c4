"""What is opened from outside, by a double click or a link: a model's file, or a `seamount:` link to a model.

Owns: what such a request may look like, and what is said of one that may not be. Anybody can write a link into a page,
so a link can only ask for a form to be shown: `seamount://get/NAME` or `seamount://get/OWNER/NAME`, either with
@REVISION. Does not know the library, and asks nobody: who shows the form looks there whether there is such a model
(`library/repository_names` has the last word on names).
"""

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.errors import BadRequest

SCHEME = "seamount"
LONGEST_LINK = 500
LONGEST_PATH = 4096
LONGEST_REQUEST = 3 * LONGEST_PATH + len("file://")
"""A path as an address may have three characters for each byte."""
_SUFFIX = ".gguf"
_BEFORE_VERB = f"{SCHEME}://"
_VERB = "get"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,198}[A-Za-z0-9_-])?", re.ASCII)
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
_SHOWN = 80


@dataclass(frozen=True)
class ModelLink:
    """A model to be had. `name`: one of the library's own, or OWNER/NAME; `revision` None: the usual one."""

    name: str
    revision: str | None = None

    @property
    def is_repository(self) -> bool:
        """Whether it names a repository, which only the hub knows."""
        return "/" in self.name

    @property
    def text(self) -> str:
        """As a person would type it."""
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file on this machine, by its whole path."""

    path: Path


def is_request(text: str) -> bool:
    """Whether an argument of the command line is meant as one, good or bad: it looks like no command."""
    lower = text.lower()
    return lower.startswith((f"{SCHEME}:", "file:")) or lower.endswith(_SUFFIX)


def read_request(text: str, folder: Path | None = None) -> ModelLink | ModelFile:
    """What is asked for. `folder`: where a path that is not whole begins; None: such a path is refused.

    Looks at the file system for a file, and nowhere else. Raises BadRequest.
    """
    if text.lower().startswith(f"{SCHEME}:"):
        return _link(text)
    return _file(text, folder)


def _link(text: str) -> ModelLink:
    if len(text) > LONGEST_LINK:
        raise _refused_link(text, f"it is longer than {LONGEST_LINK} characters")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise _refused_link(text, "it holds characters that no such link has")
    if any(each in text for each in "%?#\\"):
        raise _refused_link(text, "it holds more than the name of a model")
    if not text.lower().startswith(_BEFORE_VERB):
        raise _refused_link(text, "it has another form")
    verb, _, what = text[len(_BEFORE_VERB) :].partition("/")
    if verb.lower() != _VERB:
        raise _refused_link(text, "it asks for something that links cannot ask for")
    name, at, revision = what.partition("@")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise _refused_link(text, "what stands behind its @ is no revision")
    if not (_NAME.fullmatch(name) or _is_repository(name)):
        raise _refused_link(text, "it does not name a model")
    return ModelLink(name, revision if at else None)


def _is_repository(name: str) -> bool:
    parts = name.split("/")
    return len(parts) == 2 and all(
        _PART.fullmatch(part) and ".." not in part and "--" not in part and not _DEVICES.fullmatch(part)
        for part in parts
    )


def _file(text: str, folder: Path | None) -> ModelFile:
    name = _path_of(text) if text.lower().startswith("file:") else text
    if len(name) > LONGEST_PATH:
        raise _refused_file(name, "its path is too long", "move it to a folder with a shorter one")
    if not name or any(ord(each) < 32 or ord(each) == 127 for each in name):
        raise _refused_file(
            name, "that is no path of a file", "add it in the window, with Model → Add a GGUF file"
        )
    if not name.lower().endswith(_SUFFIX):
        raise _refused_file(name, "only .gguf files can be opened", "name such a file")
    path = Path(name)
    if not path.is_absolute():
        if folder is None:
            raise _refused_file(name, "its path is not a whole one", "name it from the root on")
        path = folder / path
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise _refused_file(name, "there is no such file", "look whether it was moved or renamed") from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its path cannot be used"
        raise _refused_file(name, why, "check its disk, and your permission to read it") from error
    if not stat.S_ISREG(found.st_mode):
        raise _refused_file(name, "it is no ordinary file", "name a model's file")
    return ModelFile(path.absolute())


def _path_of(address: str) -> str:
    """The path that a file: address names. Raises BadRequest for another machine's."""
    # Imported here: it brings all of HTTP, which a window that is starting does not wait for.
    from urllib.request import url2pathname

    try:
        parts = urlsplit(address)
        host = parts.netloc.lower()
    except ValueError as error:
        raise _refused_file(address, "that is no address of a file", "name its path") from error
    if host not in ("", "localhost"):
        raise _refused_file(address, "it lies on another machine", "copy it to this one")
    if parts.query or parts.fragment or "\x00" in unquote(parts.path):
        raise _refused_file(address, "that is no address of a file", "name its path")
    return url2pathname(parts.path)


def _refused_link(text: str, why: str) -> BadRequest:
    return BadRequest(
        f"The link {_shown(text)} was not opened",
        why,
        "such links are seamount://get/OWNER/NAME; look the model up in the Library instead",
    )


def _refused_file(name: str, why: str, remedy: str) -> BadRequest:
    return BadRequest(f"The file {_shown(name)} was not opened", why, remedy)


def _shown(text: str) -> str:
    """As much of it as a sentence can bear, with nothing in it that acts on a terminal or turns the text around."""
    clean = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text[: _SHOWN + 1]
    )
    return f"“{clean[:_SHOWN]}…”" if len(clean) > _SHOWN else f"“{clean}”"
