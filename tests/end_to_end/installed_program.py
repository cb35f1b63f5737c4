"""Seamount as it was installed in a clean root: started there by its person, looked at through its own address.

Owns: the program's command and its person's home, the window's process, and what its engine says over HTTP. Knows
the bundle from outside alone: nothing of the program is imported for it, as nothing of it could be in there.
"""

import http.client
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

from tests.end_to_end.bare_desktop import BareDesktop, wait_until
from tests.support.clean_root import PERSON, PERSON_HOME, CleanRoot

TITLE = "Seamount"
START_TIMEOUT_S = 90.0
ANSWER_TIMEOUT_S = 120.0
FIRST_PAINT = "first_paint "


class InstalledProgram:
    """`command` starts it, for a person whose home is `home`; `data` when they name a data folder."""

    def __init__(
        self, root: CleanRoot, command: Sequence[str] = ("seamount",), home: str = PERSON_HOME, data: str = ""
    ) -> None:
        self.root = root
        self.home = home
        self.data = data or f"{home}/.local/share/seamount"
        self._command = list(command)
        self._variables = {"SEAMOUNT_DATA": data} if data else {}

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> tuple[int, str]:
        """`seamount` with arguments, to its end: its exit status, and all that it said."""
        done = self.root.run(
            [*self._command, *arguments], user=PERSON, home=self.home, check=check, timeout_s=timeout_s,
            **self._variables,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    @contextmanager
    def window(self, desktop: BareDesktop) -> Iterator["OpenedWindow"]:
        """Its window, painted. It is ended at the end where it has not been closed."""
        with self.root.running(
            self._command, user=PERSON, home=self.home, DISPLAY=desktop.display, SEAMOUNT_TRACE_STARTUP="1",
            **self._variables,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            before: list[str] = []
            while (line := process.stdout.readline()) and not line.startswith(FIRST_PAINT):
                before.append(line)
            assert line, f"no window came: {''.join(before)}"
            yield OpenedWindow(desktop, process, float(line.removeprefix(FIRST_PAINT)), before)

    def ask(self, path: str) -> Any:
        """What the engine answers to GET `path`; None while there is no engine that listens."""
        try:
            found = json.loads(self.root.seen(f"{self.data}/engine.json").read_bytes())
            host, _, port = str(found["url"]).removeprefix("http://").rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.sock = self.root.connect(int(port))
        except (OSError, ValueError):
            return None
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {found['key']}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, f"{path}: {answer.status} {body.decode()}"
            return json.loads(body)
        finally:
            connection.close()

    def loaded_model(self) -> dict[str, Any]:
        """Waits until the engine has loaded a model, and says which."""

        def look() -> dict[str, Any] | None:
            status = self.ask("/api/status")
            if status is None:
                return None
            assert status["error"] is None, status["error"]
            model: dict[str, Any] | None = status["model"]
            return model

        found = wait_until(look, "a loaded model", START_TIMEOUT_S)
        assert found is not None
        return found

    def conversations(self) -> list[dict[str, Any]]:
        """All that are kept, with their messages; an engine must run."""
        listed = self.ask("/api/sessions")
        assert listed is not None
        return [self.ask(f"/api/sessions/{row['id']}") for row in listed["sessions"]]

    def answered(self, questions: int = 1) -> dict[str, Any]:
        """Waits until the one conversation has so many questions, all answered; its words and figures."""

        def look() -> dict[str, Any] | None:
            kept = self.conversations()
            if not kept:
                return None
            [conversation] = kept
            answers = [m for m in conversation["messages"] if m["role"] == "assistant"]
            done = [m for m in answers if m["status"] == "complete"]
            return conversation if len(answers) == len(done) == questions else None

        found = wait_until(look, "an answer", ANSWER_TIMEOUT_S)
        assert found is not None
        return found

    def engine_ended(self) -> None:
        """Waits until nothing of the program runs. What a click has started of the desktop's own stays."""
        wait_until(lambda: not any(map(_is_ours, self.root.processes())), "the engine's end", START_TIMEOUT_S)


def _is_ours(process: psutil.Process) -> bool:
    try:
        return process.name() == "seamount"
    except psutil.Error:
        return False


class OpenedWindow:
    """A window on `desktop`; `first_paint_s`: seconds from its process's beginning; `before`: the lines written until
    then."""

    def __init__(self, desktop: BareDesktop, process: Any, first_paint_s: float, before: list[str]) -> None:
        self.desktop = desktop
        self.before = before
        self.first_paint_s = first_paint_s
        self._process = process
        self.number = desktop.window(TITLE)

    def ask(self, question: str) -> None:
        """Type a question and send it."""
        self.desktop.press("ctrl+l")
        self.desktop.type(question)
        self.desktop.press("Return")

    def shown(self) -> str:
        """The words of the conversation that it shows, copied by its own command."""
        self.desktop.press("ctrl+alt+c")
        return self.desktop.clipboard()

    def close(self) -> str:
        """Close it as a person does; whatever it wrote to its terminal meanwhile. Its status must be 0."""
        self.desktop.close(self.number)
        said: str = self._process.communicate(timeout=START_TIMEOUT_S)[0]
        assert self._process.returncode == 0, said
        return said
