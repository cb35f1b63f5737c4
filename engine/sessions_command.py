"""`seamount sessions`, `seamount backup`, `seamount restore`: what is kept, in a terminal.

Owns: what is printed, which conversation a name means, and the names of exported files. Does not know whether an engine
runs (`session_access`), nor how anything is kept. docs/sessions.md shows the commands.
"""

import datetime
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from engine.atomic_file import is_disk_full, write_atomically
from engine.data_version import restorable
from engine.errors import BadRequest, Conflict, DataFolderError, DiskFull, NotFound
from engine.folder_lock import locked, noted
from engine.housekeeping import bytes_text, counted_text
from engine.paths import DataFolder
from engine.progress_line import ProgressLine
from engine.protocol import SessionSummary
from engine.protocol_jobs import JobProgress
from engine.protocol_storage import StartStorageTask
from engine.session_access import Kept, Kind, kept_in
from engine.store import restore as restoring
from engine.store.backup import Progress
from engine.store.backup_reader import BackupReader

LEAST_ID = 8
MOST_NAME = 60
EXIT_PROBLEMS = 1
_SUFFIXES: dict[Kind, str] = {"markdown": ".md", "json": ".json"}


def list_sessions(folder: DataFolder, query: str | None, *, as_json: bool) -> int:
    """Print the conversations, the most recently used first; exit status 0."""
    with kept_in(folder) as kept:
        found = kept.sessions(query)
    if as_json:
        print(json.dumps([each.model_dump() for each in found], ensure_ascii=False, indent=1))
        return 0
    if not found:
        print("There are no conversations." if query is None else "No conversation holds that.")
        return 0
    shown = _short_ids([each.id for each in found])
    for each in found:
        count = counted_text(each.message_count, "message")
        print(f"{shown[each.id]}  {_date(each.updated_at)}  {count:>14}  {_title(each)}")
    return 0


def show(folder: DataFolder, named: str, *, as_json: bool) -> int:
    """Print one conversation, its shown branch as Markdown or all of it as JSON; exit status 0."""
    with kept_in(folder) as kept:
        chosen = _one(kept, named)
        if as_json:
            print(kept.session(chosen.id).model_dump_json(indent=1))
            return 0
        sys.stdout.write(kept.exported(chosen.id, "markdown").decode())
    return 0


def export(folder: DataFolder, named: Sequence[str], *, kind: Kind, to: Path | None, every: bool) -> int:
    """Write conversations to files, or one to stdout; exit status 0.

    `to`: a folder that is there, for a file of each; or the file for the one. None: stdout.
    """
    what = "Nothing was exported"
    if every == bool(named):
        raise BadRequest(what, "conversations are to be named, or --all", "see `seamount sessions list`")
    with kept_in(folder) as kept:
        chosen = kept.sessions(None) if every else [_one(kept, each) for each in named]
        if not chosen:
            print("There are no conversations.")
        into = to is not None and to.is_dir()
        if not into and (len(chosen) > 1 or every):
            raise BadRequest(what, "several files need a folder", "name one that is there with --to")
        for each in chosen:
            content = kept.exported(each.id, kind)
            if to is None:
                # As they are: text would have other line ends on some systems.
                sys.stdout.buffer.write(content)
                sys.stdout.buffer.flush()
                continue
            path = to / _file_name(each, kind) if into else to
            _write_new(path, content)
            print(f"{path} ({bytes_text(len(content))})")
    if to is not None and chosen:
        print(
            "What is exported is plain text: whoever can read the file can read the conversation.",
            file=sys.stderr,
        )
    return 0


def import_files(folder: DataFolder, files: Sequence[Path]) -> int:
    """Take in conversations from files, one after the other; exit status 0. Those before a bad one stay."""
    with kept_in(folder) as kept:
        for file in files:
            summary = kept.imported(file)
            count = counted_text(summary.message_count, "message")
            print(f"{summary.id}  {count}  {_title(summary)}")
    return 0


def verify(folder: DataFolder) -> int:
    """Read and check all that is kept; exit status 0 when all is well, else EXIT_PROBLEMS."""
    return _work(folder, StartStorageTask(kind="verify"))


def compact(folder: DataFolder) -> int:
    """Give back to the disk what is not needed; exit status 0."""
    return _work(folder, StartStorageTask(kind="compact"))


def back_up(folder: DataFolder, file: Path, *, with_states: bool) -> int:
    """Write everything to one file; exit status 0."""
    asked = StartStorageTask(kind="backup", path=str(file.absolute()), with_states=with_states)
    return _work(folder, asked)


