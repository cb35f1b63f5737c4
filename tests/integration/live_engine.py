"""A real engine process and its client, for tests."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from engine.launch import EngineProcess
from engine.paths import DataFolder

SCRIPT_MODEL = "folder:talk.script.json"
SLOW_TEXT = "One token at a time, so that there is time to look. " * 6
LONG_TOKENS = 1000
SCRIPT: dict[str, Any] = {
    "name": "Talker",
    "context_tokens": 1_048_576,
    "replies": [
        {"match": "slowly", "text": SLOW_TEXT, "delay_s": 0.01},
        {"match": "your time", "tokens": LONG_TOKENS, "delay_s": 0.01},
        {"match": "quickly", "tokens": 3000},
        {"match": "endlessly", "tokens": 900_000},
        {"match": "prefill", "text": "Read.", "prefill_delay_s": 0.05},
        {"match": "fail", "text": "This answer breaks off somewhere.", "fail_after": 12},
        {"match": "crash", "text": "This engine dies somewhere.", "delay_s": 0.02, "crash_after": 12},
        {"match": "many scripts", "text": "né 你好 👩‍👩‍👧 مرحبا \u200f!"},
        {"text": "Hello there."},
    ],
}
START_TIMEOUT_S = 60.0


def write_script(folder: DataFolder, script: dict[str, Any] = SCRIPT, name: str = "talk") -> None:
    """Put a scripted model into the models folder."""
    folder.models.mkdir(parents=True, exist_ok=True)
    (folder.models / f"{name}.script.json").write_text(json.dumps(script), "utf-8")


class LiveEngine:
    """One engine process; `client` is an HTTP client with its key."""

    def __init__(self, root: Path, *arguments: str, linger_s: float | None = None) -> None:
        self.folder = DataFolder(root)
        self.process = EngineProcess.start(self.folder, linger_s=linger_s, arguments=arguments)
        deadline = time.monotonic() + START_TIMEOUT_S
        while (address := self.process.address()) is None:
            if self.process.poll() is not None:
                raise RuntimeError(self.process.failure())
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.address = address
        self.client = httpx.Client(
            base_url=address.url,
            headers={"Authorization": f"Bearer {address.key}"},
            trust_env=False,
            timeout=30,
        )

    def close(self) -> None:
        """End it and let go of everything."""
        self.client.close()
        self.process.terminate()
        if self.process.wait(20) is None:
            self.process.kill()
            self.process.wait(5)

    def get(self, path: str) -> Any:
        return self._json(self.client.get(path))

    def post(self, path: str, body: Any = None) -> Any:
        return self._json(self.client.post(path, content=json.dumps(body).encode()))

    def put(self, path: str, body: Any) -> Any:
        return self._json(self.client.put(path, content=json.dumps(body).encode()))

    def new_session(self) -> str:
        return self.post("/api/sessions", {})["id"]

    def ask(self, text: str, session_id: str | None = None, **more: Any) -> Any:
        """Begin a turn; the Turn."""
        ask = {"kind": "ask", "session_id": session_id or self.new_session(), "text": text}
        return self.post("/api/turns", {"turn": ask, **more})

    def continue_answer(self, session_id: str, message_id: str, **more: Any) -> Any:
        turn = {"kind": "continue", "session_id": session_id, "message_id": message_id}
        return self.post("/api/turns", {"turn": turn, **more})

    def events(self, turn_id: str, headers: dict[str, str] | None = None) -> Iterator[tuple[int, Any]]:
        """(number, event) of a turn until it ends."""
        with self.client.stream("GET", f"/api/turns/{turn_id}/events", headers=headers) as reply:
            reply.raise_for_status()
            yield from read_events(reply)

    def finish(self, turn_id: str) -> Any:
        """The last event of a turn."""
        return list(self.events(turn_id))[-1][1]

    def answer(self, text: str, **more: Any) -> Any:
        """Ask in a new session; the answer's message."""
        return self.finish(self.ask(text, **more)["id"])["message"]

    def wait_status(self, condition: Any, timeout_s: float = 60) -> Any:
        """The first status told over /api/events that meets `condition`."""
        with self.client.stream("GET", "/api/events", timeout=timeout_s) as reply:
            for _, event in read_events(reply):
                if event["kind"] == "status" and condition(event["status"]):
                    return event["status"]
        raise AssertionError("the engine ended")

    def wait_model(self) -> Any:
        """The status once a load has ended."""
        return self.wait_status(lambda s: s["loading_model_id"] is None and (s["model"] or s["error"]))

    def wait_access(self, condition: Any, timeout_s: float = 60) -> Any:
        """The Access once it meets `condition`; looked at again when it has changed."""
        with self.client.stream("GET", "/api/events", timeout=timeout_s) as reply:
            for _ in read_events(reply):
                access = self.get("/api/access")
                if condition(access):
                    return access
        raise AssertionError("the engine ended")

    def message(self, session_id: str, message_id: str) -> Any:
        session = self.get(f"/api/sessions/{session_id}")
        return next(m for m in session["messages"] if m["id"] == message_id)

    @staticmethod
    def _json(reply: httpx.Response) -> Any:
        assert reply.status_code < 400, reply.text
        return reply.json() if reply.content else None


def read_events(reply: httpx.Response) -> Iterator[tuple[int, Any]]:
    """(id, parsed data) of a server-sent event stream."""
    number, kind = 0, ""
    for line in reply.iter_lines():
        field, _, value = line.partition(": ")
        if field == "id":
            number = int(value)
        elif field == "event":
            kind = value
        elif field == "data":
            event = json.loads(value)
            assert event["kind"] == kind
            yield number, event


def in_thread(function: Any, *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    """Run `function` beside the test; its result lands in the list."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)), daemon=True)
    thread.start()
    return thread, results
