"""`seamount convert` and `verify`: a checkpoint into a GGUF, and whether a GGUF is what it should be.

Owns: which release a checkpoint is, how far the work is (a line for people, `--events` JSON lines for programs),
and ending on Ctrl-C so that it can go on. Does not convert (`convert/`). Neither a data folder nor an engine is
touched.

Events, one JSON object a line on stdout, `event` first: `progress` (done_bytes, total_bytes, bytes_per_s,
seconds_left, group, tensor, and of a conversion tensors_done and tensors; at most four a second), then `done` (files)
or `verdict` (file, good, lossless, exact, approximate, worst_relative_rms, differences), or `error` (code, text).
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from convert.checkpoint import read_config
from convert.checkpoint_error import CheckpointError
from convert.conversion import Advance, convert
from convert.conversion_error import ConversionError, Trouble
from convert.conversion_plan import Job, path_of
from convert.gguf_header import GgufError
from convert.metadata import Origin
from convert.tensor_map import Dense, Draft, Options
from convert.verification import Verdict, verify_receipt, verify_source
from engine.checkpoint_remedies import told
from engine.encoding.release import choose_release
from engine.errors import (
    BadRequest,
    ConversionDiskFull,
    ConversionFailed,
    ConversionStopped,
    ModelFileError,
    SeamountError,
    UnknownRelease,
)
from engine.inspect_command import release_names
from engine.library.model_files import REMEDIES
from engine.model_table import size_text
from engine.protocol import ErrorBody

EVENT_EVERY_S = 0.25
STOPPED = 130
"""Exit status of what was ended by Ctrl-C, as shells have it."""
MOST_NAMED = 20
_KINDS: Mapping[Trouble, type[ConversionFailed]] = {
    "stopped": ConversionStopped,
    "disk_full": ConversionDiskFull,
}


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

    def work(voice: "_Voice", stopped: Callable[[], bool]) -> int:
        job = Job(source, target, origin_of(source, release), Options(dense, draft), consume)

        def report(advance: Advance) -> None:
            voice.progress(
                advance.done_bytes,
                advance.total_bytes,
                advance.bytes_per_s,
                advance.group,
                advance.tensor,
                (advance.tensors_done, advance.tensors),
            )

        files = convert(job, report, stopped)
        voice.end(
            {"event": "done", "files": [str(path) for path in files]},
            [f"{path} ({size_text(path.stat().st_size)})" for path in files],
        )
        return 0

    return _spoken(work, events=events)


def verify(paths: list[Path], *, events: bool) -> int:
    """Check a GGUF against its receipt or, of two paths, the second against the checkpoint in the first.

    A drafter in a file of its own beside it is checked as well. The exit status: 1 when anything differs.
    """
    if len(paths) > 2:
        raise BadRequest(
            "Nothing was checked", f"{len(paths)} paths were given", "give a checkpoint and a file, or a file"
        )
    source, gguf = (paths[0], paths[1]) if len(paths) > 1 else (None, paths[0])
    draft = path_of(gguf, "draft")

    def work(voice: "_Voice", stopped: Callable[[], bool]) -> int:
        good = True
        for path in (gguf, draft) if draft.is_file() else (gguf,):
            began_s = time.monotonic()

            def report(done: int, total: int, tensor: str, began_s: float = began_s) -> None:
                rate = done / max(time.monotonic() - began_s, 1e-9)
                voice.progress(done, total, rate, "", tensor)

            if source is None:
                verdict = verify_receipt(path, report, stopped)
            else:
                verdict = verify_source(source, path, report, stopped)
            voice.end(
                _verdict_event(path, verdict), _verdict_lines(path, verdict, by_source=source is not None)
            )
            good = good and verdict.good
        return 0 if good else 1

    return _spoken(work, events=events)


def origin_of(source: Path, release: str | None) -> Origin:
    """Where a checkpoint is from: its model's name, which decides how prompts are written, and its place on the
    hub where the folder tells. Raises UnknownRelease and ModelFileError."""
    config = read_config(source)
    names = [release] if release else release_names(source)
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
        return Origin(name, *_hub_place(source))
    raise ValueError("a folder without a name")


def _hub_place(source: Path) -> tuple[str, str]:
    """(repository, revision) by the hub's cache, or the notes that a download leaves in its folder."""
    full = source.resolve()
    if full.parent.name == "snapshots" and full.parents[1].name.startswith("models--"):
        return full.parents[1].name.removeprefix("models--").replace("--", "/", 1), full.name
    note = full / ".cache" / "huggingface" / "download" / "config.json.metadata"
    try:
        with note.open(encoding="ascii") as file:
            revision = file.readline(80).strip()
    except (OSError, ValueError):
        return "", ""
    return "", revision if len(revision) == 40 and revision.isalnum() else ""


