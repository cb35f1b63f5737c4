"""`seamount parts`: the optional parts, installed and removed.

Owns: what is asked of the engine and the words of its answers. A client of the engine's HTTP interface like the window.
"""

import time
from pathlib import Path

from engine.engine_client import EngineClient, EngineSaidNo, connected
from engine.errors import BadRequest, NotFound
from engine.interruption import STOPPED, wish_to_stop
from engine.model_table import size_text
from engine.paths import DataFolder
from engine.progress_line import ProgressLine
from engine.protocol_jobs import JobProgress
from engine.protocol_parts import PartEntry, PartList, PartTask

LINGER_S = 5.0
LOOK_S = 0.4


def list_parts(folder: DataFolder) -> int:
    """Say what is there and what can be had; exit status 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        for entry in _entries(client):
            for line in lines_of(entry):
                print(line)
    return 0


def install(folder: DataFolder, name: str, *, variant: str | None, find_links: str | None) -> int:
    """Install a part and follow that; 0 once it is there, 130 when it was stopped. Raises EngineSaidNo and others."""
    place = None if find_links is None else str(_absolute(find_links))
    with connected(folder, linger_s=LINGER_S) as client, wish_to_stop() as stopped:
        body = {"variant": variant, "find_links": place}
        task = PartTask.model_validate(client.send("POST", f"/api/parts/{name}/install", body))
        line, asked_to_stop = ProgressLine(events=False), False
        while task.state == "running":
            line.progress(_progress(task))
            if stopped() and not asked_to_stop:
                asked_to_stop = True
                client.send("DELETE", f"/api/parts/{name}/task")
            time.sleep(LOOK_S)  # what the engine is at is only to be had by asking
            task = _task(client, name)
        line.clear()
        if task.error is not None:
            raise EngineSaidNo(task.error.text)
        if task.state == "stopped":
            print("Stopped; nothing of it is left, and the next time begins anew.")
            return STOPPED
        for told in lines_of(_entry(client, name)):
            print(told)
    return 0


def remove(folder: DataFolder, name: str) -> int:
    """Remove a part; exit status 0. Raises EngineSaidNo and others."""
    with connected(folder, linger_s=LINGER_S) as client:
        before = _entry(client, name)
        client.send("POST", f"/api/parts/{name}/remove")
    if before.state in ("installed", "outdated"):
        print(f"{before.title}: removed; {size_text(before.unpacked_bytes)} are free.")
    else:
        print(f"{before.title}: there was nothing of Seamount's to remove.")
    return 0


def lines_of(entry: PartEntry) -> list[str]:
    """A part, for people."""
    head = f"{entry.name}: {entry.title}"
    match entry.state:
        case "outside":
            return [f"{head}; the Python that runs Seamount has it ({entry.version})"]
        case "elsewhere":
            return [f"{head}; not to be had here, because {entry.why}; {entry.how}"]
        case "installed" | "outdated":
            old = (
                "; this version of Seamount has a newer set: install it again"
                if entry.state == "outdated"
                else ""
            )
            return [f"{head}; {entry.version} is installed, {size_text(entry.unpacked_bytes)}{old}"]
        case _:
            lines = [f"{head}; not installed"]
            for each in entry.variants:
                suits = f", suits this machine ({entry.why})" if each.name == entry.suited else ""
                lines.append(
                    f"  {each.name}, {each.title}: {size_text(each.download_bytes)} to download, "
                    f"{size_text(each.unpacked_bytes)} on the disk{suits}"
                )
            return lines


def _progress(task: PartTask) -> JobProgress:
    return JobProgress(
        done_bytes=task.done_bytes,
        total_bytes=task.total_bytes,
        bytes_per_s=task.bytes_per_s,
        seconds_left=task.seconds_left,
        stage="fetching",
        item=task.item,
    )


def _entries(client: EngineClient) -> list[PartEntry]:
    return PartList.model_validate(client.send("GET", "/api/parts")).parts


def _entry(client: EngineClient, name: str) -> PartEntry:
    for entry in _entries(client):
        if entry.name == name:
            return entry
    raise NotFound("There is no such part", f"none is named {name!r}", "see `seamount parts`")


def _task(client: EngineClient, name: str) -> PartTask:
    task = _entry(client, name).task
    if task is None:
        raise NotFound(
            "It is not known what became of the part", "another program has removed it", "try again"
        )
    return task


def _absolute(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise BadRequest(
            "The part was not installed", "there is no such home folder", "write the whole path"
        ) from error
