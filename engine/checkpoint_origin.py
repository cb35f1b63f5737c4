"""Where a checkpoint is from: which model it is, and its place on the hub as far as its folder tells.

Owns: choosing the model's name that decides how prompts are written, and reading the traces that a download leaves.
Does not know what is made of it.
"""

import contextlib
from pathlib import Path

from convert.checkpoint import read_config
from convert.metadata import Origin
from engine.encoding.release import choose_release
from engine.errors import FetchFailed, UnknownRelease
from engine.inspect_command import release_names
from engine.library.fetching.fetch_manifest import read_manifest


def origin_of(source: Path, release: str | None) -> Origin:
    """Where a checkpoint is from: its model's name, which decides how prompts are written, and its place on the
    hub where the folder tells. Raises UnknownRelease and ModelFileError."""
    config = read_config(source)
    repository, revision = _hub_place(source)
    name_there = [repository.rpartition("/")[2]] if repository else []
    names = [release] if release else [*name_there, *release_names(source)]
    for name in names:
        try:
            choose_release([name], config)
        except UnknownRelease as error:
            if name == names[-1]:
                raise UnknownRelease(
                    error.what,
                    error.why,
                    "say which model it is with --release, such as DeepSeek-V4-Flash-0731",
                ) from error
            continue
        return Origin(name, repository, revision)
    raise ValueError("a folder without a name")


def _hub_place(source: Path) -> tuple[str, str]:
    """(repository, revision) by our own notes about a download, by the hub's cache, or by the notes that its tools
    leave in a folder."""
    full = source.resolve()
    with contextlib.suppress(FetchFailed):  # notes that cannot be read do not make a checkpoint unusable
        if (manifest := read_manifest(full)) is not None:
            return manifest.repository, manifest.commit
    if full.parent.name == "snapshots" and full.parents[1].name.startswith("models--"):
        return full.parents[1].name.removeprefix("models--").replace("--", "/", 1), full.name
    note = full / ".cache" / "huggingface" / "download" / "config.json.metadata"
    try:
        with note.open(encoding="ascii") as file:
            revision = file.readline(80).strip()
    except (OSError, ValueError):
        return "", ""
    return "", revision if len(revision) == 40 and revision.isalnum() else ""
