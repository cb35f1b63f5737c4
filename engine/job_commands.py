"""`seamount jobs`: the jobs of an engine in a terminal, and following one until it ends.

Owns: their list as lines, and the one line that is written over while a job is followed. A client of the engine's HTTP
interface like the window. Does not know how jobs run; they go on when the terminal is closed.
"""

import getpass
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from engine.engine_client import EngineClient, EngineSaidNo, connected
from engine.errors import BadRequest, EngineUnreachable, NotFound
from engine.interruption import STOPPED
from engine.model_table import size_text
from engine.paths import DataFolder, data_folder
from engine.progress_line import ProgressLine, line_text
from engine.protocol_jobs import Job, JobList

LINGER_S = 5.0
LOOK_S = 0.3
MOST_TRIES = 3
"""So often a new engine is looked for, or started, while a job is followed."""
MOST_NAMED = 20
SHORT_ID = 8
KINDS = {"fetch": "download", "convert": "conversion", "verify": "check", "move": "move"}


def jobs(folder: DataFolder, named: str | None, action: str | None, *, remove_partial: bool) -> int:
    """List the jobs, or do something with the one whose id begins with `named`; the exit status.

    `action`: pause, resume, cancel, forget or watch; None: show it. Raises SeamountError and its kinds.
    """
    with connected(folder, linger_s=LINGER_S) as client:
        found = JobList.model_validate(client.send("GET", "/api/jobs")).jobs
        if named is None:
            if not found:
                print("There are no jobs. `seamount get` begins a download.")
            for job in found:
                _show(job)
            return 0
        job = _one(found, named)
        if action == "forget":
            client.send("DELETE", f"/api/jobs/{job.id}")
            return 0
        if action in ("pause", "resume", "cancel"):
            body = {"remove_partial": remove_partial} if action == "cancel" else None
            job = Job.model_validate(client.send("POST", f"/api/jobs/{job.id}/{action}", body))
        if action != "watch":
            _show(job)
            return 0
    go_on = command(folder, "jobs", job.id[:SHORT_ID], "resume")
    return follow(folder, job.id, Manners(pauses=False, go_on=go_on))


def command(folder: DataFolder, *words: str) -> str:
    """The line that runs `seamount` with these words on the same data folder."""
    data = [] if folder == data_folder() else ["--data", str(folder.root)]
    return shlex.join(["seamount", *data, *words])


@dataclass(frozen=True)
class Manners:
    """How a job is followed. `pauses`: Ctrl-C pauses it, instead of only looking away. `go_on`: the command that
    goes on with it."""

    pauses: bool
    go_on: str


def follow(folder: DataFolder, job_id: str, manners: Manners) -> int:
    """Show how far a job is until it ends; the exit status: 0 done, 1 not good, 130 paused or cancelled.

    An engine that ends meanwhile is started again: the job does not need it, but the terminal does. When the hub wants
    an access token and there is somebody to ask, it is asked for once. Raises EngineSaidNo for a job that has failed.
    """
    line = ProgressLine(events=False)
    follower = _Follower(job_id, manners, line)
    tries = 0
    while True:
        try:
            with connected(folder, linger_s=LINGER_S) as client:
                return follower.follow(client)
        except EngineUnreachable as error:
            tries += 1
            if tries >= MOST_TRIES:
                raise EngineUnreachable(
                    error.what, error.why, "the job goes on by itself; `seamount jobs` shows it"
                ) from error
        finally:
            line.clear()


