"""With encryption on, no file of a data folder tells what was said in it; with it off, the same search finds all.

A real engine holds conversations in which every kind of text has a mark of its own. Then every file of its data
folder is searched for each mark, in every form in which a program writes text or token ids down: while the engine
runs (so in the log of its database too), after it was killed in the middle of an answer, after the next one has put
that right, and after its end.
"""

import contextlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.paths import DataFolder
from engine.protocol_encryption import ChangeEncryption
from engine.store.encryption import Encryption, stored_key_id
from engine.store.keys import KEY_FILE_VARIABLE
from engine.store.sessions import SessionStore
from engine.store.snapshot_file import SnapshotFileError, read_ids
from tests.integration.live_engine import LiveEngine, write_script
from tests.integration.v4_script import V4_MODEL, block, call

pytestmark = pytest.mark.slow

KINDS = (
    "question", "answer", "reasoning", "title", "call", "tool", "result", "slow", "slow answer", "model title",
    "client", "client answer",
)  # fmt: skip
# Letters that JSON may escape and that two encodings write in two ways; short, so that no tokenizer splits a lot.
MARKS = {kind: f"Ж{kind.replace(' ', '')}qzxwvü{number}" for number, kind in enumerate(KINDS)}
SCRIPT: dict[str, Any] = {
    "name": "Scripted V4",
    "context_tokens": 1_048_576,
    "release": "preview",
    "title": f'"{MARKS["model title"]}"',
    "replies": [
        {
            "match": MARKS["question"],
            "text": f"{MARKS['reasoning']}.</think>{MARKS['answer']}" + block(call("look", at=MARKS["call"])),
        },
        {"match": MARKS["result"], "text": f"Hm.</think>{MARKS['answer']}, seen."},
        {"match": MARKS["slow"], "text": f"Hm.</think>{MARKS['slow answer']} " * 60, "delay_s": 0.01},
        {"match": MARKS["client"], "text": f"Hm.</think>{MARKS['client answer']}"},
        {"text": "Hm.</think>Else."},
    ],
}
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": MARKS["tool"], "parameters": {"type": "object"}},
}


def forms(mark: str) -> dict[str, bytes]:
    """All the ways in which a mark may stand in a file; the scripted model's tokens are bytes."""
    ids = mark.encode()
    escaped = json.dumps(mark)[1:-1]
    return {
        "UTF-8": ids,
        "case-folded": mark.casefold().encode(),
        "UTF-16 little": mark.encode("utf-16-le"),
        "UTF-16 big": mark.encode("utf-16-be"),
        "JSON escapes": escaped.encode(),
        "JSON escapes, capitals": escaped.replace("\\u0", "\\U0").upper().encode(),
        "int16 ids": struct.pack(f"<{len(ids)}H", *ids),
        "int32 ids": struct.pack(f"<{len(ids)}I", *ids),
        "int32 ids, big": struct.pack(f">{len(ids)}I", *ids),
        "int64 ids": struct.pack(f"<{len(ids)}Q", *ids),
        "varint ids": b"".join(bytes([each]) if each < 128 else bytes([each & 127 | 128, 1]) for each in ids),
        "JSON ids": json.dumps(list(ids), separators=(",", ":"))[1:-1].encode(),
        "JSON ids, spaced": json.dumps(list(ids))[1:-1].encode(),
    }


def found(folder: DataFolder) -> dict[str, set[str]]:
    """File → the kinds of marks that stand in it, each with its form."""
    places: dict[str, set[str]] = {}
    for path in sorted(each for each in folder.root.rglob("*") if each.is_file()):
        if path.name == V4_MODEL.removeprefix("folder:"):
            continue  # the model itself, which is a script here
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue  # the engine runs: a file was just given its name, and a later search sees it
        if path.suffix == ".kv":
            # Compressed, so also what the file gives to whoever has no key.
            with contextlib.suppress(SnapshotFileError):
                content += read_ids(path).astype("<u4").tobytes()
        for kind, mark in MARKS.items():
            for form, searched in forms(mark).items():
                if searched in content:
                    places.setdefault(path.relative_to(folder.root).as_posix(), set()).add(f"{kind}: {form}")
    return places


