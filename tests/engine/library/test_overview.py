"""The library as a whole, for one engine."""

from pathlib import Path

import pytest

from engine import kept_secrets
from engine.errors import BadRequest, Conflict, LibraryError, ModelFileError, NotFound
from engine.library.catalogue_entries import own_catalogue
from engine.library.credentials import Credentials, KeyringUnusableError
from engine.library.fetching import hub
from engine.library.models import ModelLibrary
from engine.library.overview import Overview
from engine.paths import DataFolder
from engine.placement import hardware
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest
from engine.protocol_library import LookupRequest, RemoveRequest
from tests.engine.library.test_checkpoint_folders import plain
from tests.engine.library.test_models import put


class Place:
    """An Overview with settings and loaded models that a test changes."""

    def __init__(self, folder: DataFolder) -> None:
        self.folder = folder
        self.settings = Settings()
        self.loaded: list[str] = []
        self.models = ModelLibrary(folder)
        self.overview = Overview(
            folder, self.models, Credentials({}), lambda: self.settings, list, lambda: self.loaded
        )


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's keyring nor its GPUs, nor what its environment says."""

    def no_keyring() -> None:
        raise KeyringUnusableError("this system has no keyring")

    monkeypatch.setattr(kept_secrets, "usable_keyring", no_keyring)
    monkeypatch.setattr(hub, "default_token", lambda: None)
    monkeypatch.setattr(hardware, "llama_cpp", lambda: "not asked")
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    return Place(folder)


def test_all_of_it(place: Place, tmp_path: Path) -> None:
    put(place.folder.models / "m.gguf", "M")
    plain(tmp_path / "disk" / "mine", "model.safetensors")
    place.settings = Settings(checkpoints_folder=str(tmp_path / "disk"))
    library = place.overview.library()
    assert {item.id for item in library.items} >= {
        "folder:m.gguf",
        f"checkpoint:{tmp_path / 'disk' / 'mine'}",
    }
    assert [room.role for room in library.rooms] == ["models", "checkpoints"]
    assert library.rooms[1].path == str(tmp_path / "disk")
    assert all(0 < room.free_bytes < room.total_bytes for room in library.rooms)
    assert {offer.name for offer in library.offers} >= {"flash", "pro", "flash-0731", "pro-0813"}
    assert library.hub.endpoint == "https://huggingface.co"
    assert library.catalogue_problem is None
    assert library.machine.memory_bytes > 0


def test_a_folder_that_is_not_there_yet_has_the_room_above_it(place: Place, tmp_path: Path) -> None:
    place.settings = Settings(checkpoints_folder=str(tmp_path / "not" / "yet"))
    room = place.overview.library().rooms[1]
    assert room.path == str(tmp_path / "not" / "yet")
    assert room.total_bytes > 0


def test_what_is_wrong_in_the_settings_does_not_stop_it(place: Place) -> None:
    place.settings = Settings(checkpoints_folder="relative", hub_endpoint="nonsense")
    library = place.overview.library()
    assert [room.role for room in library.rooms] == ["models"]
    assert "not one" in (library.hub.keyring_problem or "")
    with pytest.raises(BadRequest):
        place.overview.access()


def test_a_broken_catalogue_is_said(place: Place) -> None:
    own_catalogue(place.folder).write_text("[[model")
    library = place.overview.library()
    assert library.catalogue_problem is not None
    assert library.offers


def test_tokens_and_the_state_of_the_hub(place: Place) -> None:
    state = place.overview.keep_token("hf_secret")
    assert state.token == "this_run"
    assert "no keyring" in (state.keyring_problem or "")
    access = place.overview.access()
    assert access is not None
    assert access[1] == "hf_secret"
    assert "hf_secret" not in place.overview.library().model_dump_json()
    place.settings = Settings(hub_endpoint="https://mirror.example", offline=True)
    state = place.overview.hub_state()
    assert (state.endpoint, state.token, state.offline) == ("https://mirror.example", "none", True)
    assert place.overview.access() is None
    place.settings = Settings()
    assert place.overview.forget_token().token == "none"


def test_offline_the_hub_is_not_asked(place: Place) -> None:
    place.settings = Settings(offline=True)
    with pytest.raises(hub.HubUnreachable, match="offline"):
        place.overview.look_up(LookupRequest(what="a/b"))
    # What is noted in a catalogue is known all the same.
    assert place.overview.resolved(FetchRequest(what="flash-0731")).revision


def test_adding(place: Place, tmp_path: Path) -> None:
    gguf = put(tmp_path / "elsewhere" / "m.gguf", "M")
    item = place.overview.add(str(gguf))
    assert (item.kind, item.path) == ("model", str(gguf))
    assert place.overview.add(str(gguf)).id == item.id
    folder = plain(tmp_path / "ckpt", "model.safetensors")
    item = place.overview.add(str(folder))
    assert (item.kind, item.id) == ("checkpoint", f"checkpoint:{folder}")
    assert place.overview.add(str(folder)) == item
    inside = plain(place.folder.models / "mine", "model.safetensors")
    assert place.overview.add(str(inside)).id == f"checkpoint:{inside}"
    assert place.models.added.read().checkpoints == (str(folder),)
    for wrong, error in (
        (str(tmp_path), LibraryError),
        (str(tmp_path / "gone.gguf"), ModelFileError),
        (str(folder / "config.json"), ModelFileError),
        ("relative", BadRequest),
        ("a\0b", BadRequest),
    ):
        with pytest.raises(error):
            place.overview.add(wrong)


def test_removing(place: Place) -> None:
    gguf = put(place.folder.models / "m.gguf", "M")
    place.loaded = ["folder:m.gguf"]
    asked = RemoveRequest(item_id="folder:m.gguf", for_good=True)
    with pytest.raises(Conflict):
        place.overview.remove(asked)
    place.loaded = []
    assert place.overview.remove(asked).size_bytes > 0
    assert not gguf.exists()
    with pytest.raises(NotFound):
        place.overview.remove(asked)
