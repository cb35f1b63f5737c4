"""All of Seamount's goes, and nothing else."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import forgetting
from engine.access.keys import ClientKeys
from engine.data_version import settle
from engine.engine import Engine
from engine.errors import BadRequest
from engine.folder_lock import locked
from engine.forgetting import inventory, remove
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.protocol_access import NewKey
from engine.settings import save_settings
from engine.store.sealing import MasterKey
from engine.system_keyring import KeyringUnusableError
from tests.engine.store.data_folders import filled


class Keyring:
    """A system's, in memory."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[(service, username)]


@pytest.fixture(autouse=True)
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyring]:
    made = Keyring()
    for module in ("engine.kept_secrets", "engine.store.keys"):
        monkeypatch.setattr(f"{module}.usable_keyring", lambda: (made, "test"))
    yield made


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """One that has been lived in."""
    made = DataFolder(filled(tmp_path / "home/data"))
    save_settings(made.settings, Settings())
    Engine.open(made).store.close()
    with locked(made, "x", "x"):
        pass
    (made.models / "big.gguf").write_bytes(b"x" * 10_000)
    (made.root / "window.ini").write_text("[window]")
    (made.root / "settings.toml.broken-20250101-120000").write_text("")
    (made.root / "sessions.db.backup-v1-20250101").write_bytes(b"old")
    (made.root / "before-restore-20250101-120000").mkdir()
    (made.root / "parts/native-0a1b/torch").mkdir(parents=True)
    (made.root / "parts/native-0a1b/torch/lib.so").write_bytes(b"y" * 500)
    (made.root / ".settings.toml.0123456789ab.part").write_bytes(b"")
    return made