def kinds_in(places: dict[str, set[str]]) -> set[str]:
    return {each.partition(":")[0] for marks in places.values() for each in marks}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], LiveEngine]]:
    """Engines on one folder, whose key is outside it."""
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    write_script(DataFolder(tmp_path / "data"), SCRIPT, "v4")
    engines: list[LiveEngine] = []

    def start() -> LiveEngine:
        engine = LiveEngine(tmp_path / "data", "--model", V4_MODEL)
        engines.append(engine)
        engine.wait_model()
        return engine

    yield start
    for engine in engines:
        engine.close()


def converse(engine: LiveEngine) -> None:
    """Conversations with every mark but those of the slow answer."""
    session = engine.new_session()
    engine.client.patch(f"/api/sessions/{session}", json={"tools": [TOOL]}).raise_for_status()
    turn = engine.ask(f"{MARKS['question']}?", session)
    end = engine.finish(turn["id"])
    [written] = end["message"]["tool_calls"]
    results = {
        "kind": "results",
        "session_id": session,
        "message_id": turn["answer"]["id"],
        "results": [{"tool_call_id": written["id"], "text": f"{MARKS['result']}!"}],
    }
    engine.finish(engine.post("/api/turns", {"turn": results})["id"])
    other = engine.new_session()
    engine.finish(engine.ask("Else?", other)["id"])
    engine.client.patch(f"/api/sessions/{other}", json={"title": MARKS["title"]}).raise_for_status()
    reply = engine.post("/v1/chat/completions", completion(MARKS["client"]))
    assert reply["choices"][0]["message"]["content"] == MARKS["client answer"]


def completion(text: str) -> dict[str, Any]:
    return {"model": V4_MODEL, "messages": [{"role": "user", "content": text}]}


def titles(engine: LiveEngine) -> dict[str, str]:
    return {each["id"]: each["title"] for each in engine.get("/api/sessions")["sessions"]}


def die_in_an_answer(engine: LiveEngine) -> tuple[str, str]:
    turn = engine.ask(f"{MARKS['slow']}?")
    shown = ""
    with contextlib.suppress(httpx.HTTPError):
        for _, event in engine.events(turn["id"]):
            shown += event["text"] if event["kind"] == "text" else ""
            if MARKS["slow answer"] in shown:
                engine.process.kill()
                break
    engine.process.wait(10)
    return turn["session_id"], turn["answer"]["id"]


@pytest.mark.parametrize("encrypted", [False, True])
def test_what_a_search_of_all_files_finds(start: Callable[[], LiveEngine], encrypted: bool) -> None:
    engine = start()
    folder = engine.folder
    searches: dict[str, dict[str, set[str]]] = {}
    if encrypted:
        change = engine.put("/api/encryption", {"on": True})
        assert change["recovery_key"]
        assert change["state"]["pending"] == "on"
        engine.close()
        engine = start()
        assert engine.get("/api/encryption")["on"]
    converse(engine)
    searches["running"] = found(folder)
    session, answer = die_in_an_answer(engine)
    assert (folder.root / "sessions.db-wal").stat().st_size > 0
    searches["killed"] = found(folder)
    # There is something to look into in each place where conversations lie.
    assert list(folder.journals.glob("*/journal"))
    assert list(folder.snapshots.glob("*.kv"))
    engine = start()
    assert MARKS["slow answer"] in engine.message(session, answer)["text"]
    searches["started again"] = found(folder)
    assert len(engine.get(f"/api/sessions?query={MARKS['answer']}")["sessions"]) == 1
    engine.close()
    searches["ended"] = found(folder)
    # `client`: what other programs ask through /v1 is nobody's session, and not kept as text.
    said = set(KINDS) - {"client", "client answer"}
    if encrypted:
        assert not any(searches.values()), searches
        assert stored_key_id(folder.sessions_db) is not None
    else:
        assert kinds_in(searches["running"]) >= said - {"slow", "slow answer"}
        # The answer that was being written lies there in pieces of a token each.
        assert kinds_in(searches["killed"]) >= said - {"slow answer"}
        for moment in ("started again", "ended"):
            assert kinds_in(searches[moment]) >= said, moment
        assert any("int32 ids" in each for marks in searches["ended"].values() for each in marks)
        for place in ("sessions.db", "sessions/", "snapshots/"):
            assert any(file.startswith(place) for file in searches["killed"]), place


def varint(number: int) -> bytes:
    """LEB128."""
    written = bytearray()
    while number >= 128:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


