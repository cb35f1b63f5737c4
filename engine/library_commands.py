"""`seamount move` and `seamount remove`: what lies in the library, somewhere else or nowhere.

Owns: which item a name means, and asking before anything goes. A client of the engine's HTTP interface like the
window; moving is a job (`job_commands` follows it).
"""

import sys
from pathlib import Path

from engine.engine_client import EngineClient, connected
from engine.errors import BadRequest, NotFound
from engine.job_commands import LINGER_S, SHORT_ID, Manners, command, follow
from engine.model_table import size_text
from engine.paths import DataFolder
from engine.protocol_jobs import Job
from engine.protocol_library import Library, LibraryItem, Removed

MOST_NAMED = 5


def move(folder: DataFolder, named: str, to: str) -> int:
    """Move the item that `named` means into the folder `to`, and follow that; the exit status (see `follow`)."""
    with connected(folder, linger_s=LINGER_S) as client:
        item = _item(client, named, "Nothing was moved")
        try:
            place = str(Path(to).expanduser().absolute())
        except RuntimeError as error:
            raise BadRequest(
                "Nothing was moved", "there is no such home folder", "write the whole path"
            ) from error
        asked = {"kind": "move", "item_id": item.id, "folder": place}
        job = Job.model_validate(client.send("POST", "/api/jobs", {"asked": asked}))
    go_on = command(folder, "jobs", job.id[:SHORT_ID], "resume")
    return follow(folder, job.id, Manners(pauses=True, go_on=go_on))


def remove(folder: DataFolder, named: str, *, for_good: bool, sure: bool) -> int:
    """Remove the item that `named` means, to the trash or `for_good`, once a person is `sure`; the exit status."""
    what = "Nothing was removed"
    with connected(folder, linger_s=LINGER_S) as client:
        item = _item(client, named, what)
        how = "for good" if for_good else "to the trash"
        if not sure:
            if not sys.stdin.isatty():
                raise BadRequest(what, "nobody is there to be asked", "add --yes")
            print(f"{item.name}, {size_text(item.size_bytes)}\n{item.path}")
            answer = _answer(f"Remove it {how}? [y/N] ")
            if answer.strip().lower() not in ("y", "yes"):
                print(f"{what}.")
                return 1
        body = {"item_id": item.id, "for_good": for_good}
        removed = Removed.model_validate(client.send("POST", "/api/library/remove", body))
    size = size_text(removed.size_bytes)
    if removed.in_trash:
        print(f"{item.name} is in the trash; its {size} are free once that is emptied.")
    elif removed.size_bytes:
        print(f"{item.name} is deleted; {size} are free.")
    else:
        print(f"{item.name} is off the list; its file stays where it lies.")
    return 0


def _answer(question: str) -> str:
    try:
        return input(question)
    except EOFError:
        print()
        return ""


def _item(client: EngineClient, named: str, what: str) -> LibraryItem:
    """By its id or path, or by its name or repository where that is the only one. Raises NotFound, BadRequest.

    A checkpoint and what was made of it are of one repository.
    """
    items = Library.model_validate(client.send("GET", "/api/library")).items
    path = str(Path(named).absolute())
    for item in items:
        if item.id == named or item.path == path:
            return item
    meant = named.strip().casefold()
    matching = [item for item in items if meant in (item.name.casefold(), (item.repository or "").casefold())]
    if len(matching) == 1:
        return matching[0]
    if matching:
        ids = " or ".join(item.id for item in matching[:MOST_NAMED])
        raise BadRequest(what, f"{len(matching)} bear that name", f"say {ids} instead")
    raise NotFound(what, "there is nothing of that name here", "see `seamount models`")
