"""The form of a conversion: nothing can be begun before it was looked at."""

from typing import Any

import pytest
from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.views.convert_dialog import ConvertDialog
from engine.protocol import ErrorBody
from engine.protocol_jobs import ConvertRequest, Inspection, StartJob

FOUND: dict[str, Any] = {
    "path": "/c/Flash", "name": "Flash", "release": "DeepSeek-V4 0731", "shards": 4, "tensors": 9,
    "tensor_bytes": 100, "drafter": "dspark", "free_bytes": 10_000,
    "results": [{"dense": "q8_0", "model_bytes": 900, "draft_bytes": 90},
                {"dense": "bf16", "model_bytes": 990, "draft_bytes": 90}],
}  # fmt: skip


class Looker:
    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers: list[Any] = []

    def __call__(self, path: str, target: str, ok: Any, failed: Any) -> None:
        self.asked.append((path, target))
        self.answers.append((ok, failed))

    def find(self, place: int = -1, **more: Any) -> None:
        self.answers[place][0](Inspection.model_validate({**FOUND, **more}))


@pytest.fixture
def looker() -> Looker:
    return Looker()


@pytest.fixture
def dialog(qtbot: QtBot, looker: Looker) -> ConvertDialog:
    made = ConvertDialog(looker)
    qtbot.addWidget(made)
    return made


def test_look_choose_start(dialog: ConvertDialog, looker: Looker, qtbot: QtBot) -> None:
    assert not dialog.convert_button.isEnabled()
    dialog.set_source("/c/Flash")
    assert looker.asked == [("/c/Flash", "")]
    assert not dialog.convert_button.isEnabled()
    looker.find()
    assert "DeepSeek-V4 0731" in dialog.findings.text()
    assert dialog.target.text() == "/c/Flash.gguf"
    assert dialog.dense.itemText(0).endswith("(990 bytes)")
    assert dialog.space.text() == "It takes 990 bytes; 10.0 kB are free there."
    assert dialog.draft.findData("keep") == -1
    dialog.set_target("/m/f.gguf")
    assert looker.asked[-1] == ("/c/Flash", "/m/f.gguf")
    looker.find(free_bytes=10)
    assert "not enough" in dialog.space.text()
    assert dialog.warning.isHidden()
    dialog.consume.setChecked(True)
    assert not dialog.warning.isHidden()
    dialog.dense.setCurrentIndex(1)
    dialog.draft.setCurrentIndex(dialog.draft.findData("skip"))
    with qtbot.waitSignal(dialog.started) as started:
        dialog.convert_button.click()
    assert started.args == [
        StartJob(
            asked=ConvertRequest(
                source="/c/Flash", target="/m/f.gguf", dense="bf16", draft="skip", consume=True
            )
        )
    ]
    assert not dialog.convert_button.isEnabled()
    dialog.refuse("It could not be begun.")
    assert dialog.message.text() == "It could not be begun."
    assert dialog.convert_button.isEnabled()


def test_only_the_latest_answer_counts(dialog: ConvertDialog, looker: Looker) -> None:
    dialog.set_source("/c/Old")
    dialog.set_source("/c/Flash")
    looker.find(0, name="Old")
    assert "Old" not in dialog.findings.text()
    looker.find(1)
    assert "Flash" in dialog.findings.text()


def test_what_is_missing_is_said_and_stops_it(dialog: ConvertDialog, looker: Looker) -> None:
    dialog.set_source("/c/Flash")
    looker.find(problems=[f"{n} is missing." for n in range(8)])
    assert "⚠ 5 is missing.\n⚠ and 2 more" in dialog.findings.text()
    assert not dialog.convert_button.isEnabled()
    dialog.set_source("/nowhere")
    looker.answers[-1][1](ErrorBody(code="model_file", text="There is no such folder; choose another."))
    assert dialog.findings.text() == "There is no such folder; choose another."
    assert not dialog.convert_button.isEnabled()


def test_an_unknown_release_is_asked_for(dialog: ConvertDialog, looker: Looker) -> None:
    assert dialog.release.isHidden()
    dialog.set_source("/c/mine")
    looker.find(release=None, release_problem="Unknown.", name="mine")
    assert not dialog.release.isHidden()
    assert not dialog.convert_button.isEnabled()
    dialog.release.setText("DeepSeek-V4-Flash-0731")
    assert dialog.convert_button.isEnabled()
    asked = dialog.asked().asked
    assert isinstance(asked, ConvertRequest)
    assert asked.release == "DeepSeek-V4-Flash-0731"


def test_every_field_has_a_name(dialog: ConvertDialog) -> None:
    for field in (dialog.source, dialog.target, dialog.dense, dialog.draft, dialog.release):
        assert field.accessibleName()


def test_an_answer_after_the_end_is_dropped(qtbot: QtBot, looker: Looker) -> None:
    dialog = ConvertDialog(looker)
    dialog.set_source("/c/Flash")
    dialog.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    looker.find()
    looker.answers[-1][1](ErrorBody(code="x", text="Too late."))