@pytest.mark.parametrize("encrypted", [False, True])
def test_no_run_of_a_real_models_tokens_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "key"))
    folder = DataFolder(tmp_path / "data")
    folder.create()
    if encrypted:
        Encryption(folder).change(ChangeEncryption(on=True))
    engine = LiveEngine(folder.root)
    try:
        engine.wait_model()
        turn = engine.ask("Write a story about a ship that sails south.", max_tokens=60)
        answer = engine.finish(turn["id"])["message"]["id"]
        contents = files_of(folder)
    finally:
        engine.close()
    contents += files_of(folder)
    opened = Encryption(folder).opened()
    assert (opened.ciphers is not None) == encrypted
    with contextlib.closing(SessionStore.open(folder.sessions_db, opened.rows)) as store:
        ids = store.token_ids(answer)
    assert len(ids) >= 10
    runs = {
        form: [pack(ids[at : at + 4]) for at in range(len(ids) - 3)]
        for form, pack in {
            "int16": lambda run: struct.pack("<4H", *run),
            "int32": lambda run: struct.pack("<4I", *run),
            "int32, big": lambda run: struct.pack(">4I", *run),
            "int64": lambda run: struct.pack("<4Q", *run),
            "varint": lambda run: b"".join(map(varint, run)),
            "JSON": lambda run: json.dumps(run)[1:-1].encode(),
            "JSON, dense": lambda run: json.dumps(run, separators=(",", ":"))[1:-1].encode(),
        }.items()
    }
    # Four tokens in a row come by chance in no file of this size, but for the shortest form of small numbers.
    there = {
        form
        for form, written in runs.items()
        if any(len(run) >= 8 and run in content for content in contents for run in written)
    }
    if encrypted:
        assert there == set()
    else:
        assert "int32" in there


def files_of(folder: DataFolder) -> list[bytes]:
    """What is in all files, the ids of kept states too where they can be had without a key."""
    contents: list[bytes] = []
    for path in folder.root.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError, SnapshotFileError):
            contents.append(path.read_bytes())
            if path.suffix == ".kv":
                contents.append(read_ids(path).astype("<u4").tobytes())
    return contents


def test_what_was_said_before_is_encrypted_too_and_comes_back_plain(start: Callable[[], LiveEngine]) -> None:
    engine = start()
    folder = engine.folder
    converse(engine)
    session, answer = die_in_an_answer(engine)
    before = found(folder)
    assert before
    engine = start()
    names = titles(engine)
    engine.put("/api/encryption", {"on": True, "remove_plain_files": True})
    engine.close()
    engine = start()
    assert found(folder) == {}
    assert titles(engine) == names
    assert MARKS["slow answer"] in engine.message(session, answer)["text"]
    engine.put("/api/encryption", {"on": False})
    engine.close()
    engine = start()
    assert not engine.get("/api/encryption")["on"]
    assert titles(engine) == names
    assert kinds_in(found(folder)) >= {"question", "answer", "reasoning", "slow answer"}


def test_without_its_key_an_engine_starts_and_shows_nothing_until_it_is_given(
    start: Callable[[], LiveEngine], tmp_path: Path
) -> None:
    engine = start()
    converse(engine)
    sessions = engine.get("/api/sessions")["sessions"]
    recovery_key = engine.put("/api/encryption", {"on": True})["recovery_key"]
    engine.close()
    start().close()
    (tmp_path / "key").unlink()
    before = engine.folder.sessions_db.read_bytes()
    engine = start()
    status = engine.get("/api/status")
    assert "stay locked" in status["notice"]
    assert status["model"] is not None
    assert engine.get("/api/sessions") == {"sessions": []}
    refused = engine.client.post("/api/sessions", json={})
    assert refused.status_code == 423
    assert "stay locked" in refused.json()["error"]["text"]
    assert engine.post("/v1/chat/completions", completion("Else?"))["choices"]
    wrong = engine.client.post("/api/encryption/recover", json={"recovery_key": "A" * 56})
    assert wrong.status_code == 400
    assert engine.folder.sessions_db.read_bytes() == before
    assert engine.post("/api/encryption/recover", {"recovery_key": recovery_key})["restart_needed"]
    engine.close()
    engine = start()
    assert engine.get("/api/status")["notice"] is None
    assert engine.get("/api/sessions")["sessions"] == sessions