def restore_previous(folder: DataFolder) -> int:
    """What was there before a newer version's first start, in the place of what that has written since; exit status 0.

    Raises NotFound without such a backup, and what `restore` raises.
    """
    file = restorable(folder)
    if file is None:
        raise NotFound(
            "Nothing was restored",
            f"{folder.backups} holds no backup that was made before a newer Seamount used this folder",
            "name a backup's file",
        )
    return restore(folder, file, only_check=False)


def restore(folder: DataFolder, file: Path, *, only_check: bool) -> int:
    """Put a backup in the place of what is there, which is kept aside; exit status 0.

    `only_check`: read the backup to its last byte, and no more. Raises EngineRunning while an engine runs.
    """
    line = ProgressLine(events=False)
    told = _Told(line)
    try:
        if only_check:
            with BackupReader(file) as reader:
                reader.check(Progress(told))
                manifest = reader.manifest
                line.clear()
                files, size = counted_text(len(manifest.members), "file"), bytes_text(reader.content_bytes)
                states = "" if manifest.with_states else ", without what models have read"
                print(f"{file} is whole: {files}, {size}, of {_date(manifest.created_at)}{states}.")
            return 0
        folder.create()
        remedy = "close its windows, or end it, and try again; nothing was changed"
        with locked(folder, "The backup was not restored", remedy):
            said = restoring.finish(folder.root)
            if said:
                print(said)
            with noted(folder, "a backup is being restored"):
                restoring.prepare(folder.root, file, Progress(told))
                line.clear()
                print(restoring.finish(folder.root))
    finally:
        line.clear()
    return 0


class _Told:
    """Progress onto the line, with its rate."""

    def __init__(self, line: ProgressLine) -> None:
        self._line = line
        self._begun_s = time.monotonic()

    def __call__(self, done_bytes: int, total_bytes: int, note: str) -> None:
        """So far it is."""
        spent_s = max(time.monotonic() - self._begun_s, 1e-3)
        rate = done_bytes / spent_s
        left = (total_bytes - done_bytes) / rate if rate and spent_s > 1 else None
        self._line.progress(
            JobProgress(
                done_bytes=done_bytes, total_bytes=total_bytes, bytes_per_s=rate, seconds_left=left, item=note
            )
        )


def _work(folder: DataFolder, asked: StartStorageTask) -> int:
    line = ProgressLine(events=False)
    try:
        with kept_in(folder) as kept:
            task = kept.work(asked, _Told(line))
    finally:
        line.clear()
    for each in (*task.lines, *(f"      {problem}" for problem in task.problems)):
        print(each)
    if task.state == "stopped":
        print("It was stopped.", file=sys.stderr)
    return EXIT_PROBLEMS if task.problems or task.state != "done" else 0


def _one(kept: Kept, named: str) -> SessionSummary:
    """The conversation whose id begins so, or whose title it is. Raises NotFound, BadRequest."""
    found = kept.sessions(None)
    matching = [each for each in found if each.id.startswith(named)] if named else []
    matching = matching or [each for each in found if each.title == named]
    if len(matching) == 1:
        return matching[0]
    what = "No conversation was chosen"
    if matching:
        raise BadRequest(
            what, f"{len(matching)} begin with {named}, or are called so", "write more of the id"
        )
    raise NotFound(
        what, f"none begins with {named or 'nothing'}, or is called so", "see `seamount sessions list`"
    )


def _short_ids(ids: Sequence[str]) -> dict[str, str]:
    """Each id's beginning that none of the others has, all of one length."""
    length = LEAST_ID
    while length < max(map(len, ids)) and len({each[:length] for each in ids}) < len(ids):
        length += 1
    return {each: each[:length] for each in ids}


def _file_name(session: SessionSummary, kind: Kind) -> str:
    """The title as far as it can be a file's name anywhere, and the id, so that no two are the same."""
    words = "".join(each if each.isalnum() else " " for each in session.title).split()
    name = "-".join(words)[:MOST_NAME].strip("-")
    # An imported id may hold anything printable.
    tail = "".join(each for each in session.id if each.isascii() and each.isalnum())[-32:]
    return f"{name or 'conversation'}-{tail}{_SUFFIXES[kind]}"


def _write_new(path: Path, content: bytes) -> None:
    what = "The conversation was not exported"
    if path.exists():
        raise Conflict(what, f"{path} is there already", "name another file, or move that one away")
    try:
        write_atomically(path, content)
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(
                what, f"the disk that holds {path.parent} is full", "free some space there"
            ) from error
        raise DataFolderError(
            what, f"{path} cannot be written ({error.strerror or error})", "name another place with --to"
        ) from error


def _title(session: SessionSummary) -> str:
    return "".join(each for each in session.title if each.isprintable()) or "(no title)"


def _date(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s).astimezone().strftime("%Y-%m-%d %H:%M")
