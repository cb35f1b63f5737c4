"""The row of an optional part: what it shows and what it asks for."""

from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.views.part_row import PartRow
from engine.protocol import ErrorBody
from engine.protocol_parts import PartEntry, PartTask, PartVariant


def variant(name: str, size: int) -> PartVariant:
    return PartVariant(
        name=name, title=f"for {name}", download_bytes=size, unpacked_bytes=size, needed_bytes=size
    )


ABSENT = PartEntry(
    name="native",
    title="PyTorch",
    state="absent",
    variants=[variant("cpu", 10**8), variant("cuda", 10**9)],
    suited="cuda",
    why="a GPU was found",
    free_bytes=10**12,
)
RUNNING = PartTask(id="1", part="native", variant="cuda", state="running", done_bytes=250, total_bytes=1000)


@pytest.fixture
def row(qtbot: QtBot) -> PartRow:
    made = PartRow()
    qtbot.addWidget(made)
    made.show()
    return made


def shown(row: PartRow) -> set[str]:
    names = ("bar", "variant", "install_button", "stop_button", "remove_button")
    return {name for name in names if getattr(row, name).isVisible()}


def test_nothing_can_be_done_before_it_is_known_what_is_there(row: PartRow) -> None:
    assert shown(row) == set() and row.state.text() == "Looking…"


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({}, {"variant", "install_button"}),
        ({"variants": ABSENT.variants[:1], "suited": "cpu"}, {"install_button"}),
        ({"task": RUNNING}, {"bar", "stop_button"}),
        ({"state": "installed", "version": "2"}, {"remove_button"}),
        ({"state": "outdated", "version": "2"}, {"variant", "install_button", "remove_button"}),
        ({"state": "outdated", "version": "2", "task": RUNNING}, {"bar", "stop_button"}),
        ({"state": "outside", "version": "2"}, set()),
        ({"state": "elsewhere", "variants": []}, set()),
    ],
)
def test_what_can_be_done(row: PartRow, changed: dict[str, Any], parts: set[str]) -> None:
    row.show_entry(ABSENT.model_copy(update=changed))
    assert shown(row) == parts


def test_what_suits_is_chosen_at_first_and_a_choice_stays(row: PartRow, qtbot: QtBot) -> None:
    row.show_entry(ABSENT)
    assert row.variant.currentData() == "cuda"
    row.variant.setCurrentIndex(0)
    row.show_entry(ABSENT)
    with qtbot.waitSignal(row.install_requested) as asked:
        row.install_button.click()
    assert asked.args == ["cpu"]
    assert not row.install_button.isEnabled(), "until something is known of it"


def test_how_far_it_is_and_its_end(row: PartRow, qtbot: QtBot) -> None:
    row.show_entry(ABSENT.model_copy(update={"task": RUNNING}))
    assert row.bar.value() == 250 and "250 bytes of 1.0 kB" in row.state.text()
    with qtbot.waitSignal(row.stop_requested):
        row.stop_button.click()
    failed = RUNNING.model_copy(
        update={"state": "failed", "error": ErrorBody(code="x", text="No network; try again.")}
    )
    row.show_entry(ABSENT.model_copy(update={"task": failed}))
    assert row.state.text() == "No network; try again." and shown(row) == {"variant", "install_button"}
    done = RUNNING.model_copy(update={"state": "done"})
    row.show_entry(ABSENT.model_copy(update={"state": "installed", "version": "2.13.0", "task": done}))
    assert row.state.text().startswith("PyTorch 2.13.0 is installed")


def test_a_refusal_can_be_tried_again(row: PartRow, qtbot: QtBot) -> None:
    row.show_entry(ABSENT.model_copy(update={"state": "installed", "version": "2"}))
    with qtbot.waitSignal(row.remove_requested):
        row.remove_button.click()
    row.show_failure(ErrorBody(code="conflict", text="It is in use; restart the engine."))
    assert row.state.text() == "It is in use; restart the engine." and row.remove_button.isEnabled()
