"""The form for getting a model: nothing is begun that has no room."""

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QFileDialog
from pytestqt.qtbot import QtBot

from app.fetch_plan import Room
from app.views.get_dialog import GetDialog, measure
from engine.protocol_jobs import ConvertAfter, FetchRequest
from engine.protocol_library import DiskRoom, Offer

GB = 10**9
OFFER: dict[str, Any] = {
    "name": "flash", "title": "Flash", "kind": "checkpoint", "repository": "a/DeepSeek-V4-Flash",
    "revision": "abc", "pinned": True, "download_bytes": 160 * GB, "working_bytes": 8 * GB,
    "results": [{"dense": "q8_0", "model_bytes": 150 * GB, "draft_bytes": 10 * GB},
                {"dense": "bf16", "model_bytes": 160 * GB, "draft_bytes": 10 * GB}],
    "fit": {"verdict": "disk", "text": "It is larger than the memory."},
}  # fmt: skip
ROOMY = [DiskRoom(role="models", path="/models", free_bytes=900 * GB, total_bytes=2000 * GB)]


class Disks:
    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}

    def __call__(self, path: str) -> Room | None:
        return self.rooms.get(Path(path).as_posix())


@pytest.fixture
def disks() -> Disks:
    return Disks()


@pytest.fixture
def open_form(qtbot: QtBot, disks: Disks) -> Any:
    def make(rooms: list[DiskRoom] = ROOMY, **more: Any) -> GetDialog:
        dialog = GetDialog(Offer.model_validate({**OFFER, **more}), rooms, None, disks)
        qtbot.addWidget(dialog)
        dialog.show()
        return dialog

    return make


def costs(dialog: GetDialog) -> dict[str, str]:
    return {name.text(): value.text() for name, value in dialog.cost_labels if not name.isHidden()}


def asked(dialog: GetDialog) -> FetchRequest:
    request = dialog.asked().asked
    assert isinstance(request, FetchRequest)
    return request


def free(free_gb: int) -> list[DiskRoom]:
    return [DiskRoom(role="models", path="/models", free_bytes=free_gb * GB, total_bytes=2000 * GB)]


def test_a_checkpoint_is_converted_unless_it_is_not_wished(open_form: Any, qtbot: QtBot) -> None:
    dialog = open_form()
    assert costs(dialog) == {
        "To download": "160.0 GB", "On the disk at the end": "320.0 GB", "On the disk at most": "320.0 GB",
        "Time": "about 3 h 33 min on a line of 100 Mbit/s, as an example", "Free there now": "900.0 GB",
    }  # fmt: skip
    assert dialog.fit.text() == "It is larger than the memory."
    assert dialog.dense.itemText(0) == "Q8_0: smaller, rounded to 8 bits (160.0 GB)"
    assert asked(dialog) == FetchRequest(what="flash", revision="abc", convert=ConvertAfter())
    dialog.dense.setCurrentIndex(1)
    assert costs(dialog)["On the disk at the end"] == "330.0 GB"
    assert asked(dialog).convert == ConvertAfter(dense="bf16")
    dialog.fetch_only.click()
    assert costs(dialog)["On the disk"] == "160.0 GB"
    assert not dialog.dense.isVisible()
    assert not dialog.consume.isVisible()
    assert asked(dialog).convert is None
    with qtbot.waitSignal(dialog.started) as started:
        dialog.get_button.click()
    assert started.args == [dialog.asked()]
    assert not dialog.get_button.isEnabled()
    dialog.refuse("It is under way already; look there.")
    assert dialog.message.text() == "It is under way already; look there."
    assert dialog.get_button.isEnabled()


def test_parts_are_deleted_where_both_would_not_fit(open_form: Any) -> None:
    assert not open_form().consume.isChecked()
    tight = open_form(free(200))
    assert tight.consume.isChecked()
    assert tight.consume_words.isVisible()
    assert costs(tight)["On the disk at most"] == "168.0 GB"
    assert tight.get_button.isEnabled()
    tight.consume.click()
    assert not tight.get_button.isEnabled()
    assert "it takes 320.0 GB, and 200.0 GB are free there" in tight.room.text()
    tight.dense.setCurrentIndex(1)  # what was chosen stays chosen
    assert not tight.consume.isChecked()


def test_without_room_it_is_refused_with_its_numbers(open_form: Any, disks: Disks) -> None:
    dialog = open_form(free(100))
    assert not dialog.get_button.isEnabled()
    assert dialog.room.isVisible()
    assert "it takes 168.0 GB, and 100.0 GB are free there" in dialog.room.text()
    disks.rooms["/big"] = Room(500 * GB, 1000 * GB)
    dialog.set_target("/big/mine.gguf")
    assert dialog.get_button.isEnabled()
    assert costs(dialog)["Free there now"] == (
        "100.0 GB where it is downloaded to, 500.0 GB where the result goes"
    )
    dialog.set_folder("/big")
    assert not dialog.consume.isChecked()  # there is room for both now
    request = asked(dialog)
    assert request.folder is not None
    assert Path(request.folder) == Path("/big/DeepSeek-V4-Flash")
    assert request.convert is not None
    assert request.convert.target == "/big/mine.gguf"


def test_a_gguf_is_only_downloaded(open_form: Any) -> None:
    dialog = open_form(kind="gguf", results=[], working_bytes=None, files=["q4.gguf"], fit=None, about="One.")
    for hidden in (dialog.convert, dialog.fetch_only, dialog.dense, dialog.consume, dialog.target):
        assert not hidden.isVisible()
    assert asked(dialog) == FetchRequest(what="flash", revision="abc", files=["q4.gguf"])
    assert dialog.get_button.text() == "Get it"


def test_what_is_not_known_is_said_and_stops_nothing(open_form: Any) -> None:
    dialog = open_form([], download_bytes=None, results=[])
    assert costs(dialog)["To download"] == "not known yet"
    assert costs(dialog)["Free there now"] == "not known"
    assert dialog.get_button.isEnabled()


def test_folders_are_chosen_in_the_systems_dialog(open_form: Any) -> None:
    dialog = open_form()
    for button, words in (
        (dialog.choose_folder_button, dialog.folder),
        (dialog.choose_target_button, dialog.target),
    ):
        button.click()
        [chooser] = [each for each in dialog.findChildren(QFileDialog) if each.isVisible()]
        chooser.fileSelected.emit("/elsewhere/x.gguf")
        chooser.close()
        assert words.words() == "/elsewhere/x.gguf"


def test_a_folder_that_is_not_there_yet_is_measured_by_its_disk(tmp_path: Path) -> None:
    there = measure(str(tmp_path))
    assert there is not None
    not_yet = measure(str(tmp_path / "a" / "b"))
    assert not_yet is not None
    assert there.is_same(not_yet)
    assert 0 < there.free_bytes <= there.total_bytes


def test_every_control_has_a_name(open_form: Any) -> None:
    dialog = open_form()
    assert dialog.dense.accessibleName()
    assert dialog.choose_folder_button.accessibleName() != dialog.choose_target_button.accessibleName()
