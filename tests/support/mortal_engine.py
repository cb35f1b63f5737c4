"""An engine that is killed at any moment and started again, and all that it has shown in any of its lives.

Owns: the engine process of one data folder, how it is killed (at a time, at an event of a turn, at a fault point of
`engine.fault_points`), the requests that a kill cuts short, and the record of what was shown. `check` holds what is
stored against that record. Does not know in what order things are asked (`session_campaign`, the tests).
"""

import ast
import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx

from engine.fault_points import NAMES
from tests.integration.live_engine import LiveEngine, read_events

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 150.0
"""After so long without an end something hangs."""
GIVEN_UP = "without getting any further; it waits"
"""What the engine's log says of an answer that it does not go on with by itself."""
_POLL_S = 0.05
Json = dict[str, Any]


class Died(Exception):  # noqa: N818 - named for what happened
    """The engine was killed while it was asked something."""


@dataclass(frozen=True)
class Cut:
    """When to kill. timer: `at` seconds after a request is begun; text, prefill: at the `at`-th such event that is told
    of a turn; fault: by the fault point that the engine was started with, whenever it is met."""

    kind: Literal["timer", "text", "prefill"]
    at: float


@dataclass
class Shown:
    """What was told of one message. `whole`: it was told as it ended, and may not change any more."""

    session_id: str
    parent_id: str | None
    role: str
    text: str = ""
    reasoning: str = ""
    whole: bool = False

    def take(self, event: Json) -> None:
        """Text that was told: it stands at its offset, goes on without a gap and contradicts nothing told before."""
        if event["part"] == "text":
            self.text = _joined(self.text, event["offset"], event["text"])
        elif event["part"] == "reasoning":
            self.reasoning = _joined(self.reasoning, event["offset"], event["text"])


