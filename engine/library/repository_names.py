"""What a person types for a repository: OWNER/NAME, OWNER/NAME@REVISION, or the address of its page at the hub.

Owns: which names there can be. They come from outside and become folders, addresses and sentences, so what is
not plainly one of them is refused. Does not know the catalogue, and asks no hub.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from engine.conversation import clean_text
from engine.errors import BadRequest

LONGEST_PART = 96
LONGEST_REVISION = 200
_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")
_REVISION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]*[A-Za-z0-9_-])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for itself: a folder cannot bear them."""
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_PAGES = ("tree", "blob", "resolve", "raw", "commit")
_OTHER_KINDS = ("datasets", "spaces", "collections", "papers", "docs", "api")


@dataclass(frozen=True)
class Place:
    """A repository, and what was said of it besides: its revision, one file in it."""

    repository: str
    revision: str | None = None
    file: str | None = None


def is_repository(text: str) -> bool:
    """Whether `text` can be OWNER/NAME."""
    parts = text.split("/")
    return len(parts) == 2 and all(
        len(part) <= LONGEST_PART
        and _PART.fullmatch(part) is not None
        and ".." not in part
        and "--" not in part
        and _DEVICES.fullmatch(part) is None
        for part in parts
    )


def is_revision(text: str) -> bool:
    """Whether `text` can be a commit, tag or branch."""
    return (
        len(text) <= LONGEST_REVISION
        and _REVISION.fullmatch(text) is not None
        and ".." not in text
        and "//" not in text
    )


def is_commit(text: str) -> bool:
    """Whether `text` is a whole commit, so that it names the same files for ever."""
    return _COMMIT.fullmatch(text) is not None


def split_revision(text: str) -> tuple[str, str | None]:
    """`NAME@REVISION` → (NAME, REVISION); (text, None) without one. Raises BadRequest for one that cannot be."""
    name, at, revision = text.partition("@")
    if not at:
        return text, None
    return name, checked_revision(revision)


def checked_revision(revision: str) -> str:
    """`revision` as it is. Raises BadRequest for one that cannot be."""
    if not is_revision(revision):
        raise _nothing(
            f"“{_shown(revision)}” is no revision", "write a commit, a tag or a branch of the repository"
        )
    return revision


def read_place(text: str, endpoint: str) -> Place:
    """The repository that a person names by OWNER/NAME[@REVISION] or by the address of a page of it.

    `endpoint`: the hub's address; pages of the hub itself and of this one are known. Raises BadRequest.
    """
    text = text.strip()
    if "://" in text:
        return _by_address(text, endpoint)
    name, revision = split_revision(text)
    if not is_repository(name):
        raise _nothing(
            f"“{_shown(name)}” is neither in the catalogue nor a repository",
            "write it as OWNER/NAME, or paste the address of its page",
        )
    return Place(name, revision)


def _by_address(text: str, endpoint: str) -> Place:
    try:
        address = urlsplit(text)
        known, host = urlsplit(endpoint).hostname, (address.hostname or "").lower()
    except ValueError as error:
        raise _nothing("that is no address", "paste the address of the model's page") from error
    if address.scheme not in ("https", "http") or host not in (*_HUB_HOSTS, known):
        raise _nothing(
            f"“{_shown(host or text)}” is not the hub", "paste the address of the model's page at the hub"
        )
    # What else an address may carry (a name and password, a question) is no part of a page.
    steps = [unquote(step) for step in address.path.split("/") if step]
    if steps and steps[0] == "models":
        steps = steps[1:]
    repository = "/".join(steps[:2])
    if not is_repository(repository) or steps[0] in _OTHER_KINDS:
        raise _nothing(
            "that address is not of a model's page", "paste one such as https://huggingface.co/OWNER/NAME"
        )
    if len(steps) >= 4 and steps[2] in _PAGES:
        revision = checked_revision(steps[3])
        file = "/".join(steps[4:]) if steps[2] in ("blob", "resolve", "raw") else ""
        return Place(repository, revision, file or None)
    return Place(repository)


def _nothing(why: str, remedy: str) -> BadRequest:
    return BadRequest("The model cannot be fetched", why, remedy)


def _shown(text: str) -> str:
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in clean_text(text)[0][:80]
    )
