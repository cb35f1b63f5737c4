"""Tokens are kept where the system keeps secrets, or in memory; they are never shown."""

import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import keyring
import keyring.backends.fail
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import InitError, KeyringLocked

from engine.errors import BadRequest
from engine.library.credentials import SERVICE, Credentials, KeyringUnusableError, keyring_name
from engine.library.fetching import hub

ROOT = Path(__file__).resolve().parents[3]
HUB = "https://huggingface.co"
MIRROR = "https://mirror.example"
TOKEN = "hf_" + "S3cret" * 5


class Ring(KeyringBackend):
    """A keyring in memory; `trouble` is raised by every call, `wait` is waited for before."""

    priority = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.trouble: Exception | None = None
        self.wait: threading.Event | None = None

    def _come(self) -> None:
        if self.wait is not None:
            self.wait.wait(20)
        if self.trouble is not None:
            raise self.trouble

    def get_password(self, service: str, username: str) -> str | None:
        self._come()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._come()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._come()
        del self.kept[service, username]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    """Counts as the system's own, which goes by the module that a backend is of."""
    ring = Ring()
    monkeypatch.setattr(Ring, "__module__", "keyring.backends.SecretService")
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    return ring


@pytest.fixture(autouse=True)
def no_tools_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "default_token", lambda: None)


