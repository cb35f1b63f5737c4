"""From a checkpoint to an answer, in the real window: convert, watch, use, ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.views.convert_dialog import ConvertDialog
from app.views.job_card import JobCard
from engine.paths import DataFolder
from tests.convert.conversions import checkpoint
from tests.end_to_end.live_window import LiveWindow, end_engine, scripted_folder

# The offscreen platform cannot tell anybody a dialog's least size, and says so.
pytestmark = [pytest.mark.qt_log_ignore("propagateSizeHints"), pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    made = scripted_folder(
        tmp_path / "data", answer_tokens=12, context_tokens=1024, mode="non-think", model_titles=False
    )
    yield made
    end_engine(made)


@pytest.fixture
def window(qtbot: QtBot, folder: DataFolder) -> Iterator[LiveWindow]:
    live = LiveWindow(folder, qtbot.waitUntil).ready()
    yield live
    if not live.closed:
        live.close()


def cards(window: LiveWindow) -> list[JobCard]:
    """The jobs' cards on the library's page."""
    page = window.desk.library.page
    return window.window.findChildren(JobCard) if page is not None else []


def begin(window: LiveWindow, source: Path, target: Path) -> JobCard:
    """Through the menu and the form; the card on the page, where it is seen to run."""
    window.do("convert")
    form = window.window.findChild(ConvertDialog)
    form.set_source(str(source))
    window.wait(form.convert_button.isEnabled)
    assert "DeepSeek-V4" in form.findings.text()
    form.set_target(str(target))
    form.convert_button.click()
    window.wait(lambda: window.desk.library.is_open and len(cards(window)) == 1)
    return cards(window)[0]


def test_a_checkpoint_becomes_a_model_that_answers(window: LiveWindow, tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "0731", ratios="pro", seed=8)
    target = tmp_path / "mine.gguf"
    card = begin(window, source, target)
    window.wait(lambda: card.state.text() == "Done", 60_000)
    assert card.badge.text().startswith("✓ Experts exact, dense 8-bit, 0.")
    assert "rounded to 8 bits, by 0." in card.outcome.text()
    card.use_button.click()

    def is_loaded() -> bool:
        status = window.desk.shelf.status
        return bool(status and status.model and status.model.release)

    window.wait(is_loaded, 60_000)
    status = window.desk.shelf.status
    assert status is not None
    assert status.model is not None
    assert status.model.release == "0731"  # by the release in the file: its name says nothing
    assert [mode.mode for mode in status.model.modes] == ["non-think", "high", "max"]
    window.ask("Hello")
    answer = window.wait_for_end()
    assert answer.status == "complete"
    assert answer.usage is not None
    assert answer.usage.generated_tokens > 0


def test_it_goes_on_without_a_window_and_is_seen_by_the_next(
    window: LiveWindow, folder: DataFolder, qtbot: QtBot, tmp_path: Path
) -> None:
    source = checkpoint(tmp_path, "0731", layers=24, n_routed_experts=24)
    target = tmp_path / "m.gguf"
    begin(window, source, target)
    assert not target.exists()
    window.close()
    end_engine(folder)
    window.wait(target.is_file, 60_000)
    later = LiveWindow(folder, qtbot.waitUntil).ready()
    try:
        later.wait(lambda: [job.state for job in later.desk.jobs.jobs] == ["done"])
        later.do("conversions")
        later.wait(lambda: [card.state.text() for card in cards(later)] == ["Done"])
    finally:
        later.close()
