"""Keys lie in the system's keyring or in a named file, are found again, and never take another's place."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from engine.errors import KeyMissing, KeyNotKept
from engine.store.keys import KEY_FILE_VARIABLE, Keys
from engine.store.recovery_key import written
from engine.store.sealing import MasterKey

ROOT = Path(__file__).resolve().parents[3]


class Ring(KeyringBackend):
    """A keyring in memory; `forgetful` keeps nothing."""

    priority = 1  # type: ignore[assignment]
    forgetful = False
    trouble: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        if self.trouble is not None:
            raise self.trouble
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.forgetful:
            self.kept[service, username] = password


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    """Counts as the system's own, which goes by the module that a backend is of."""
    ring = Ring()
    monkeypatch.setattr(Ring, "__module__", "keyring.backends.SecretService")
    monkeypatch.setattr(keyring, "get_keyring", lambda: ring)
    return ring


def test_a_key_is_found_again_by_its_id(ring: Ring, tmp_path: Path) -> None:
    keys, key, older = Keys(tmp_path, {}), MasterKey.new(), MasterKey.new()
    assert [keys.keep(older), keys.keep(key)] == ["keyring", "keyring"]
    assert Keys(tmp_path, {}).find(key.id) == key
    assert keys.find(older.id) == older
    assert ring.kept["seamount", f"conversations {key.id}"] == written(key)
    assert keys.new() not in (key, older)


def test_why_it_is_not_there_is_told(ring: Ring, tmp_path: Path) -> None:
    keys, key = Keys(tmp_path, {}), MasterKey.new()
    with pytest.raises(KeyMissing, match="not in the keyring"):
        keys.find(key.id)
    ring.kept["seamount", f"conversations {key.id}"] = written(MasterKey.new())
    with pytest.raises(KeyMissing, match="not theirs"):
        keys.find(key.id)
    ring.kept["seamount", f"conversations {key.id}"] = "something else"
    with pytest.raises(KeyMissing, match="is no key") as caught:
        keys.find(key.id)
    assert "something" not in caught.value.text
    ring.trouble = KeyringLocked("secret")
    with pytest.raises(KeyMissing, match="stayed locked") as caught:
        keys.find(key.id)
    assert "secret" not in caught.value.text


@pytest.mark.parametrize("module", ["keyrings.alt.file", "keyring.backends.null", "keyring.backends.fail"])
def test_a_keyring_of_plain_text_does_not_count(
    ring: Ring, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: str
) -> None:
    monkeypatch.setattr(Ring, "__module__", module)
    with pytest.raises(KeyNotKept, match=KEY_FILE_VARIABLE):
        Keys(tmp_path, {}).keep(MasterKey.new())
    assert ring.kept == {}


def test_a_keyring_that_keeps_nothing_is_noticed(ring: Ring, tmp_path: Path) -> None:
    ring.forgetful = True
    with pytest.raises(KeyNotKept, match="not there"):
        Keys(tmp_path, {}).keep(MasterKey.new())


def test_a_named_file_holds_it_where_there_is_no_keyring(tmp_path: Path) -> None:
    data, file, key = tmp_path / "data", tmp_path / "key.txt", MasterKey.new()
    keys = Keys(data, {KEY_FILE_VARIABLE: str(file)})
    assert keys.keep(key) == "file"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == written(key) + "\n"
    assert keys.find(key.id) == keys.new() == key
    assert keys.keep(key) == "file"
    with pytest.raises(KeyNotKept, match="another key"):
        keys.keep(MasterKey.new())
    assert keys.find(key.id) == key
    with pytest.raises(KeyMissing, match="not theirs"):
        keys.find(MasterKey.new().id)


PROGRAM = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from engine.store.keys import Keys
from engine.store.sealing import MasterKey
key = MasterKey.new()
print(Keys(Path("/nowhere"), {}).keep(key), Keys(Path("/nowhere"), {}).find(key.id) == key)
"""


def test_the_secret_service_itself(tmp_path: Path) -> None:
    if sys.platform != "linux" or not all(map(shutil.which, ("dbus-run-session", "gnome-keyring-daemon"))):
        pytest.skip("dbus-run-session or gnome-keyring-daemon is not here")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
    unlocked = "printf pw | gnome-keyring-daemon --unlock --components=secrets"
    command = ["dbus-run-session", "--", "sh", "-c", f'{unlocked} >/dev/null 2>&1; exec "$@"', "sh"]
    done = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM, str(ROOT)],
        env=kept | {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(runtime)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "keyring True\n", done.stderr


def test_a_file_that_cannot_hold_a_key(tmp_path: Path) -> None:
    data, key = tmp_path / "data", MasterKey.new()
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for inside in (data / "key.txt", tmp_path / "link" / "key.txt", data / ".." / "data" / "key.txt"):
        with pytest.raises(KeyNotKept, match="lies in the data folder"):
            Keys(data, {KEY_FILE_VARIABLE: str(inside)}).keep(key)
    with pytest.raises(KeyNotKept, match="whole path"):
        Keys(data, {KEY_FILE_VARIABLE: "key.txt"}).keep(key)
    with pytest.raises(KeyNotKept, match="cannot be written"):
        Keys(data, {KEY_FILE_VARIABLE: str(tmp_path / "no" / "key.txt")}).keep(key)
    other = tmp_path / "other"
    other.write_bytes(b"\xff" * 1000)
    keys = Keys(data, {KEY_FILE_VARIABLE: str(other)})
    with pytest.raises(KeyNotKept, match="no recovery key"):
        keys.keep(key)
    with pytest.raises(KeyNotKept, match="no recovery key"):
        keys.new()
    with pytest.raises(KeyMissing, match="cannot be read"):
        Keys(data, {KEY_FILE_VARIABLE: str(tmp_path / "gone")}).find(key.id)