def test_it_is_kept_in_the_keyring_for_each_hub(ring: Ring) -> None:
    credentials = Credentials({})
    assert credentials.facts(HUB).state == "none"
    assert credentials.keep(HUB, f" {TOKEN}\n").state == "keyring"
    assert ring.kept == {(SERVICE, "huggingface.co"): TOKEN}
    assert credentials.token(HUB) == TOKEN
    assert credentials.token(MIRROR) is None
    # Another engine finds it there.
    assert Credentials({}).token(HUB) == TOKEN
    assert Credentials({}).facts(HUB).state == "keyring"
    facts = credentials.forget(HUB)
    assert (facts.state, facts.problem, ring.kept) == ("none", None, {})
    assert credentials.token(HUB) is None


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (InitError(f"no {TOKEN}"), "cannot be opened"),
        (KeyringLocked(TOKEN), "stayed locked"),
        (RuntimeError(TOKEN), "RuntimeError"),
    ],
)
def test_without_one_it_is_kept_for_this_run(
    ring: Ring, trouble: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    ring.trouble = trouble
    credentials = Credentials({})
    facts = credentials.keep(HUB, TOKEN)
    assert facts.state == "this_run"
    assert facts.problem is not None
    assert said in facts.problem
    assert "until the engine ends" in facts.problem
    assert credentials.token(HUB) == TOKEN
    assert credentials.facts(HUB) == facts
    assert Credentials({}).token(HUB) is None
    assert credentials.forget(HUB).state == "none"
    assert TOKEN not in caplog.text + repr(credentials) + repr(facts) + facts.problem


def test_a_keyring_that_asks_is_not_waited_for_without_end(ring: Ring) -> None:
    ring.kept[SERVICE, "huggingface.co"] = TOKEN
    ring.wait = threading.Event()
    credentials = Credentials({}, look_timeout_s=0.01, change_timeout_s=0.01)
    facts = credentials.facts(HUB)
    assert facts.state == "none"
    assert facts.problem is not None
    assert "asking for its password" in facts.problem
    assert credentials.keep(MIRROR, TOKEN).state == "this_run"
    # Once the person has unlocked it, what was asked for is there, and that is told.
    answered = threading.Event()
    credentials.answered = answered.set
    ring.wait.set()
    assert answered.wait(20)
    assert credentials.token(HUB) == TOKEN
    assert credentials.facts(HUB).state == "keyring"


@pytest.mark.parametrize("then", ["nothing", "forget", "another"])
def test_a_keyring_that_takes_a_token_late(ring: Ring, then: str) -> None:
    ring.wait = threading.Event()
    credentials = Credentials({}, look_timeout_s=0.01, change_timeout_s=0.01)
    facts = credentials.keep(HUB, TOKEN)
    assert facts.state == "this_run"
    assert "did not answer" in (facts.problem or "")
    told: list[str] = []
    credentials.answered = lambda: told.append("answered")
    if then == "forget":
        credentials.forget(HUB)
    elif then == "another":
        credentials.keep(HUB, "hf_newer")
    ring.wait.set()
    threads = [each for each in threading.enumerate() if each.name == "keyring"]
    for thread in threads:
        thread.join(20)
    assert told
    expected = {"nothing": TOKEN, "forget": None, "another": "hf_newer"}[then]
    assert ring.kept.get((SERVICE, "huggingface.co")) == expected
    assert credentials.token(HUB) == expected
    assert credentials.facts(HUB).state == ("none" if expected is None else "keyring")


@pytest.mark.parametrize(
    "module", ["keyrings.alt.file", "keyring.backends.null", "keyring.backends.fail", "somebody.elses"]
)
def test_only_the_systems_own_keyrings_count(
    ring: Ring, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setattr(Ring, "__module__", module)
    credentials = Credentials({})
    assert credentials.keep(HUB, TOKEN).state == "this_run"
    assert ring.kept == {}
    with pytest.raises(KeyringUnusableError):
        keyring_name()


def test_of_several_the_systems_own_is_used(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    class Several:
        backends = (keyring.backends.fail.Keyring(), ring)

    monkeypatch.setattr(keyring, "get_keyring", Several)
    assert Credentials({}).keep(HUB, TOKEN).state == "keyring"
    assert ring.kept


def test_the_token_of_other_tools_is_for_the_hub_itself(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "default_token", lambda: TOKEN)
    credentials = Credentials({})
    assert credentials.token(HUB) == TOKEN
    assert credentials.facts(HUB).state == "environment"
    assert credentials.token(MIRROR) is None
    assert credentials.facts(MIRROR).state == "none"
    assert Credentials({"HF_ENDPOINT": MIRROR}).token(MIRROR) == TOKEN
    assert Credentials({"HF_ENDPOINT": MIRROR}).token("https://third.example") is None
    own = "hf_own"
    assert credentials.keep(HUB, own).state == "keyring"
    assert credentials.token(HUB) == own
    assert credentials.forget(HUB).state == "environment"
    monkeypatch.setattr(hub, "default_token", lambda: "two words")
    assert credentials.token(HUB) is None


@pytest.mark.parametrize("token", ["", "  ", "two words", "x" * 501, "hf_é", "hf_\x00", "hf_a\nb"])
def test_what_is_no_token(ring: Ring, token: str) -> None:
    with pytest.raises(BadRequest) as caught:
        Credentials({}).keep(HUB, token)
    assert not token.strip() or token not in caught.value.text
    assert ring.kept == {}


def test_nothing_is_sent_in_the_open(ring: Ring) -> None:
    credentials = Credentials({})
    with pytest.raises(BadRequest, match="https"):
        credentials.keep("http://mirror.example", TOKEN)
    ring.kept[SERVICE, "mirror.example"] = TOKEN
    assert credentials.token("http://mirror.example") is None
    assert "https" in (credentials.facts("http://mirror.example").problem or "")
    assert credentials.keep("http://127.0.0.1:8000", TOKEN).state == "keyring"


def test_it_cannot_leave_the_process(ring: Ring) -> None:
    credentials = Credentials({})
    credentials.keep(HUB, TOKEN)
    assert TOKEN not in repr(credentials)
    assert TOKEN not in repr(vars(credentials))
    with pytest.raises(TypeError):
        pickle.dumps(credentials)


# --- the real thing, in a process of its own -------------------------------------------------------------

PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
from engine.library.credentials import Credentials
hub = "https://huggingface.co"
one = Credentials({})
print(one.keep(hub, "hf_real"))
print(one.token(hub), Credentials({}).token(hub))
print(one.forget(hub).state, Credentials({}).token(hub))
"""
UNLOCKED = "printf pw | gnome-keyring-daemon --unlock --components=secrets"
LOCKED = "gnome-keyring-daemon --start --components=secrets"


@pytest.fixture
def in_a_session(tmp_path: Path) -> Callable[[str | None], list[str]]:
    """What the program prints in a session of its own, after a command; None: without any session."""
    if sys.platform != "linux" or not all(map(shutil.which, ("dbus-run-session", "gnome-keyring-daemon"))):
        pytest.skip("dbus-run-session or gnome-keyring-daemon is not here")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    environment = kept | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)}
    program = [sys.executable, "-c", PROGRAM, str(ROOT)]

    def run(first: str | None) -> list[str]:
        command = program
        if first is not None:
            line = f'{first} >/dev/null 2>&1; exec "$@"'
            command = ["dbus-run-session", "--", "sh", "-c", line, "sh", *program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_the_secret_service(in_a_session: Callable[[str | None], list[str]]) -> None:
    assert in_a_session(UNLOCKED) == [
        "TokenFacts(state='keyring', problem=None)",
        "hf_real hf_real",
        "none None",
    ]


def test_a_locked_secret_service(in_a_session: Callable[[str | None], list[str]]) -> None:
    said, tokens, after = in_a_session(LOCKED)
    assert "this_run" in said
    assert "cannot be opened" in said
    assert (tokens, after) == ("hf_real None", "none None")


def test_no_session_at_all(in_a_session: Callable[[str | None], list[str]]) -> None:
    said, tokens, _ = in_a_session(None)
    assert "this_run" in said
    assert "this system has no keyring" in said
    assert tokens == "hf_real None"
