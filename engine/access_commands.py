"""`seamount keys` and `seamount network`: other programs and other machines, from a terminal.

Owns: what is asked of the engine and the words of its answers. A client of the engine's HTTP interface like the window.
"""

import datetime
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.engine_client import EngineClient, connected
from engine.errors import BadRequest, NotFound
from engine.paths import DataFolder
from engine.protocol_access import Access, ClientKey, MadeKey, NetworkDoor

LINGER_S = 5.0


def list_keys(folder: DataFolder, *, as_json: bool) -> int:
    """Say which keys there are; 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        access = _access(client)
    if as_json:
        print(json.dumps([each.model_dump() for each in access.keys], indent=2))
        return 0
    if access.problem is not None:
        print(access.problem.text)
    for key in access.keys:
        print(line_of(key))
    if not access.keys:
        print("There is no key for other programs; `seamount keys make NAME` makes one.")
    return 0


def make_key(folder: DataFolder, name: str, *, is_network: bool, keep: bool) -> int:
    """Make one and say what to paste where; 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        body = {"name": name, "is_network": is_network, "keep": keep}
        made = MadeKey.model_validate(client.send("POST", "/api/access/keys", body))
        access = _access(client)
    for line in made_lines(made, access):
        print(line)
    return 0


def show_key(folder: DataFolder, name: str) -> int:
    """Show one again; 0. Raises EngineSaidNo where the keyring does not have it."""
    with connected(folder, linger_s=LINGER_S) as client:
        access = _access(client)
        key = _named(access.keys, name)
        made = MadeKey.model_validate(client.send("GET", f"/api/access/keys/{key.id}/secret"))
    for line in _paste_lines(made, access):
        print(line)
    return 0


def limit_key(folder: DataFolder, name: str, limits: Mapping[str, int | None]) -> int:
    """Change what one may take; 0."""
    given = {limit: value for limit, value in limits.items() if value is not None}
    if not given:
        raise BadRequest("Nothing was changed", "no limit is named", "see `seamount keys limit --help`")
    with connected(folder, linger_s=LINGER_S) as client:
        key = _named(_access(client).keys, name)
        body = {"limits": {**key.limits.model_dump(), **given}}
        print(line_of(ClientKey.model_validate(client.send("PATCH", f"/api/access/keys/{key.id}", body))))
    return 0


def rename_key(folder: DataFolder, name: str, new_name: str) -> int:
    """Name one otherwise; 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        key = _named(_access(client).keys, name)
        body = {"name": new_name}
        print(line_of(ClientKey.model_validate(client.send("PATCH", f"/api/access/keys/{key.id}", body))))
    return 0


def revoke_key(folder: DataFolder, name: str) -> int:
    """One opens nothing any more; 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        key = _named(_access(client).keys, name)
        client.send("DELETE", f"/api/access/keys/{key.id}")
    print(f"The key {key.name!r} opens nothing any more.")
    return 0


def show_network(folder: DataFolder) -> int:
    """Say whether the network's socket is open; 0, or 1 where it is wanted and is not."""
    with connected(folder, linger_s=LINGER_S) as client:
        return _say(_access(client).network)


def open_network(
    folder: DataFolder, port: int, certificate: str | None, key: str | None, interfaces: Sequence[str]
) -> int:
    """Open it; 0, or 1 where it could not be."""
    body: dict[str, Any] = {"wanted": True, "port": port, "interfaces": list(interfaces)}
    body["certificate_path"] = None if certificate is None else str(_absolute(certificate))
    body["key_path"] = None if key is None else str(_absolute(key))
    with connected(folder, linger_s=LINGER_S) as client:
        return _say(NetworkDoor.model_validate(client.send("PUT", "/api/access/network", body)))


def close_network(folder: DataFolder) -> int:
    """Close it; 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        door = client.send("PUT", "/api/access/network", {"wanted": False})
        return _say(NetworkDoor.model_validate(door))


def line_of(key: ClientKey) -> str:
    """A key in one line."""
    used = "never used"
    if key.last_used_at is not None:
        by = f" by {key.last_used_by}" if key.last_used_by else ""
        used = f"last used {_day(key.last_used_at)}{by}"
    limits = [f"{name.replace('_', ' ')} {value}" for name, value in key.limits.model_dump().items() if value]
    where = "for the network" if key.is_network else "for this machine"
    kept = ", kept in the keyring" if key.is_kept else ""
    return (
        f"{key.id[:8]}  {key.name}: {where}, made {_day(key.created_at)}, {used}{kept}; {', '.join(limits)}"
    )


def made_lines(made: MadeKey, access: Access) -> list[str]:
    """A key that was made just now: where it is kept, and what to paste where."""
    if made.key.is_kept:
        again = f"seamount keys show {shlex.quote(made.key.name)}"
        kept = f"It is kept in this account's keyring; `{again}` shows it again."
    else:
        kept = made.problem or "It is shown this once."
    return [*_paste_lines(made, access), kept]


def door_lines(door: NetworkDoor) -> list[str]:
    """The network's socket, as sentences."""
    if not door.wanted:
        return ["The socket for the local network is closed."]
    if not door.is_open:
        return [door.problem.text if door.problem else "The socket for the local network is about to open."]
    lines = ["The socket for the local network is open:", *(f"    {each}" for each in door.addresses)]
    if door.fingerprint is not None and door.expires_at is not None:
        kind = "Your certificate" if door.certificate == "own" else "Its certificate, which signs itself,"
        lines += [
            f"{kind} counts until {_day(door.expires_at)}; its SHA-256 fingerprint:",
            f"    {door.fingerprint}",
        ]
    if door.notice is not None:
        lines.append(door.notice)
    return [*lines, "Only keys made with `seamount keys make NAME --network` come in there, and only to /v1."]


def _paste_lines(made: MadeKey, access: Access) -> list[str]:
    if made.key.is_network:
        addresses = access.network.addresses or ["(the socket is closed: `seamount network open`)"]
    else:
        addresses = [access.base_url]
    return [
        f"The key {made.key.name!r}:",
        f"    {made.secret}",
        "Where a program of OpenAI's dialect asks for a base URL (one of Anthropic's takes it without /v1):",
        *(f"    {each}" for each in addresses),
        "The engine has to run: the window, or `seamount serve`.",
    ]


def _say(door: NetworkDoor) -> int:
    for line in door_lines(door):
        print(line)
    return 1 if door.wanted and not door.is_open and door.problem else 0


def _access(client: EngineClient) -> Access:
    return Access.model_validate(client.send("GET", "/api/access"))


def _named(keys: Sequence[ClientKey], name: str) -> ClientKey:
    """The key of that name, or whose id begins so. Raises NotFound, BadRequest."""
    found = [key for key in keys if key.name == name] or [
        key for key in keys if len(name) >= 4 and key.id.startswith(name)
    ]
    if not found:
        raise NotFound("There is no such key", f"none is called {name!r}", "see `seamount keys`")
    if len(found) > 1:
        raise BadRequest("It is not clear which key is meant", f"{len(found)} ids begin so", "write more")
    return found[0]


def _absolute(path: str) -> Path:
    return Path(path).expanduser().absolute()


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).astimezone().strftime("%Y-%m-%d %H:%M")
