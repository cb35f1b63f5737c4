"""A conversation in a terminal.

Owns: what `seamount chat` reads and prints. A client of the engine's HTTP interface like the window. Does
not know how the engine is found (`engine_client`) or what it does.
"""

import os
import re
import sys
import time

from engine.conversation import clean_text
from engine.engine_client import EngineClient, EngineSaidNo, connected
from engine.errors import NoModel, NotFound
from engine.paths import DataFolder
from engine.protocol import (
    BackendChoice,
    Done,
    Failed,
    ModelEntry,
    ModelList,
    Notice,
    Prefill,
    Queued,
    SessionList,
    Text,
)

LINGER_S = 5.0
_PROMPT = "\n> "
# A model's text is not to move the cursor, change colours or write the title of the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def chat(
    folder: DataFolder, *, model: str | None, prompt: str | None, backend: BackendChoice | None = None
) -> int:
    """Talk in this terminal; with a `prompt`, or with input that is no terminal, answer that and leave.

    `model`: loaded first, if it is not loaded already. `backend`: what computes it, or what is loaded without one.

    Returns the exit status; raises SeamountError when there is no answer.
    """
    question = prompt
    if question is None and not sys.stdin.isatty():
        question = sys.stdin.read()
        if not question.strip():
            print("There was nothing to answer on the standard input.", file=sys.stderr)
            return 0
    with connected(folder, linger_s=LINGER_S) as client:
        if model is not None or backend is not None:
            _choose_model(client, model, backend)
        if question is not None:
            _tell_place(client, "")
            session_id = client.send("POST", "/api/sessions", {})["id"]
            _Answer(client, session_id).give(clean_text(question)[0])
            return 0
        return _converse(client)


def _converse(client: EngineClient) -> int:
    sessions = SessionList.model_validate(client.send("GET", "/api/sessions")).sessions
    if sessions:
        session_id = sessions[0].id
        print(f"Going on with “{_plain(sessions[0].title) or 'Untitled'}”. /new begins another conversation.")
    else:
        session_id = client.send("POST", "/api/sessions", {})["id"]
        print("A new conversation.")
    print("Ctrl-C stops an answer. Ctrl-C again, or Ctrl-D, leaves.")
    told_place = ""
    while True:
        told_place = _tell_place(client, told_place)
        try:
            question = clean_text(input(_PROMPT))[0]
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if question.strip() == "/new":
            session_id = client.send("POST", "/api/sessions", {})["id"]
            print("A new conversation.")
        elif question.strip():
            try:
                _Answer(client, session_id, told_place).give(question)
            except EngineSaidNo as error:
                print(f"\n{error.text}", file=sys.stderr)
            except KeyboardInterrupt:
                print()
                return 0


class _Answer:
    """One question, and its answer as it comes."""

    def __init__(self, client: EngineClient, session_id: str, told_place: str | None = None) -> None:
        """`told_place`: as in a TurnRequest."""
        self._client = client
        self._session_id = session_id
        self._told_place = told_place
        self._known = 0
        self._last_id = 0
        self._noted = False

    def give(self, question: str) -> None:
        """Ask and print. Ctrl-C stops the answer; a second one comes through. Raises EngineSaidNo."""
        ask = {"kind": "ask", "session_id": self._session_id, "text": question}
        asked = {"turn": ask, "told_place": self._told_place}
        turn_id = str(self._client.send("POST", "/api/turns", asked)["id"])
        try:
            self._follow(turn_id)
        except KeyboardInterrupt:
            self._client.send("DELETE", f"/api/turns/{turn_id}")
            self._follow(turn_id)
            print("\n(stopped)", end="", file=sys.stderr)
        print(flush=True)

    def _follow(self, turn_id: str) -> None:
        for number, event in self._client.turn_events(turn_id, self._last_id):
            self._last_id = number
            if isinstance(event, Text) and event.part == "reasoning":
                count = f", {event.generated_tokens:,} tokens" if event.generated_tokens else ""
                self._note(f"thinking{count}")
            elif isinstance(event, Text):
                self._note("")
                print(_plain(event.text[max(0, self._known - event.offset) :]), end="", flush=True)
                self._known = event.offset + len(event.text)
            elif isinstance(event, Prefill):
                self._note(f"reading {event.done:,} of {event.total:,} tokens")
            elif isinstance(event, Queued):
                self._note(f"waiting, {event.place} before this" if event.place else "waiting for the model")
            elif isinstance(event, Failed):
                self._note("")
                if self._known:
                    print(flush=True)
                raise EngineSaidNo(event.error.text)
            elif isinstance(event, Notice):
                self._note("")
                print(f"({event.text})", file=sys.stderr)
            elif isinstance(event, Done):
                self._note("")
                for call in event.message.tool_calls:
                    print(f"\n(calls {call.name} {_plain(call.arguments)})", end="", flush=True)

    def _note(self, text: str) -> None:
        """Progress, on one line that is written over; only for a person to see."""
        if sys.stderr.isatty() and (text or self._noted):
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
            self._noted = bool(text)


def _tell_place(client: EngineClient, told: str) -> str:
    """Say that what is asked now goes to another machine, where `told` is not that already: its host, "" for none."""
    status = client.status()
    place = status.model.remote if status.model else None
    if status.loading_model_id is not None:
        models = ModelList.model_validate(client.send("GET", "/api/models")).models
        place = next((each.remote for each in models if each.id == status.loading_model_id), None)
    if place is None:
        return ""
    if place.host != told:
        print(f"(What you write is sent to {place.host}: {place.whereabouts}.)", file=sys.stderr)
    return place.host


def _choose_model(client: EngineClient, named: str | None, backend: BackendChoice | None) -> None:
    """Load the model with this id, or the file at this path (None: the one that is loaded anyway), and wait until it is
    loaded or refused."""
    if named is None:
        status = client.status()
        named = status.loading_model_id or (status.model.id if status.model else None)
        if named is None:
            raise NoModel(
                f"Nothing is computed by {backend}", "no model is loaded and none was named", "add --model"
            )
    models = ModelList.model_validate(client.send("GET", "/api/models")).models
    if not any(entry.id == named for entry in models):
        if not os.path.exists(named):  # noqa: PTH110 - a name that is no path at all is to be False here
            raise NotFound(
                f"The model {named!r} cannot be found",
                "it is neither an id nor the path of a file",
                "see `seamount models` for the ids",
            )
        path = os.path.abspath(named)  # noqa: PTH100 - Path.absolute leaves ".." in
        named = ModelEntry.model_validate(client.send("POST", "/api/models/add", {"path": path})).id
    client.send("POST", "/api/models/load", {"model_id": named, "backend": backend})
    status = client.status()
    while status.loading_model_id is not None:
        time.sleep(0.05)
        status = client.status()
    loaded = status.model
    missed = loaded is None or loaded.id != named or (backend == "native" and loaded.backend != backend)
    if status.error is not None and missed:
        raise EngineSaidNo(status.error.text)


def _plain(text: str) -> str:
    return _CONTROL.sub("", text) if sys.stdout.isatty() else text
