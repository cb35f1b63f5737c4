"""`seamount get`: fetch a model, and if wished convert it as it arrives.

Owns: what the command's options ask the engine for. Does not fetch: the engine starts a job, which goes on when the
terminal is closed (`job_commands` follows it).
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from engine.engine_client import connected
from engine.errors import BadRequest
from engine.job_commands import LINGER_S, SHORT_ID, Manners, command, follow, give_token
from engine.paths import DataFolder
from engine.protocol_jobs import ConvertAfter, DenseFormat, DraftPlace, FetchRequest, Job

_WHAT = "Nothing was fetched"


@dataclass(frozen=True)
class Asked:
    """The options of the command. `to`: a folder, `save_as`: a file, relative to the current folder or whole. `dense`
    and `draft` None: not given."""

    what: str
    files: list[str] = field(default_factory=list[str])
    to: str | None = None
    convert: bool = False
    dense: DenseFormat | None = None
    draft: DraftPlace | None = None
    consume: bool = False
    release: str | None = None
    token_stdin: bool = False
    detach: bool = False
    save_as: str | None = None


def get(folder: DataFolder, asked: Asked) -> int:
    """Begin the download, or go on with the same one, and follow it; the exit status (see `follow`).

    Raises SeamountError and its kinds.
    """
    request = request_of(asked)
    with connected(folder, linger_s=LINGER_S) as client:
        if asked.token_stdin:
            give_token(client, _token())
        body = {"asked": request.model_dump(exclude_none=True)}
        job = Job.model_validate(client.send("POST", "/api/jobs", body))
    if asked.detach:
        print(f"{job.id[:SHORT_ID]}  {job.title} -> {job.place}")
        return 0
    print(f"{job.title} -> {job.place}", file=sys.stderr, flush=True)
    return follow(folder, job.id, Manners(pauses=True, go_on=command(folder, *_words(asked))))


def request_of(asked: Asked) -> FetchRequest:
    """What the options ask for. Raises BadRequest for those that do not go together, or are too long."""
    about_converting = asked.consume or any((asked.dense, asked.draft, asked.save_as))
    if about_converting and not asked.convert:
        raise BadRequest(
            _WHAT,
            "--dense, --draft, --consume and --save-as are about converting",
            "add --convert, or leave them out",
        )
    try:
        after = None
        if asked.convert:
            after = ConvertAfter(
                target=_whole(asked.save_as) if asked.save_as is not None else None,
                dense=asked.dense or "q8_0",
                draft=asked.draft or "separate",
                consume=asked.consume,
            )
        return FetchRequest(
            what=asked.what,
            files=asked.files,
            folder=_whole(asked.to) if asked.to is not None else None,
            convert=after,
            release=asked.release,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in problem["loc"])
        raise BadRequest(_WHAT, f"{place}: {problem['msg'].lower()}", "correct it") from error


def _words(asked: Asked) -> list[str]:
    """The command that asks for the same, without the program's name."""
    words = ["get", asked.what]
    for name, value in (
        *(("--file", pattern) for pattern in asked.files),
        ("--to", asked.to),
        ("--convert", asked.convert),
        ("--dense", asked.dense),
        ("--draft", asked.draft),
        ("--consume", asked.consume),
        ("--release", asked.release),
        ("--save-as", asked.save_as),
    ):
        if value:
            words += [name] if value is True else [name, str(value)]
    return words


def _whole(text: str) -> str:
    try:
        return str(Path(text).expanduser().absolute())
    except RuntimeError as error:
        raise BadRequest(_WHAT, "there is no such home folder", "write the whole path") from error


def _token() -> str:
    token = sys.stdin.readline().strip()
    if not token:
        raise BadRequest(_WHAT, "there was no token on the standard input", "write it there as one line")
    return token