def _spoken(work: "Callable[[_Voice, Callable[[], bool]], int]", *, events: bool) -> int:
    """Do the work with Ctrl-C as a wish to stop, and tell its errors in one way."""
    voice = _Voice(events)
    try:
        with _wish_to_stop() as stopped:
            return work(voice, stopped)
    except (CheckpointError, ConversionError, GgufError, SeamountError) as error:
        failure = error if isinstance(error, SeamountError) else failure_of(error)
        if not events:
            voice.clear()
            if isinstance(failure, ConversionStopped):
                print(f"seamount: {failure.text}", file=sys.stderr, flush=True)
                return STOPPED
            if failure is error:
                raise
            raise failure from error
        body: dict[str, Any] = ErrorBody(code=failure.code, text=failure.text).model_dump()
        voice.say({"event": "error", **body})
        return STOPPED if isinstance(failure, ConversionStopped) else 1


def failure_of(error: CheckpointError | ConversionError | GgufError) -> SeamountError:
    """What `convert` raised, as one of the errors that a person can meet."""
    if isinstance(error, CheckpointError):
        return told(error)
    if isinstance(error, GgufError):
        return ModelFileError(error.what, error.why, REMEDIES[error.problem])
    return _KINDS.get(error.trouble, ConversionFailed)(error.what, error.why, error.remedy)


class _Voice:
    """Tells progress: JSON lines on stdout, or one line on stderr that is written over, where that can be."""

    def __init__(self, events: bool) -> None:
        self._events = events
        self._line = not events and sys.stderr.isatty()
        self._last_s = float("-inf")

    def progress(
        self,
        done: int,
        total: int,
        rate: float,
        group: str,
        tensor: str,
        tensors: tuple[int, int] | None = None,
    ) -> None:
        now = time.monotonic()
        if now - self._last_s < EVENT_EVERY_S and done < total:
            return
        self._last_s = now
        left_s = (total - done) / rate if rate > 0 else None
        if self._events:
            event = {"done_bytes": done, "total_bytes": total, "bytes_per_s": round(rate)}
            left = None if left_s is None else round(left_s, 1)
            count = {"tensors_done": tensors[0], "tensors": tensors[1]} if tensors else {}
            place = {"seconds_left": left, "group": group, "tensor": tensor}
            self.say({"event": "progress", **event, **place, **count})
        elif self._line:
            left = "" if left_s is None else f", {_time_text(left_s)} left"
            share = f"{size_text(done)} of {size_text(total)}, {size_text(round(rate))}/s{left}"
            sys.stderr.write(f"\r\x1b[K{share}  {tensor}")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._line:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def end(self, event: dict[str, Any], lines: list[str]) -> None:
        if self._events:
            self.say(event)
            return
        self.clear()
        for line in lines:
            print(line, flush=True)

    @staticmethod
    def say(event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False), flush=True)


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


@contextmanager
def _wish_to_stop() -> Generator[Callable[[], bool]]:
    """Whether Ctrl-C or a polite kill came; a second one ends the program where it is."""
    came = False

    def note(_number: int, _frame: object) -> None:
        nonlocal came
        if came:
            raise KeyboardInterrupt
        came = True

    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, note) for name in names}
    try:
        yield lambda: came
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _time_text(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
