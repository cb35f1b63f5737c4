"""A small engine in this process: it speaks the wire shapes and says what a test tells it to say."""

import gc
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from engine import protocol
from engine.paths import DataFolder

KEY = "test-key"


@dataclass
class FakeTurn:
    """A turn whose events the test sends."""

    engine: "FakeEngine"
    id: str
    session_id: str
    answer_id: str
    events: list[tuple[int, bytes]] = field(default_factory=list)
    listeners: list["queue.Queue[tuple[int, bytes] | None]"] = field(default_factory=list)
    cancelled: bool = False
    over: bool = False

    def send(self, event: protocol.Wire) -> None:
        """One event, to those who listen and those who come later."""
        record = (len(self.events) + 1, event.model_dump_json().encode())
        self.events.append(record)
        for listener in list(self.listeners):
            listener.put(record)

    def text(self, text: str, *, offset: int | None = None) -> None:
        """More text, stored as the real engine stores it before it tells."""
        message = self.engine.messages[self.answer_id]
        at = len(message["text"]) if offset is None else offset
        message["text"] = message["text"][:at] + text
        self.send(protocol.Text(offset=at, text=text, generated_tokens=len(self.events) + 1))

    def think(self, text: str, *, offset: int | None = None) -> None:
        """More reasoning."""
        message = self.engine.messages[self.answer_id]
        so_far = message.setdefault("reasoning", "")
        at = len(so_far) if offset is None else offset
        message["reasoning"] = so_far[:at] + text
        tokens = len(self.events) + 1
        self.send(protocol.Text(offset=at, text=text, generated_tokens=tokens, part="reasoning"))

    def thought(self, tokens: int = 340, elapsed_s: float = 12.0) -> None:
        """The reasoning has ended."""
        thought = protocol.Thought(tokens=tokens, elapsed_s=elapsed_s)
        self.engine.messages[self.answer_id]["thought"] = thought.model_dump()
        self.send(protocol.ThoughtEvent(thought=thought))

    def call(self, name: str, arguments: str, *, step: int = 8, **more: Any) -> str:
        """A whole call, written piece by piece; its id. `more`: status and problem, told at the end."""
        calls = self.engine.messages[self.answer_id].setdefault("tool_calls", [])
        call_id, index = self.engine.new_id("call"), len(calls)
        for offset in range(0, max(1, len(arguments)), step):
            self.send(
                protocol.CallEvent(
                    index=index, id=call_id, name=name, offset=offset,
                    arguments=arguments[offset : offset + step], generated_tokens=len(self.events) + 1,
                )
            )  # fmt: skip
        calls.append({"id": call_id, "name": name, "arguments": arguments, **more})
        return call_id

    def notice(self, text: str, code: Any = "budget") -> None:
        """Something was done to the answer."""
        self.engine.messages[self.answer_id].setdefault("notices", []).append(text)
        self.send(protocol.Notice(code=code, text=text))

    def end(self, status: str = "complete", reason: str = "stop") -> None:
        """The answer as it is stored, and the end."""
        message = self.engine.messages[self.answer_id]
        message.update(status=status, finish_reason=reason)
        self.engine.status.update(active_turn_id=None, active_answer_id=None)
        self.send(protocol.Done(finish_reason=reason, message=protocol.Message(**message)))
        self.over = True
        for listener in list(self.listeners):
            listener.put(None)
        self.engine.tell_session(self.session_id, "updated")

    def fail(self, text: str) -> None:
        """The turn ends in an error."""
        message = self.engine.messages[self.answer_id]
        error = protocol.ErrorBody(code="generation", text=text)
        message.update(status="failed", finish_reason="error", error=error.model_dump())
        self.send(protocol.Failed(error=error, message=protocol.Message(**message)))
        self.over = True
        for listener in list(self.listeners):
            listener.put(None)