@dataclass
class MortalEngine:
    """One data folder and its engine. Every request raises Died when a kill comes before its answer."""

    root: Path
    model: str
    shown: dict[str, Shown] = field(default_factory=dict[str, Shown])
    kills: Counter[str] = field(default_factory=Counter[str])
    """How many there were, by kind; those of fault points by the point's name."""
    starts: int = 0
    left_to_a_person: int = 0
    """Answers that no engine went on with by itself any more, because one after the other was killed over them."""
    _log_start: int = 0
    _live: LiveEngine | None = None
    _fault: str = ""

    @property
    def live(self) -> LiveEngine:
        """The running engine; Died where there is none."""
        if self._live is None:
            raise Died
        return self._live

    def start(self, fault: str = "") -> None:
        """Start it and wait for its model. A `fault` that kills it on the way is a kill: it is started without."""
        while True:
            self.starts += 1
            self._fault = fault
            log = self.root / "logs" / "engine.log"
            self._log_start = len(log.read_text("utf-8", "replace")) if log.exists() else 0
            try:
                with _fault_set(fault):
                    self._live = LiveEngine(self.root, "--model", self.model)
                status = self.live.wait_model()
                assert status["error"] is None, status["error"]
                return
            except (RuntimeError, AssertionError, httpx.HTTPError):
                if not self._is_dead():
                    raise
                self._bury()
                fault = ""

    def stop(self) -> None:
        """Ask it to end, as a person's last window does, and wait."""
        if self._live is not None:
            live, self._live = self._live, None
            live.close()
            assert live.process.poll() in (0, -signal.SIGKILL), live.process.failure()
            if live.process.poll() == -signal.SIGKILL:
                assert self._fault, "the engine did not end when it was asked to"
                self.kills[self._fault.partition(":")[0]] += 1

    def kill(self, kind: str) -> None:
        """End it now, whatever it is doing."""
        live = self.live
        live.process.kill()
        live.process.wait(20)
        self._bury(kind)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request's JSON. Raises Died."""
        try:
            reply = self.live.client.request(method, path, json=body)
        except httpx.HTTPError:
            raise self._death() from None
        assert reply.status_code < 400, f"{method} {path}: {reply.text}"
        return reply.json() if reply.content else None

    @contextlib.contextmanager
    def cutting(self, cut: Cut | None) -> Generator[None, None, None]:
        """Within it a timer's kill comes. One that has not come at the end is waited for. Raises Died."""
        if cut is None or cut.kind != "timer":
            yield
            return
        process = self.live.process
        timer = threading.Timer(cut.at, process.kill)
        timer.start()
        try:
            yield
        finally:
            timer.join()
        process.wait(20)
        raise self._death("timer")

    def begin(self, request: Json) -> Json:
        """Begin a turn: what the engine told of it is noted. Raises Died."""
        turn: Json = self.ask("POST", "/api/turns", request)
        session_id = turn["session_id"]
        for message in [turn["question"], *turn["results"], turn["answer"]]:
            if message is not None:
                self.note(session_id, message)
        return turn

    def note(self, session_id: str, message: Json, *, whole: bool | None = None) -> None:
        """A message that was told, as it then was."""
        done = message["status"] == "complete" if whole is None else whole
        self.shown[message["id"]] = Shown(
            session_id, message["parent_id"], message["role"], message["text"], message["reasoning"], done
        )

    def follow(self, turn_id: str, session_id: str, answer_id: str, cut: Cut | None = None) -> Json:
        """Listen to a turn to its end, noting what is shown; the answer's message. Raises Died."""
        seen: Counter[str] = Counter()
        killed = False
        live, shown = self.live, self.shown[answer_id]
        events = f"/api/turns/{turn_id}/events"
        with (
            contextlib.suppress(httpx.HTTPError),
            live.client.stream("GET", events, timeout=PATIENCE_S) as reply,
        ):
            assert reply.status_code < 400, reply.read()
            for _, event in read_events(reply):
                seen[event["kind"]] += 1
                if event["kind"] == "text":
                    shown.take(event)
                elif event["kind"] in ("done", "error"):
                    assert event["kind"] == "done", event
                    self.note(session_id, event["message"], whole=True)
                    if not killed:
                        return event["message"]
                if cut and not killed and cut.kind == event["kind"] and seen[event["kind"]] >= cut.at:
                    # What still lies in the connection was told too, and is read before the end is met.
                    killed = True
                    live.process.kill()
        raise self._death(cut.kind if cut and killed else None)

    def revive(self, fault: str = "") -> None:
        """Start it again after its death, and look whether all that was shown is there."""
        self.start(fault)
        self.check()

    def check(self) -> None:
        """What was shown is stored: every message in its place, with at least the text that was told of it."""
        for session_id in {shown.session_id for shown in self.shown.values()}:
            session = self.ask("GET", f"/api/sessions/{session_id}")
            stored = {message["id"]: message for message in session["messages"]}
            for id_, shown in self.shown.items():
                if shown.session_id == session_id:
                    assert id_ in stored, f"the message {id_} was shown and is gone"
                    _compare(shown, stored[id_])
                    # A window reads it now, and shows what it goes on from.
                    shown.text, shown.reasoning = stored[id_]["text"], stored[id_]["reasoning"]

    def forget(self, session_id: str) -> None:
        """Expect no more of a session: it was removed for good."""
        self.shown = {id_: each for id_, each in self.shown.items() if each.session_id != session_id}

    def unknown(self, session_id: str) -> list[Json]:
        """Messages of a session that nobody was told of: what a cut request may have left."""
        session = self.ask("GET", f"/api/sessions/{session_id}")
        return [message for message in session["messages"] if message["id"] not in self.shown]

    def go_on(self, session_id: str, answer_id: str, *, by_itself: bool, cut: Cut | None = None) -> Json:
        """Wait for, or ask for, the rest of an answer that was cut off; its message as it ended. Raises Died."""
        if not by_itself:
            turn = {"kind": "continue", "session_id": session_id, "message_id": answer_id}
            return self.follow(self.begin({"turn": turn})["id"], session_id, answer_id, cut)
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            if GIVEN_UP in self.live.folder.engine_log.read_text("utf-8", "replace")[self._log_start :]:
                # It got no further in several lives, as if it were what ends them: a person has to ask.
                self.left_to_a_person += 1
                return self.go_on(session_id, answer_id, by_itself=False, cut=cut)
            status = self.ask("GET", "/api/status")
            if status["active_answer_id"] == answer_id and status["active_turn_id"]:
                return self.follow(status["active_turn_id"], session_id, answer_id, cut)
            message = self.stored(session_id, answer_id)
            if message["status"] == "complete":
                self.note(session_id, message)
                return message
            time.sleep(_POLL_S)
        raise AssertionError(f"the answer {answer_id} did not go on by itself")

    def stored(self, session_id: str, message_id: str) -> Json:
        """One message as it is stored. Raises Died."""
        session = self.ask("GET", f"/api/sessions/{session_id}")
        return next(message for message in session["messages"] if message["id"] == message_id)

    def _is_dead(self) -> bool:
        """It was killed: the engine that is live, or the one that did not get so far."""
        if self._live is None:  # the last start ended before it listened: only a fault may do that
            return bool(self._fault)
        return self._live.process.wait(5) == -signal.SIGKILL

    def _death(self, kind: str | None = None) -> Died:
        """A request was cut: by a kill, or else something is wrong, and AssertionError is raised."""
        live = self.live
        status = live.process.wait(20)
        assert status == -signal.SIGKILL, f"the engine ended by itself: {live.process.failure()}"
        self._bury(kind)
        return Died()

    def _bury(self, kind: str | None = None) -> None:
        if self._live is not None:
            self._live.client.close()
            self._live = None
        self.kills[kind or self._fault.partition(":")[0] or "timer"] += 1
        self._fault = ""


def _joined(told: str, offset: int, more: str) -> str:
    assert offset <= len(told), f"from character {len(told)} to {offset} nothing was told"
    again = told[offset:]
    assert again.startswith(more) or more.startswith(again), f"told {again!r}, and then {more!r} in its place"
    return told if len(again) > len(more) else told[:offset] + more


def _compare(shown: Shown, stored: Json) -> None:
    where = f"the message {stored['id']}"
    assert (stored["parent_id"], stored["role"]) == (shown.parent_id, shown.role), f"{where} has moved"
    for part in ("reasoning", "text"):
        told, kept = getattr(shown, part), stored[part]
        if shown.whole:
            assert kept == told, f"{where} was whole, and its {part} has changed"
        else:
            assert kept.startswith(told), f"{where}: {part} was shown and is lost: {told!r}, not {kept!r}"


@contextlib.contextmanager
def _fault_set(fault: str) -> Generator[None, None, None]:
    """For processes that are started within it."""
    if fault:
        os.environ["SEAMOUNT_FAULT"] = fault
    try:
        yield
    finally:
        os.environ.pop("SEAMOUNT_FAULT", None)


def placed_points() -> list[str]:
    """The fault points that the engine passes, by name, as its source says."""
    names: set[str] = set()
    for module in (ROOT / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("fault_points.at", "at"):
                names.update(a.value for a in node.args if isinstance(a, ast.Constant) and a.value in NAMES)
    return sorted(names)


def repeated(mortal: MortalEngine, fault: Callable[[], str], act: Callable[[], Any]) -> Any:
    """What `act` gives, after as many deaths as come in between; it must be something that may be done twice."""
    while True:
        try:
            return act()
        except Died:
            mortal.revive(fault())