def everything(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*")}


def test_all_of_it_goes_and_the_folder_too(folder: DataFolder, tmp_path: Path) -> None:
    found = inventory(folder)
    before = everything(folder.root)
    assert {each.path.name for each in found.removable} == {name for name in before if "/" not in name}
    assert found.stays == () and found.size_bytes > 10_000
    assert everything(folder.root) == before, "looking changes nothing"
    gone: list[str] = []
    assert remove(found, lambda each: gone.append(each.path.name)) == []
    assert not folder.root.exists() and (tmp_path / "home").exists()
    assert gone[-2:] == ["version.json", "engine.lock"], "a removal that is cut off can be gone on with"


def test_each_name_of_the_program_is_known(folder: DataFolder) -> None:
    """A place that `DataFolder` names and this list does not would be left behind."""
    places = [name for name, value in vars(DataFolder).items() if isinstance(value, property)]
    for place in places:
        path: Path = getattr(folder, place)
        top = path.relative_to(folder.root).parts[0]
        assert forgetting._kind_of(top) is not None, place


def test_what_is_not_in_the_list_stays(folder: DataFolder) -> None:
    others = (
        "notes.txt",
        "sessions.db.txt",
        "models.old",
        "my.gguf",
        "version.json.txt",
        "before-restore-mine",
    )
    for name in others:
        (folder.root / name).write_text("a person's own")
    found = inventory(folder)
    assert any("before-restore-mine" in each for each in found.stays)
    assert remove(found) == []
    assert everything(folder.root) == set(others)


def test_links_go_and_what_they_lead_to_stays(folder: DataFolder, tmp_path: Path) -> None:
    outside = tmp_path / "disk"
    outside.mkdir()
    (outside / "model.gguf").write_bytes(b"z")
    (folder.root / "llama.cpp").symlink_to(outside)
    (folder.models / "more").symlink_to(outside)
    (folder.models / "file.gguf").symlink_to(outside / "model.gguf")
    found = inventory(folder)
    [link] = [each for each in found.removable if each.leads_to is not None]
    assert (link.path.name, link.leads_to, link.size_bytes) == ("llama.cpp", str(outside), 0)
    assert remove(found) == []
    assert not folder.root.exists() and (outside / "model.gguf").read_bytes() == b"z"


def test_a_data_folder_that_is_a_link_is_emptied_and_the_link_stays(
    folder: DataFolder, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder.root)
    found = inventory(DataFolder(tmp_path / "link"))
    assert remove(found) == []
    assert list(folder.root.iterdir()) == [] and (tmp_path / "link").is_symlink()


def test_a_mounted_disk_stays(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.models / "disk").mkdir()
    real = os.path.ismount
    monkeypatch.setattr(
        forgetting.os.path, "ismount", lambda path: str(path) == str(folder.models / "disk") or real(path)
    )
    found = inventory(folder)
    assert any("disk of its own" in each for each in found.stays)
    remove(found)
    assert (folder.models / "big.gguf").exists() and not folder.sessions_db.exists()


def test_a_home_folder_is_never_touched(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for home in (folder.root, folder.root / "deep/in"):
        monkeypatch.setenv("HOME", str(home))
        with pytest.raises(BadRequest, match="home folder"):
            inventory(folder)


def test_a_folder_that_is_not_seamounts_is_refused(tmp_path: Path) -> None:
    for name in ("models", "logs", "sessions"):
        (tmp_path / "work" / name).mkdir(parents=True)
    with pytest.raises(BadRequest, match="does not look like"):
        inventory(DataFolder(tmp_path / "work"))


def test_where_nothing_is_nothing_is_found(tmp_path: Path) -> None:
    found = inventory(DataFolder(tmp_path / "none"))
    assert found.is_empty and remove(found) == []


def test_models_and_keys_elsewhere_stay_and_are_told(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAMOUNT_RECOVERY_KEY_FILE", "/safe/key")
    (folder.models / "added.json").write_text('{"format": 2, "paths": ["/disk/a.gguf"], "checkpoints": []}')
    (tmp_path / "checkpoints").mkdir()
    save_settings(folder.settings, Settings(checkpoints_folder=str(tmp_path / "checkpoints")))
    stays = " ".join(inventory(folder).stays)
    assert "/safe/key" in stays and "/disk/a.gguf" in stays and str(tmp_path / "checkpoints") in stays


def test_entries_of_the_keyring_go_and_others_stay(folder: DataFolder, keyring: Keyring) -> None:
    key = MasterKey.new()
    folder.encryption.write_text(f'{{"on": true, "key_id": "{key.id}", "remove_plain_files": false}}')
    save_settings(folder.settings, Settings(hub_endpoint="https://mirror.example"))
    programs = ClientKeys(folder.client_keys)
    editor, _ = programs.make(NewKey(name="my editor"))
    programs.note_kept(editor.id, is_kept=True)
    keyring.entries = {
        ("seamount", f"program {editor.id}"): "sm-x", ("seamount", "program other"): "another folder's",
        ("seamount", "huggingface.co"): "hf_x", ("seamount", "mirror.example"): "y",
        ("seamount", f"conversations {key.id}"): "z", ("seamount", "conversations other"): "another folder's",
        ("mail", "me"): "secret",
    }  # fmt: skip
    found = inventory(folder)
    told = " ".join(each.kind for each in found.keyring)
    assert "huggingface.co" in told and "mirror.example" in told and key.id in told and "recovery key" in told
    assert "my editor" in told
    assert remove(found) == []
    assert set(keyring.entries) == {
        ("seamount", "conversations other"), ("seamount", "program other"), ("mail", "me"),
    }  # fmt: skip


def test_a_keyring_that_keeps_silent_is_told(
    folder: DataFolder, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent() -> object:
        raise KeyringUnusableError("the keyring stayed locked")

    monkeypatch.setattr("engine.kept_secrets.usable_keyring", silent)
    assert any("stayed locked" in each for each in inventory(folder).stays)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may remove anything")
def test_what_cannot_be_removed_is_a_sentence(folder: DataFolder) -> None:
    folder.logs.joinpath("engine.log").write_text("")
    folder.logs.chmod(0o500)
    try:
        [problem] = remove(inventory(folder))
        assert str(folder.logs) in problem
    finally:
        folder.logs.chmod(0o700)


def test_one_that_fails_does_not_keep_the_others(folder: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    real = forgetting._remove

    def failing(path: Path) -> None:
        if path.name == "logs":
            raise PermissionError(13, "Permission denied", str(path))
        real(path)

    monkeypatch.setattr(forgetting, "_remove", failing)
    assert remove(inventory(folder)) == [f"{folder.logs} could not be removed: Permission denied."]
    assert everything(folder.root) == {"logs"} | {f"logs/{each.name}" for each in folder.logs.iterdir()}


def test_a_new_start_after_it_is_a_first_one(folder: DataFolder) -> None:
    remove(inventory(folder))
    folder.create()
    assert settle(folder) is None