class FakeEngine:
    """Sessions, models, settings and turns in memory, over HTTP on this machine."""

    def __init__(self) -> None:
        self.sessions: dict[str, dict[str, Any]] = {}
        self.leaves: dict[str, str | None] = {}
        self.messages: dict[str, dict[str, Any]] = {}
        self.tree: dict[str, list[str]] = {}
        self.turns: list[FakeTurn] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.refusals: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
        self.models: list[dict[str, Any]] = [
            {"id": "m1", "name": "Small", "path": "/models/small.gguf", "size_bytes": 98_000_000,
             "source": "starter"},
        ]  # fmt: skip
        self.settings = protocol.Settings().model_dump()
        self.status: dict[str, Any] = {
            "version": "9.9", "pid": 1, "started_at": 0.0, "data_folder": "/data",
            "model": {"id": "m1", "name": "Small", "context_tokens": 8192, "threads": 2, "backend": "fake"},
            "active_turn_id": None, "active_answer_id": None, "queue_length": 0,
        }  # fmt: skip
        self.jobs: list[dict[str, Any]] = []
        self.library: dict[str, Any] = {
            "items": [], "offers": [], "hub": {"endpoint": "https://hub"},
            "rooms": [{"role": "models", "path": "/models", "free_bytes": 812_000_000_000,
                       "total_bytes": 2_000_000_000_000}],
            "machine": {"processor": "Some CPU", "cores": 16, "memory_bytes": 64_000_000_000},
        }  # fmt: skip
        self.lookup: dict[str, Any] = {}
        """What a name is answered with."""
        self.placement: dict[str, Any] = {
            "model_id": "m1", "name": "Small", "choices": {}, "context_tokens": 8192, "cache_type": "f16",
            "threads": 2, "limits": {"context_tokens": 8192},
            "places": [{"kind": "ram", "name": "Memory", "total_bytes": 16_000_000_000,
                        "used_bytes": 4_000_000_000, "reserve_bytes": 1_000_000_000,
                        "parts": [{"what": "dense", "size_bytes": 98_000_000, "layers": 30}]}],
            "reasons": [{"what": "All of it in RAM", "why": "it fits"}],
        }  # fmt: skip
        """What every placement is answered with, for what is asked."""
        self.placements_asked: list[dict[str, str]] = []
        """The queries, in their order."""
        self.hardware: dict[str, Any] = {"measuring": False}
        self.about: dict[str, Any] = {
            "version": "9.9", "data_folder": "/data", "python": "3.11.2", "llama_cpp": "llama-cpp-python 0.3.36",
            "program_folder": "/usr/lib/seamount",
            "licences": [{"name": "first", "version": "1.0", "licence": "MIT"},
                         {"name": "second", "version": "2.0", "licence": "LGPL-3.0-only"}],
        }  # fmt: skip
        self.licence_text: Callable[[int], str] = lambda place: f"Text {place}"
        self.updates: dict[str, Any] = {"asks": False}
        self.listeners: list[queue.Queue[bytes | None]] = []
        self.tools: dict[str, list[Any]] = {}
        self.reuse: dict[str, dict[str, int]] = {}
        """What each mode would cost, by mode."""
        self.costs: dict[tuple[str, str | None], dict[str, Any]] = {}
        """What a step costs, by its kind and message; goes before what the mode would."""
        self.usage: dict[str, Any] = {
            "sessions_bytes": 90_000, "journals_bytes": 1_000, "states_bytes": 1_200_000_000, "states_count": 14,
            "states_damaged": 0, "states_budget_bytes": 20_000_000_000, "free_bytes": 800_000_000_000,
        }  # fmt: skip
        self.task: dict[str, Any] = {}
        """The storage task, once one was begun."""
        self.part: dict[str, Any] = {
            "name": "native", "title": "PyTorch", "state": "absent", "suited": "cpu", "why": "no NVIDIA GPU was found",
            "free_bytes": 800_000_000_000,
            "variants": [
                {"name": "cpu", "title": "for the processor", "download_bytes": 200_700_000,
                 "unpacked_bytes": 735_100_000, "needed_bytes": 1_118_700_000},
                {"name": "cuda", "title": "for GPUs", "download_bytes": 2_737_000_000,
                 "unpacked_bytes": 4_821_500_000, "needed_bytes": 5_874_700_000},
            ],
        }  # fmt: skip
        self.encryption: dict[str, Any] = {"on": False}
        self.access: dict[str, Any] = {
            "base_url": "http://127.0.0.1:8642/v1", "keys": [], "clients": [], "offers": [],
            "network": {"wanted": False},
        }  # fmt: skip
        self.secrets: dict[str, str] = {}
        """Of keys whose secret is kept."""
        self.remotes: list[dict[str, Any]] = []
        self.checked: dict[str, Any] = {"whereabouts": "elsewhere"}
        """What every check of a remote is answered with."""
        self.queries: list[dict[str, list[str]]] = []
        """Of the conversations that were exported."""
        self.refuse_patches: tuple[int, dict[str, Any]] | None = None
        """What every change of a session is answered with."""
        self.break_after: int | None = None
        """Turn streams break off after so many events."""
        self._numbers = 0
        self._start()

    def _start(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.engine = self
        self.alive = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    key = KEY

    def new_id(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}{self._numbers}"

    def add_session(self, title: str = "", age_days: float = 0.0) -> str:
        """A conversation without messages."""
        session_id = self.new_id("s")
        now = time.time() - age_days * 86_400
        self.sessions[session_id] = {
            "id": session_id, "title": title, "created_at": now, "updated_at": now, "message_count": 0,
            "deleted_at": None,
        }  # fmt: skip
        self.leaves[session_id], self.tree[session_id] = None, []
        return session_id

    def add_message(self, session_id: str, role: str, text: str, parent_id: str | None, **more: Any) -> str:
        """A stored message; it becomes the leaf."""
        message_id = self.new_id("msg")
        self.messages[message_id] = {
            "id": message_id, "parent_id": parent_id, "role": role, "text": text, "status": "complete",
            "created_at": float(self._numbers), **more,
        }  # fmt: skip
        self.tree[session_id].append(message_id)
        self.leaves[session_id] = message_id
        return message_id

    def add_exchange(self, session_id: str, question: str, answer: str, **more: Any) -> tuple[str, str]:
        """A question at the leaf and its answer."""
        asked = self.add_message(session_id, "user", question, self.leaves[session_id])
        return asked, self.add_message(session_id, "assistant", answer, asked, **more)

    def offer_modes(self, problem: str | None = None) -> None:
        """The loaded model thinks; `problem`: why Think-Max cannot be chosen."""
        modes = [{"mode": "non-think"}, {"mode": "high"}, {"mode": "max", "problem": problem}]
        self.status["model"] = {**self.status["model"], "modes": modes, "release": "preview"}
        self.reuse = {
            "non-think": {"total": 3100, "kept": 1860, "reread": 1240},
            "high": {"total": 3100, "kept": 3100, "reread": 0},
            "max": {"total": 3100, "kept": 0, "reread": 3100},
        }

    def tell_status(self) -> None:
        """Send the status to every window."""
        self._tell({"kind": "status", "status": self.status})

    def tell_session(self, session_id: str, change: str) -> None:
        """Send a session event to every window."""
        self._tell({"kind": "session", "session_id": session_id, "change": change})

    def tell_job(self, job_id: str) -> None:
        """Send a job event to every window."""
        self._tell({"kind": "job", "job_id": job_id})

    def tell_hardware(self) -> None:
        """Send a hardware event to every window."""
        self._tell({"kind": "hardware"})

    def tell_access(self) -> None:
        """Send an access event to every window."""
        self._tell({"kind": "access"})

    def add_key(self, name: str, *, kept: bool = False, **more: Any) -> dict[str, Any]:
        """A key for another program."""
        key = {"id": self.new_id("k"), "name": name, "created_at": 0.0, "is_kept": kept, **more}
        self.access["keys"].append(key)
        if kept:
            self.secrets[key["id"]] = f"sm-secret-of-{name}"
        return key

    def add_remote(self, name: str, **more: Any) -> dict[str, Any]:
        """A model on another machine."""
        remote = {
            "id": self.new_id("remote:"), "name": name, "kind": "openai", "model": "m", "whereabouts": "elsewhere",
            "addresses": [{"url": "https://node7.example.org/v1"}], "has_key": False, **more,
        }  # fmt: skip
        self.remotes.append(remote)
        return remote

    def tell_library(self) -> None:
        """Send a library event to every window."""
        self._tell({"kind": "library"})

    def add_job(self, **more: Any) -> str:
        """A job that runs: a conversion, where nothing else is `asked`."""
        asked = more.get("asked", {"kind": "convert", "source": "/c/Flash", "target": "/c/Flash.gguf"})
        what = asked.get("what") or asked.get("source") or asked.get("path") or asked.get("item_id")
        job = {
            "id": self.new_id("j"), "state": "running", "created_at": 0.0, "title": what.rpartition("/")[2],
            "place": asked.get("target") or asked.get("folder") or what, **more, "asked": asked,
        }  # fmt: skip
        self.jobs.insert(0, job)
        return job["id"]

    def job(self, job_id: str, state: str) -> dict[str, Any]:
        job = next(job for job in self.jobs if job["id"] == job_id)
        job["state"] = {"pause": "paused", "resume": "running", "cancel": "cancelled"}[state]
        return job

    def _tell(self, event: dict[str, Any]) -> None:
        for listener in list(self.listeners):
            listener.put(json.dumps(event).encode())

    def asked(self, method: str, path: str) -> list[Any]:
        """Bodies of the requests that came to `path`."""
        return [body for m, p, body in self.requests if (m, p) == (method, path)]

    def die(self) -> None:
        """Break every connection and stop listening, as a killed process does."""
        self.alive = False
        self._server.shutdown()
        self._server.server_close()
        self._server.cut()
        for turn in self.turns:
            for listener in turn.listeners:
                listener.put(None)
        for listener in self.listeners:
            listener.put(None)
        self.turns.clear()
        self.listeners.clear()
        for message in self.messages.values():
            if message["status"] == "running":
                message.update(status="interrupted", finish_reason="interrupted")
        self.status.update(active_turn_id=None, active_answer_id=None)

    def revive(self) -> None:
        """Another process of it listens, on another port."""
        self.status["pid"] += 1
        self._start()

    # --- what it answers ----------------------------------------------------------------------------

    def session(self, session_id: str) -> dict[str, Any]:
        return {
            "summary": self.sessions[session_id],
            "leaf_id": self.leaves[session_id],
            "messages": [self.messages[m] for m in self.tree[session_id]],
            "tools": self.tools.get(session_id, []),
        }

    def begin(self, body: Any) -> dict[str, Any]:
        turn = body["turn"]
        session_id, kind = turn["session_id"], turn["kind"]
        question_id = None
        result_ids: list[str] = []
        if kind == "continue":
            answer_id = turn["message_id"]
            self.messages[answer_id].update(status="running", finish_reason=None, error=None)
        else:
            parent = self.leaves[session_id]
            if kind in ("edit", "retry"):
                parent = self.messages[turn["message_id"]]["parent_id"]
            if kind == "results":
                parent = turn["message_id"]
                for given in turn["results"]:
                    call_id, text = given["tool_call_id"], given["text"]
                    parent = self.add_message(session_id, "tool", text, parent, tool_call_id=call_id)
                    result_ids.append(parent)
            if kind in ("ask", "edit"):
                parent = question_id = self.add_message(session_id, "user", turn["text"], parent)
            answer_id = self.add_message(
                session_id, "assistant", "", parent, status="running", mode=body.get("mode")
            )
        if not self.sessions[session_id]["title"]:
            self.sessions[session_id]["title"] = turn.get("text", "")[:20]
        begun = FakeTurn(self, self.new_id("t"), session_id, answer_id)
        self.turns.append(begun)
        self.status.update(active_turn_id=begun.id, active_answer_id=answer_id)
        self.tell_session(session_id, "updated")
        return {
            "id": begun.id,
            "session_id": session_id,
            "question": self.messages[question_id] if question_id else None,
            "answer": self.messages[answer_id],
            "results": [self.messages[result_id] for result_id in result_ids],
        }

    def change_encryption(self, asked: Any) -> dict[str, Any]:
        """As the engine does: a change waits for the next start, and one to on has a key."""
        changes = asked["on"] != self.encryption["on"]
        pending = ("on" if asked["on"] else "off") if changes else None
        self.encryption.update(pending=pending, restart_needed=changes)
        return {"state": self.encryption, "recovery_key": "abcd-efgh" if changes and asked["on"] else None}

    def resume(self, answer_id: str) -> FakeTurn:
        """Go on with an answer that the engine's end cut off, as it does by itself; tells nobody yet."""
        session_id = next(name for name, ids in self.tree.items() if answer_id in ids)
        turn = {"kind": "continue", "session_id": session_id, "message_id": answer_id}
        self.begin({"turn": turn})
        return self.turns[-1]

    def turn(self, turn_id: str) -> FakeTurn:
        return next(turn for turn in self.turns if turn.id == turn_id)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    engine: FakeEngine

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[Any] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        import socket

        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A window that goes away is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_PATCH(self) -> None:
        self._answer("PATCH")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        engine = self.server.engine
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        url = urlsplit(self.path)
        engine.requests.append((method, url.path, body))
        engine.headers.append(dict(self.headers.items()))
        refusal = engine.refusals.get((method, url.path))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._send(401, {"error": {"code": "missing_key", "text": "The key is wrong."}})
        elif refusal:
            self._send(*refusal)
        else:
            self._route(method, url.path.strip("/").split("/")[1:], parse_qs(url.query), body)

    def _route(self, method: str, parts: list[str], query: dict[str, list[str]], body: Any) -> None:
        engine = self.server.engine
        match (method, *parts):
            case ("GET", "status"):
                self._send(200, engine.status)
            case ("GET", "events"):
                self._events()
            case ("GET", "models"):
                self._send(200, {"models": engine.models})
            case ("POST", "models", "load"):
                engine.status["loading_model_id"] = body["model_id"]
                self._send(202, engine.status)
            case ("POST", "models", "add"):
                entry = {"id": "m2", "name": "Added", "path": body["path"], "size_bytes": 5, "source": "file"}
                engine.models.append(entry)
                self._send(201, entry)
            case ("GET", "models", *_, "placement") | ("GET", "library", "offers", _, "placement"):
                asked = {name: values[0] for name, values in query.items()}
                engine.placements_asked.append(asked)
                self._send(200, engine.placement | asked)
            case ("PUT", "models", _, "placement"):
                self._send(200, engine.placement | {"choices": body})
            case ("GET", "hardware"):
                self._send(200, engine.hardware)
            case ("POST", "hardware", "measure"):
                engine.hardware = {"measuring": True, "step": "memory"}
                self._send(202, engine.hardware)
            case ("DELETE", "hardware", "measure"):
                engine.hardware = {"measuring": False}
                self._send(200, engine.hardware)
            case ("GET", "about"):
                self._send(200, engine.about)
            case ("GET", "about", "licences", place):
                name = engine.about["licences"][int(place)]["name"]
                self._send(200, {"name": name, "text": engine.licence_text(int(place))})
            case ("GET", "updates"):
                self._send(200, engine.updates)
            case ("GET", "settings"):
                self._send(200, engine.settings)
            case ("PUT", "settings"):
                engine.settings = body
                self._send(200, body)
            case ("GET", "sessions"):
                words = query.get("query", [""])[0].lower()
                found = [
                    s for s in engine.sessions.values() if not s["deleted_at"] and words in s["title"].lower()
                ]
                self._send(200, {"sessions": found})
            case ("POST", "sessions"):
                session_id = engine.add_session(body["title"])
                engine.tell_session(session_id, "created")
                self._send(201, engine.sessions[session_id])
            case (_, "sessions", session_id, *_) if session_id not in (*engine.sessions, "import"):
                self._send(404, {"error": {"code": "not_found", "text": "It is not here."}})
            case ("GET", "sessions", session_id):
                self._send(200, engine.session(session_id))
            case ("PATCH", "sessions", _) if engine.refuse_patches:
                self._send(*engine.refuse_patches)
            case ("PATCH", "sessions", session_id):
                if body["title"] is not None:
                    engine.sessions[session_id]["title"] = body["title"]
                if body["leaf_id"] is not None:
                    engine.leaves[session_id] = body["leaf_id"]
                if body["tools"] is not None:
                    engine.tools[session_id] = body["tools"]
                engine.tell_session(session_id, "updated")
                self._send(200, engine.sessions[session_id])
            case ("GET", "jobs"):
                self._send(200, {"jobs": engine.jobs})
            case ("POST", "jobs"):
                engine.add_job(**body)
                self._send(201, engine.jobs[0])
            case ("POST", "jobs", job_id, wish):
                self._send(202, engine.job(job_id, wish))
            case ("DELETE", "jobs", job_id):
                engine.jobs = [job for job in engine.jobs if job["id"] != job_id]
                self._send(204, None)
            case ("GET", "library"):
                self._send(200, engine.library)
            case ("POST", "library", "lookup"):
                self._send(200, engine.lookup)
            case ("PUT", "library", "token"):
                engine.library["hub"]["token"] = "keyring"
                self._send(200, engine.library["hub"])
            case ("DELETE", "library", "token"):
                engine.library["hub"]["token"] = "none"
                self._send(204, None)
            case ("POST", "library", "add"):
                path, is_model = body["path"], body["path"].lower().endswith(".gguf")
                item = {
                    "id": "m2" if is_model else f"checkpoint:{path}", "kind": "model" if is_model else "checkpoint",
                    "name": path.rpartition("/")[2], "path": path, "size_bytes": 5,
                }  # fmt: skip
                engine.library["items"].insert(0, item)
                self._send(201, item)
            case ("POST", "library", "remove"):
                items = engine.library["items"]
                [item] = [each for each in items if each["id"] == body["item_id"]]
                items.remove(item)
                self._send(200, {"size_bytes": item["size_bytes"], "in_trash": not body["for_good"]})
            case ("POST", "inspect"):
                self._send(200, {
                    "path": body["path"], "name": "Flash", "release": "0731", "shards": 1, "tensors": 1,
                    "tensor_bytes": 1, "free_bytes": 9,
                    "results": [{"dense": "q8_0", "model_bytes": 4, "draft_bytes": 1}],
                })  # fmt: skip
            case ("GET", "storage"):
                self._send(200, engine.usage)
            case ("POST", "storage", "forget"):
                engine.usage.update(states_bytes=0, states_count=0)
                self._send(200, engine.usage)
            case ("POST", "storage", "tasks"):
                engine.task = {"id": "k1", "kind": body["kind"], "state": "running"}
                self._send(202, engine.task)
            case ("GET", "storage", "task"):
                self._send(200, engine.task)
            case ("DELETE", "storage", "task"):
                engine.task["state"] = "stopped"
                self._send(202, engine.task)
            case ("POST", "storage", "restore"):
                prepared = {
                    "created_at": 1_700_000_000.0,
                    "sessions_bytes": 5,
                    "aside": "/data/before-restore",
                }
                self._send(202, prepared)
            case ("DELETE", "storage", "restore"):
                self._send(204, None)
            case ("GET", "sessions", session_id, "export"):
                engine.queries.append(query)
                self._send(200, engine.session(session_id))
            case ("POST", "sessions", "import"):
                self._send(201, engine.sessions[engine.add_session("Taken in")])
            case ("GET", "parts"):
                self._send(200, {"parts": [engine.part]})
            case ("POST", "parts", "native", "install"):
                engine.part["task"] = {"id": "1", "part": "native", "variant": body["variant"] or "cpu",
                                       "state": "running", "total_bytes": 200_700_000}  # fmt: skip
                self._send(202, engine.part["task"])
            case ("DELETE", "parts", "native", "task"):
                engine.part["task"]["state"] = "stopped"
                self._send(202, engine.part["task"])
            case ("POST", "parts", "native", "remove"):
                engine.part |= {"state": "absent", "task": None}
                self._send(200, engine.part)
            case ("GET", "access"):
                self._send(200, engine.access)
            case ("POST", "access", "keys"):
                key = engine.add_key(body["name"], kept=body["keep"], is_network=body["is_network"])
                self._send(201, {"key": key, "secret": f"sm-secret-of-{key['name']}"})
            case ("GET", "access", "keys", key_id, "secret"):
                key = next(each for each in engine.access["keys"] if each["id"] == key_id)
                self._send(200, {"key": key, "secret": engine.secrets[key_id]})
            case ("PATCH", "access", "keys", key_id):
                key = next(each for each in engine.access["keys"] if each["id"] == key_id)
                key.update({name: value for name, value in body.items() if value is not None})
                self._send(200, key)
            case ("DELETE", "access", "keys", key_id):
                engine.access["keys"] = [each for each in engine.access["keys"] if each["id"] != key_id]
                self._send(204, None)
            case ("DELETE", "access", "requests", request_id):
                for client in engine.access["clients"]:
                    client["requests"] = [each for each in client["requests"] if each["id"] != request_id]
                self._send(204, None)
            case ("PUT", "access", "network"):
                wanted = body["wanted"]
                engine.access["network"] = {"wanted": wanted, "is_open": wanted, "port": body["port"] or 8643}
                self._send(200, engine.access["network"])
            case ("GET", "remotes"):
                self._send(200, {"remotes": engine.remotes})
            case ("POST", "remotes", "check"):
                self._send(200, engine.checked)
            case ("POST", "remotes"):
                more = {name: value for name, value in body.items() if name not in ("name", "key")}
                self._send(201, engine.add_remote(body["name"], **more, has_key=bool(body["key"])))
            case ("PUT" | "DELETE" | "POST", "remotes", remote_id, *rest):
                remote = next(each for each in engine.remotes if each["id"] == unquote(remote_id))
                if method == "DELETE":
                    engine.remotes.remove(remote)
                    self._send(204, None)
                    return
                change = {"change": None} if rest == ["agree"] else body
                remote.update(
                    {name: value for name, value in change.items() if name not in ("key", "fingerprint")}
                )
                self._send(200, remote)
            case ("GET", "encryption"):
                self._send(200, engine.encryption)
            case ("PUT", "encryption"):
                self._send(200, engine.change_encryption(body))
            case ("POST", "encryption", "recover"):
                engine.encryption["restart_needed"] = True
                self._send(200, engine.encryption)
            case ("POST", "reuse"):
                self._send(
                    200, engine.costs.get((body["kind"], body["message_id"])) or engine.reuse[body["mode"]]
                )
            case ("DELETE", "sessions", session_id):
                engine.sessions[session_id]["deleted_at"] = time.time()
                engine.tell_session(session_id, "deleted")
                self._send(204, None)
            case ("POST", "sessions", session_id, "restore"):
                engine.sessions[session_id]["deleted_at"] = None
                engine.tell_session(session_id, "restored")
                self._send(204, None)
            case ("POST", "sessions", session_id, "purge"):
                engine.sessions.pop(session_id)
                self._send(204, None)
            case ("POST", "turns"):
                self._send(201, engine.begin(body))
            case ("GET", "turns", turn_id, "events"):
                self._turn(engine.turn(turn_id))
            case ("DELETE", "turns", turn_id):
                turn = engine.turn(turn_id)
                turn.cancelled = True
                turn.end("complete", "cancelled")
                self._send(204, None)
            case _:
                self._send(404, {"error": {"code": "not_found", "text": f"No such thing: {self.path}"}})

    def _send(self, status: int, body: Any) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _events(self) -> None:
        engine = self.server.engine
        inbox: queue.Queue[bytes | None] = queue.Queue()
        inbox.put(json.dumps({"kind": "status", "status": engine.status}).encode())
        engine.listeners.append(inbox)
        self._begin_stream()
        while (event := inbox.get()) is not None:
            self._chunk(b"data: " + event + b"\n\n")
        self.close_connection = True

    def _turn(self, turn: FakeTurn) -> None:
        after = int(self.headers.get("Last-Event-ID") or 0)
        inbox: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        for record in turn.events:
            if record[0] > after:
                inbox.put(record)
        if turn.over:
            inbox.put(None)
        turn.listeners.append(inbox)
        self._begin_stream()
        sent = 0
        while (record := inbox.get()) is not None:
            self._chunk(b"id: %d\ndata: %s\n\n" % record)
            sent += 1
            if sent == turn.engine.break_after:
                turn.engine.break_after = None
                turn.listeners.remove(inbox)
                self.close_connection = True
                return
        self.close_connection = True
        if turn.engine.alive:
            self.wfile.write(b"0\r\n\r\n")


class FakeChild:
    """A process of the launcher's; `exit` ends it."""

    def __init__(self, engine: FakeEngine | None) -> None:
        self.engine = engine
        self.status: int | None = None
        self.hangs = False
        self.words = "The engine stopped: it was killed; restart it."

    def poll(self) -> int | None:
        return self.status

    def address(self) -> FakeEngine | None:
        return self.engine if self.engine and self.engine.alive and self.status is None else None

    def failure(self) -> str:
        return self.words

    def terminate(self) -> None:
        if not self.hangs:
            self.status = 0

    def kill(self) -> None:
        self.status = -9


class FakeRestoring:
    """A restore of the launcher's; it has ended with `status`."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.words = "The backup was not restored: why; do."

    def poll(self) -> int | None:
        return self.status

    def failure(self) -> str:
        return self.words


class FakeLauncher:
    """Finds `engine` when it was started elsewhere; starts children that are `engine`."""

    def __init__(self, engine: FakeEngine, *, found: bool = False) -> None:
        self.engine = engine
        self.found = found
        self.children: list[FakeChild] = []
        self.next_child: Callable[[], FakeChild] = lambda: FakeChild(self.engine)
        self.work: str | None = None
        self.without_backup = False
        self.restoring: FakeRestoring | None = None

    def put_back(self, folder: DataFolder) -> FakeRestoring:
        self.restoring = FakeRestoring()
        return self.restoring

    def long_work(self, folder: DataFolder) -> str | None:
        return self.work

    def running(self, folder: DataFolder) -> FakeEngine | None:
        return self.engine if self.found and self.engine.alive else None

    def start(self, folder: DataFolder, *, without_backup: bool = False) -> FakeChild:
        self.without_backup = without_backup
        if not self.engine.alive:
            self.engine.revive()
        self.children.append(self.next_child())
        return self.children[-1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The offscreen platform cannot tell anybody a window's least size, nor put it before others, and says so."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.qt_log_ignore("propagateSizeHints", r"does not support raise\(\)"))


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    # The cyclic collector runs in whichever thread comes by; a server's thread must not destroy Qt objects.
    gc.collect()
    gc.disable()
    engine = FakeEngine()
    yield engine
    if engine.alive:
        engine.die()
    gc.enable()


@pytest.fixture
def launcher(fake_engine: FakeEngine) -> FakeLauncher:
    return FakeLauncher(fake_engine)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.create()
    return made
