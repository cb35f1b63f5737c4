"""`seamount convert` and `verify`: a checkpoint into a GGUF, and whether a file or folder is what it should be.

Owns: what the two commands print, and ending on Ctrl-C so that it can go on. Does not convert or check
(`library/conversion_work`, `library/fetch_work`). Neither a data folder nor an engine is touched.

With `--events` they print one JSON object a line on stdout, `event` first: `progress` (see `progress_line`), then
`done` (files) or `verdict` (file, good, differences; of a GGUF also lossless, exact, approximate,
worst_relative_rms), or `error` (code, text).
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convert.tensor_map import Dense, Draft
from convert.verification import Verdict
from engine.errors import BadRequest, ConversionStopped, FetchStopped, NotFound, SeamountError
from engine.interruption import STOPPED, wish_to_stop
from engine.library.jobs import conversion_work
from engine.model_table import size_text
from engine.progress_line import ProgressLine
from engine.protocol import ErrorBody
from engine.protocol_jobs import ConvertRequest
from engine.protocol_jobs import Verdict as FolderVerdict

MOST_NAMED = 20


def convert_checkpoint(
    source: Path,
    target: Path,
    *,
    dense: Dense,
    draft: Draft,
    consume: bool,
    release: str | None,
    events: bool,
) -> int:
    """Convert the checkpoint in `source` to `target`, or go on with it; the exit status."""
    # What is too long for a request over the wire is for the file system to refuse here.
    asked = ConvertRequest.model_construct(
        source=str(source), target=str(target), dense=dense, draft=draft, consume=consume, release=release
    )

    def work(line: ProgressLine, stopped: Callable[[], bool]) -> int:
        files = conversion_work.convert_checkpoint(asked, line.progress, stopped)
        line.end(
            {"event": "done", "files": [str(path) for path in files]},
            [f"{path} ({size_text(path.stat().st_size)})" for path in files],
        )
        return 0

    return _spoken(work, events=events)


def verify(paths: list[Path], *, events: bool) -> int:
    """Check a GGUF against its receipt, a fetched folder against the hub's digests or, of two paths, the second
    against the checkpoint in the first.

    A drafter in a file of its own beside a GGUF is checked as well. The exit status: 1 when anything differs.
    """
    if len(paths) > 2:
        raise BadRequest(
            "Nothing was checked", f"{len(paths)} paths were given", "give a checkpoint and a file, or a file"
        )
    source, checked = (paths[0], paths[1]) if len(paths) > 1 else (None, paths[0])

    def work(line: ProgressLine, stopped: Callable[[], bool]) -> int:
        if source is None and not checked.exists():
            raise NotFound("Nothing was checked", f"there is no {checked}", "write another path")
        if source is None and checked.is_dir():
            from engine.library.fetching.fetch_work import check_folder

            found = check_folder(checked, line.progress, stopped)
            line.end(
                {"event": "verdict", "file": str(checked), **found.model_dump()},
                _folder_lines(checked, found),
            )
            return 0 if found.good else 1
        good = True
        for path, verdict in conversion_work.check(checked, source, line.progress, stopped):
            line.end(
                _verdict_event(path, verdict), _verdict_lines(path, verdict, by_source=source is not None)
            )
            good = good and verdict.good
        return 0 if good else 1

    return _spoken(work, events=events)


def _spoken(work: Callable[[ProgressLine, Callable[[], bool]], int], *, events: bool) -> int:
    """Do the work with Ctrl-C as a wish to stop, and tell its errors in one way."""
    line = ProgressLine(events=events)
    try:
        with wish_to_stop() as stopped:
            return work(line, stopped)
    except SeamountError as error:
        was_stopped = isinstance(error, ConversionStopped | FetchStopped)
        if not events:
            line.clear()
            if was_stopped:
                print(f"seamount: {error.text}", file=sys.stderr, flush=True)
                return STOPPED
            raise
        body: dict[str, Any] = ErrorBody(code=error.code, text=error.text).model_dump()
        line.say({"event": "error", **body})
        return STOPPED if was_stopped else 1


def _folder_lines(folder: Path, verdict: FolderVerdict) -> list[str]:
    if verdict.good:
        return [f"{folder.name}: all {size_text(verdict.checked_bytes)} are as the hub has them"]
    lines = [f"{folder.name}: it is not whole"]
    lines += [f"      {each}" for each in verdict.differences[:MOST_NAMED]]
    if len(verdict.differences) > MOST_NAMED:
        lines.append(f"      and {len(verdict.differences) - MOST_NAMED:,} more")
    return lines


def _verdict_event(path: Path, verdict: Verdict) -> dict[str, Any]:
    return {
        "event": "verdict",
        "file": str(path),
        "good": verdict.good,
        "lossless": verdict.lossless,
        "exact": verdict.exact,
        "approximate": verdict.approximate,
        "worst_relative_rms": verdict.worst,
        "differences": [{"tensor": each.tensor, "why": each.why} for each in verdict.differences],
    }


def _verdict_lines(path: Path, verdict: Verdict, *, by_source: bool) -> list[str]:
    same = "the same as in the checkpoint" if by_source else "as they were written"
    if not verdict.good:
        lines = [f"{path.name}: {len(verdict.differences):,} of its parts are not {same}"]
        lines += [f"      {each.tensor}: {each.why}" for each in verdict.differences[:MOST_NAMED]]
        if len(verdict.differences) > MOST_NAMED:
            lines.append(f"      and {len(verdict.differences) - MOST_NAMED:,} more")
        return lines
    if verdict.lossless:
        return [f"{path.name}: all {verdict.exact:,} tensors are {same}, every number exact"]
    rounded = f"{verdict.approximate:,} are rounded to 8 bits, by {verdict.worst:.2%} at most (RMS)"
    return [f"{path.name}: {verdict.exact:,} tensors are exact, all experts among them; {rounded}"]