class _Follower:
    def __init__(self, job_id: str, manners: Manners, line: ProgressLine) -> None:
        self._job_id = job_id
        self._manners = manners
        self._line = line
        self._asked_for_token = False
        self._waits_told = False

    def follow(self, client: EngineClient) -> int:
        """Until it ends. Raises EngineSaidNo, EngineUnreachable."""
        while True:
            try:
                job = self._look(client)
                if job.state in ("queued", "running"):
                    self._tell(job)
                    time.sleep(LOOK_S)
                    continue
                self._line.clear()
                if not self._token_was_given(client, job):
                    return self._end(job)
            except KeyboardInterrupt:
                self._line.clear()
                return self._leave(client)

    def _look(self, client: EngineClient) -> Job:
        found = JobList.model_validate(client.send("GET", "/api/jobs")).jobs
        for job in found:
            if job.id == self._job_id:
                return job
        raise NotFound("The job cannot be followed", "it is not in the list any more", "look at the list")

    def _tell(self, job: Job) -> None:
        if job.state == "queued" and not self._waits_told:
            self._waits_told = True
            print("It waits for another job to end.", file=sys.stderr, flush=True)
        if job.state == "running" and job.progress is not None:
            self._line.progress(job.progress)

    def _token_was_given(self, client: EngineClient, job: Job) -> bool:
        """The hub wants a token, somebody is there to ask, and gave one: the job goes on."""
        wanted = job.state == "failed" and job.error is not None and job.error.code == "token_needed"
        if not wanted or self._asked_for_token or not sys.stdin.isatty():
            return False
        self._asked_for_token = True
        print(job.error.text if job.error else "", file=sys.stderr)
        try:
            token = getpass.getpass("Access token (it is not shown): ").strip()
        except EOFError:
            token = ""
        if not token:
            return False
        give_token(client, token)
        client.send("POST", f"/api/jobs/{job.id}/resume")
        return True

    def _leave(self, client: EngineClient) -> int:
        if not self._manners.pauses:
            print("It goes on.", file=sys.stderr)
            return 0
        client.send("POST", f"/api/jobs/{self._job_id}/pause")
        while (job := self._look(client)).stopping:
            time.sleep(LOOK_S)
        return self._end(job)

    def _end(self, job: Job) -> int:
        if job.state == "done":
            return _print_result(job)
        if job.state == "failed" and job.error is not None:
            raise EngineSaidNo(job.error.text)
        if job.state == "paused":
            print(f"Paused; `{self._manners.go_on}` goes on.", file=sys.stderr)
        elif job.state == "interrupted" and job.error is not None:
            print(f"{job.error.text} `{self._manners.go_on}` does that.", file=sys.stderr)
            return 1
        else:
            print("It was cancelled.", file=sys.stderr)
        return STOPPED


def give_token(client: EngineClient, token: str) -> None:
    """Hand the engine an access token, and say so where it could not be kept. Raises EngineSaidNo."""
    state = client.send("PUT", "/api/library/token", {"token": token})
    problem = state.get("keyring_problem") if isinstance(state, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if problem:
        print(str(problem), file=sys.stderr)  # pyright: ignore[reportUnknownArgumentType]


def _print_result(job: Job) -> int:
    verdict = job.verdict
    if verdict is None:
        for file in job.files:
            path = Path(file)
            print(f"{file} ({size_text(path.stat().st_size)})" if path.is_file() else file, flush=True)
        return 0
    if verdict.good:
        print(f"{job.title}: all {size_text(verdict.checked_bytes)} are as they should be")
        return 0
    print(f"{job.title}: it is not as it should be")
    for each in verdict.differences[:MOST_NAMED]:
        print(f"      {each}")
    if len(verdict.differences) > MOST_NAMED:
        print(f"      and {len(verdict.differences) - MOST_NAMED:,} more")
    return 1


def _show(job: Job) -> None:
    state = "stopping" if job.stopping else job.state
    how_far = line_text(job.progress) if job.progress is not None and job.state != "done" else ""
    line = f"{job.id[:SHORT_ID]}  {state:<11}  {KINDS[job.asked.kind]:<10}  {job.title}  {how_far}"
    print(line.rstrip())
    if job.error is not None:
        print(f"{'':<{SHORT_ID}}  {job.error.text}")


def _one(found: list[Job], named: str) -> Job:
    matching = [job for job in found if job.id.startswith(named)] if named else []
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise BadRequest("No job was chosen", f"{len(matching)} begin with {named}", "write more of its id")
    raise NotFound("No job was chosen", f"none begins with {named}", "see `seamount jobs`")
