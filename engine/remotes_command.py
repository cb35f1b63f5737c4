"""`seamount remotes`: models on other machines, set up from a terminal.

Owns: what is asked of the engine and the words of its answers. A client of the engine's HTTP interface like the window.
A key comes by the standard input and is never shown.
"""

import sys
from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from engine.conversation import clean_text
from engine.engine_client import EngineClient, EngineSaidNo, connected
from engine.errors import BadRequest, EngineUnreachable, NotFound
from engine.launch import running_engine
from engine.paths import DataFolder
from engine.protocol_remote import (
    CheckedRemote,
    Remote,
    RemoteAddress,
    RemoteFeatures,
    RemoteKind,
    RemoteList,
    RemotePrice,
    SetRemote,
)

LINGER_S = 5.0
_LONGEST_LINE = 4096
CHECK_TIMEOUT_S = 330.0
_WHERE = {
    "this machine": "on this machine",
    "local network": "in the local network: conversations with it leave this machine",
    "elsewhere": "elsewhere: conversations with it leave this machine and your network",
}


def asked_of(
    urls: Sequence[str],
    *,
    name: str | None,
    model: str,
    kind: RemoteKind,
    fingerprint: str | None,
    price: str | None,
    reads_key: bool,
) -> SetRemote:
    """What is to be set up. Raises BadRequest."""
    key = _key() if reads_key else None
    try:
        first = RemoteAddress(url=urls[0], fingerprint=fingerprint)
        return SetRemote(
            name=name or model or urls[0][:80],
            kind=kind,
            addresses=[first, *(RemoteAddress(url=each) for each in urls[1:])],
            model=model,
            key=key,
            price=None if price is None else price_of(price),
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise BadRequest("Nothing was done", f"{place}: {problem['msg'].lower()}", "correct it") from error


def price_of(text: str) -> RemotePrice:
    """A price from READ,WRITTEN[,CACHED[,CURRENCY]]. Raises BadRequest."""
    parts = [each.strip() for each in text.split(",")]
    try:
        if not 2 <= len(parts) <= 4:
            raise ValueError(text)
        cached = float(parts[2]) if len(parts) > 2 and parts[2] else None
        currency = parts[3] if len(parts) > 3 else "USD"
        return RemotePrice(
            read=float(parts[0]), written=float(parts[1]), read_cached=cached, currency=currency
        )
    except ValueError as error:
        raise BadRequest(
            "Nothing was done",
            f"{clean_text(text)[0][:60]!r} is no price",
            "write READ,WRITTEN for a million tokens, as 0.3,1.1",
        ) from error


def list_remotes(folder: DataFolder) -> int:
    """Say which there are; exit status 0."""
    with connected(folder, linger_s=LINGER_S) as client:
        found = _all(client)
    if not found:
        print("No model on another machine is set up; `seamount remotes add URL` does that.")
    for each in found:
        for line in lines_of(each):
            print(line)
    return 0


def add(folder: DataFolder, asked: SetRemote) -> int:
    """Set one up and say what it is; exit status 0. Raises EngineSaidNo."""
    with connected(folder, linger_s=LINGER_S) as client:
        made = client.send("POST", "/api/remotes", asked.model_dump(), timeout_s=CHECK_TIMEOUT_S)
        for line in lines_of(Remote.model_validate(made)):
            print(line)
    return 0


def check(folder: DataFolder, asked: SetRemote) -> int:
    """Say what is there; exit status 0, or 1 where it cannot be used. Raises EngineSaidNo."""
    with connected(folder, linger_s=LINGER_S) as client:
        body = {"remote": asked.model_dump()}
        found = CheckedRemote.model_validate(
            client.send("POST", "/api/remotes/check", body, timeout_s=CHECK_TIMEOUT_S)
        )
    print(f"It is {_WHERE[found.whereabouts]}.")
    if found.features is not None:
        for line in _features(found.features):
            print(line)
    if found.fingerprint is not None:
        print(f"Its certificate (SHA-256): {found.fingerprint}")
        print("If that is the certificate of your machine, give it with --fingerprint.")
    if found.problem is not None:
        print(found.problem.text)
        return 1
    return 0


def agree(folder: DataFolder, named: str, fingerprint: str | None) -> int:
    """Accept what has changed at one; exit status 0. Raises EngineSaidNo, NotFound."""
    with connected(folder, linger_s=LINGER_S) as client:
        remote = _one(client, named)
        if remote.change is None:
            print(f"Nothing has changed at {_plain(remote.name)}.")
            return 0
        client.send("POST", f"/api/remotes/{remote.id}/agree", {"fingerprint": fingerprint})
        print(f"Agreed: {_plain(remote.change)}")
    return 0


def remove(folder: DataFolder, named: str) -> int:
    """Forget one; exit status 0. Raises EngineSaidNo, NotFound."""
    with connected(folder, linger_s=LINGER_S) as client:
        remote = _one(client, named)
        client.send("DELETE", f"/api/remotes/{remote.id}")
        print(f"{_plain(remote.name)} is forgotten, and its key.")
    return 0


def port(folder: DataFolder, *, holds: bool) -> int:
    """Print the port of the engine that runs here and nothing else; exit status 0. Raises EngineUnreachable. `holds`:
    then wait for the end of the standard input, so that an ssh that forwards to it ends with who began it."""
    address = running_engine(folder)
    if address is None:
        raise EngineUnreachable(
            "There is no port to tell", "no engine runs here", "start it: `seamount serve`"
        )
    print(address.url.rpartition(":")[2], flush=True)
    while holds and sys.stdin.buffer.read(1):
        pass
    return 0


def lines_of(remote: Remote) -> Iterator[str]:
    """One remote for people, its key not among it."""
    yield f"{remote.id}  {_plain(remote.name)}: {_plain(remote.model) or 'no model named'}"
    for number, each in enumerate(remote.addresses):
        used = " (answered last)" if number == remote.used_address and len(remote.addresses) > 1 else ""
        yield f"  {each.url}{used}"
    yield f"  {_WHERE[remote.whereabouts]}"
    if remote.has_key:
        yield f"  with a key{': ' + remote.key_problem if remote.key_problem else ' in the keyring'}"
    if remote.price is not None:
        price = remote.price
        yield f"  {price.read:g} {price.currency} for a million tokens read, {price.written:g} written"
    if remote.features is not None:
        yield from _features(remote.features)
    if remote.change is not None:
        yield f"  {_plain(remote.change)} It is not used until you agree: seamount remotes agree {remote.id}"
    if remote.problem is not None:
        yield f"  {_plain(remote.problem.text)}"


def _features(features: RemoteFeatures) -> Iterator[str]:
    context = "" if features.context_tokens is None else f", {features.context_tokens:,} tokens of context"
    yield f"  {_plain(features.software) or 'a server that does not say what it is'}{context}"
    yield (
        f"  reasoning: {features.reasoning}, by choice: {features.efforts}; tools: {features.tools}; "
        f"goes on with a beginning: {features.continues}; counts tokens: {features.usage}"
    )
    if features.spent_tokens:
        yield f"  finding that out took {features.spent_tokens:,} tokens"


def _all(client: EngineClient) -> list[Remote]:
    return RemoteList.model_validate(client.send("GET", "/api/remotes")).remotes


def _one(client: EngineClient, named: str) -> Remote:
    found = [each for each in _all(client) if named in (each.id, each.name)]
    if len(found) > 1:
        raise EngineSaidNo(f"Nothing was done: {len(found)} are called {named!r}; name one by its id.")
    if not found:
        raise NotFound(
            "Nothing was done",
            f"no model on another machine is called {named[:200]!r}",
            "see `seamount remotes` for names and ids",
        )
    return found[0]


def _key() -> str:
    line = sys.stdin.readline(_LONGEST_LINE).strip()
    if not line:
        raise BadRequest("Nothing was done", "the standard input holds no key", "give it as one line")
    return line


def _plain(text: str) -> str:
    """What a server or a person named, with nothing in it that acts on a terminal."""
    return "".join(each if each.isprintable() else " " for each in text)
