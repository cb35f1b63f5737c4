"""Models, settings and what loading them says."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.model_shelf import ModelShelf
from engine.protocol import EngineStatus, ErrorBody, Sampling, Settings


@pytest.fixture
def shelf(qtbot: QtBot, fake_engine: Any) -> Any:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    yield ModelShelf(api)
    api.close()


def test_models_are_fetched_and_loaded(shelf: ModelShelf, qtbot: QtBot, fake_engine: Any) -> None:
    shelf.refresh()
    qtbot.waitUntil(lambda: shelf.known)
    assert [entry.name for entry in shelf.entries] == ["Small"]
    shelf.load("m1")
    qtbot.waitUntil(lambda: shelf.loading_id == "m1")


def test_an_added_file_is_loaded(shelf: ModelShelf, qtbot: QtBot, fake_engine: Any) -> None:
    shelf.add("/somewhere/new.gguf")
    qtbot.waitUntil(lambda: shelf.loading_id == "m2")
    assert fake_engine.asked("POST", "/api/models/add") == [{"path": "/somewhere/new.gguf"}]


def test_a_file_that_is_no_model_is_said(shelf: ModelShelf, qtbot: QtBot, fake_engine: Any) -> None:
    error = {"code": "model_file", "text": "It is not a GGUF: it begins otherwise; choose another."}
    fake_engine.refusals["POST", "/api/models/add"] = (422, {"error": error})
    with qtbot.waitSignal(shelf.refused) as told:
        shelf.add("/x.gguf")
    assert told.args == [ErrorBody(**error)]


def test_a_failed_load_is_told_once(shelf: ModelShelf, fake_engine: Any) -> None:
    told: list[ErrorBody] = []
    shelf.load_failed.connect(told.append)
    error = {"code": "model_load", "text": "Too large."}
    for _ in range(2):
        shelf.set_status(EngineStatus(**{**fake_engine.status, "error": error}))
    assert told == [ErrorBody(**error)]


def test_settings_travel_both_ways(shelf: ModelShelf, qtbot: QtBot, fake_engine: Any) -> None:
    got: list[Settings] = []
    shelf.fetch_settings(got.append)
    qtbot.waitUntil(lambda: bool(got))
    wanted = got[0].model_copy(update={"sampling": Sampling(temperature=0.1), "context_tokens": 4096})
    shelf.save_settings(wanted, got.append, lambda _: None)
    qtbot.waitUntil(lambda: len(got) == 2)
    assert fake_engine.settings["sampling"]["temperature"] == 0.1


def test_a_reload_is_needed_for_another_context_or_threads(shelf: ModelShelf, fake_engine: Any) -> None:
    assert not shelf.needs_reload(Settings(context_tokens=1024))
    shelf.set_status(EngineStatus(**fake_engine.status))
    assert not shelf.needs_reload(Settings(context_tokens=8192))
    assert shelf.needs_reload(Settings(context_tokens=4096))
    assert shelf.needs_reload(Settings(context_tokens=8192, threads=5))
    assert not shelf.needs_reload(Settings(context_tokens=8192, cache_type="q8_0"))  # it does not say its own
    fake_engine.status["model"] |= {"cache_type": "f16"}
    shelf.set_status(EngineStatus(**fake_engine.status))
    assert shelf.needs_reload(Settings(context_tokens=8192, cache_type="q8_0"))
    fake_engine.status["model"] |= {"own_choices": ["context_tokens", "cache_type", "threads"]}
    shelf.set_status(EngineStatus(**fake_engine.status))
    assert not shelf.needs_reload(Settings(context_tokens=512, cache_type="q8_0", threads=9))
    assert shelf.name("m1") == "Small"


def test_what_another_machine_computes_is_never_loaded_again_for_settings(
    shelf: ModelShelf, fake_engine: Any
) -> None:
    fake_engine.status["model"] |= {
        "remote": {"host": "node7", "whereabouts": "elsewhere"},
        "context_tokens": 0,
    }
    shelf.set_status(EngineStatus(**fake_engine.status))
    assert shelf.is_remote
    assert shelf.context_tokens is None
    assert not shelf.needs_reload(Settings(context_tokens=4096, threads=5))


def test_a_reload_is_needed_where_another_backend_is_named_than_before(
    shelf: ModelShelf, qtbot: QtBot, fake_engine: Any
) -> None:
    """What computes the model now does not matter: where a command named it, it stays until this choice changes."""
    shelf.set_status(EngineStatus(**fake_engine.status))
    seen: list[Settings] = []
    for before, named, needed in (
        ("auto", "native", True),
        ("native", "llamacpp", True),
        ("llamacpp", "llamacpp", False),
        ("native", "native", False),
    ):
        fake_engine.settings |= {"backend": before}
        seen.clear()
        shelf.fetch_settings(seen.append)
        qtbot.waitUntil(lambda: bool(seen))
        for loaded in ("llama.cpp", "native"):
            fake_engine.status["model"] |= {"backend": loaded}
            shelf.set_status(EngineStatus(**fake_engine.status))
            assert shelf.needs_reload(Settings(context_tokens=8192, backend=named)) == needed  # type: ignore[arg-type]
