"""The placement's form."""

from collections.abc import Callable
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views.placement_dialog import BUDGET_STEPS, PlacementDialog
from app.views.style import stylesheet
from engine.protocol import ErrorBody
from engine.protocol_placement import Choices, HardwareState, Placement

GB = 1_000_000_000
SPAN = {"low": 1, "likely": 2, "high": 4}
FORECAST: dict[str, Any] = {
    "decode_tokens_per_s": SPAN, "prefill_tokens_per_s": SPAN, "prompt_tokens": 1000, "first_token_s": SPAN,
    "long_tokens": 100_000, "load_s": SPAN, "ram_bytes": GB, "disk_bytes": GB,
    "disk_bytes_per_token": {"low": 0, "likely": 0, "high": 0},
}  # fmt: skip
PLACEMENT: dict[str, Any] = {
    "model_id": "m", "name": "Flash", "choices": {}, "context_tokens": 8192, "cache_type": "f16", "threads": 4,
    "limits": {"context_tokens": 1_048_576}, "forecast": FORECAST,
    "reasons": [{"what": "Experts fill what is left", "why": "each word needs a few"}],
    "places": [{"kind": "ram", "name": "Memory", "total_bytes": 64 * GB, "used_bytes": 8 * GB,
                "parts": [{"what": "experts", "size_bytes": 30 * GB, "layers": 43}]}],
}  # fmt: skip
GPU: dict[str, Any] = {"limits": {"context_tokens": 1_048_576, "gpu_budget_bytes": 24 * GB}}


def placement(**more: Any) -> Placement:
    return Placement.model_validate(PLACEMENT | more)


@pytest.fixture
def made(qtbot: QtBot) -> Callable[..., PlacementDialog]:
    def make(**more: Any) -> PlacementDialog:
        dialog = PlacementDialog("Flash", Theme.light(), is_offer=more.pop("is_offer", False))
        qtbot.addWidget(dialog)
        dialog.show()
        dialog.show_placement(placement(**more))
        return dialog

    return make


def changes(dialog: PlacementDialog) -> list[Choices]:
    told: list[Choices] = []
    dialog.changed.connect(told.append)
    return told


def test_nothing_can_be_chosen_before_it_is_known(qtbot: QtBot) -> None:
    dialog = PlacementDialog("Flash", Theme.dark())
    qtbot.addWidget(dialog)
    dialog.show()
    assert not dialog.context_slider.isEnabled() and not dialog.use_button.isEnabled()
    assert dialog.note.text() == "Looking at this machine…"
    dialog.show_trouble(ErrorBody(code="model_file", text="It is cut off; fetch it again."))
    assert dialog.message.text() == "It is cut off; fetch it again."
    assert dialog.note.isHidden() and not dialog.use_button.isEnabled()


def test_the_first_placement_sets_the_sliders_and_tells_of_no_change(
    made: Callable[..., PlacementDialog],
) -> None:
    dialog = made(context_tokens=32_768, cache_type="q8_0")
    told = changes(dialog)
    assert dialog.context.value() == 32_768
    assert dialog.context.maximum() == 1_048_576
    assert dialog.cache_type.currentData() == "q8_0"
    assert dialog.choices() == Choices()
    dialog.show_placement(placement(context_tokens=4096))
    assert dialog.context.value() == 32_768  # it is the person's now
    assert told == []
    assert dialog.bars.rows[0].legend()[1] == "experts 30.0 GB"


def test_sliders_and_boxes_become_choices_of_this_model(made: Callable[..., PlacementDialog]) -> None:
    dialog = made(**GPU)
    told = changes(dialog)
    dialog.context_slider.setValue(dialog.context_slider.maximum())
    assert told[-1] == Choices(context_tokens=1_048_576)
    assert dialog.context.value() == 1_048_576
    dialog.context.setValue(16_384)
    assert told[-1] == Choices(context_tokens=16_384)
    dialog.cache_type.setCurrentIndex(1)
    dialog.cache_type.activated.emit(1)
    dialog.budget_slider.setValue(BUDGET_STEPS // 2)
    assert dialog.budget_words.text() == "12.0 GB"
    dialog.favour.setCurrentIndex(2)
    dialog.favour.activated.emit(2)
    wanted = Choices(context_tokens=16_384, cache_type="q8_0", gpu_budget_bytes=12 * GB, favour="prompts")
    assert told[-1] == dialog.choices() == wanted
    dialog.budget_slider.setValue(0)
    assert dialog.budget_words.text() == "none: the processor alone"
    dialog.budget_slider.setValue(BUDGET_STEPS)
    assert told[-1].gpu_budget_bytes is None


def test_without_a_gpu_nothing_is_said_of_one(made: Callable[..., PlacementDialog]) -> None:
    bare, with_gpu = made(), made(**GPU)
    assert bare.budget_slider.isHidden() and bare.favour.isHidden()
    assert not with_gpu.budget_slider.isHidden() and not with_gpu.favour.isHidden()


def test_what_was_kept_stays_until_it_is_reset(made: Callable[..., PlacementDialog]) -> None:
    kept = Choices(context_tokens=2048, threads=3)
    dialog = made(choices=kept.model_dump(), context_tokens=2048)
    told = changes(dialog)
    dialog.context.setValue(4096)
    assert told[-1] == Choices(context_tokens=4096, threads=3)
    dialog.reset_button.click()
    assert told[-1] == Choices()
    dialog.show_placement(placement(context_tokens=8192))
    assert dialog.context.value() == 8192
    used: list[Choices] = []
    dialog.use_requested.connect(used.append)
    dialog.use_button.click()
    assert used == [Choices()]
    assert not dialog.use_button.isEnabled()
    dialog.show_refusal(ErrorBody(code="disk_full", text="The disk is full; free some space."))
    assert dialog.message.text() == "The disk is full; free some space."
    assert dialog.use_button.isEnabled()


def test_what_does_not_fit_is_said_and_cannot_be_used(made: Callable[..., PlacementDialog]) -> None:
    dialog = made(
        problem={"code": "does_not_fit", "text": "It does not fit: too large; choose less."}, forecast=None
    )
    assert dialog.problem.text() == "It does not fit: too large; choose less."
    assert dialog.problem.property("danger")
    assert not dialog.use_button.isEnabled() and dialog.context_slider.isEnabled()
    assert dialog.headline.isHidden() and dialog.forecast_title.isHidden()
    dialog.show_placement(placement())
    assert dialog.problem.isHidden() and dialog.use_button.isEnabled()


def test_the_forecast_follows_and_reasons_come_when_asked_for(made: Callable[..., PlacementDialog]) -> None:
    dialog = made()
    rows = {one.text(): other.text() for one, other in dialog.forecast_labels if not one.isHidden()}
    assert rows["Writes"] == "1.0 to 4.0 (2.0) tokens a second"
    assert dialog.headline.text() == "Writes about 2.0 tokens a second; the first comes after about 2.0 s."
    faster = FORECAST | {"decode_tokens_per_s": {"low": 30, "likely": 40, "high": 50}}
    dialog.show_placement(placement(forecast=faster))
    assert dialog.forecast_labels[0][1].text() == "30 to 50 (40) tokens a second"
    assert dialog.reasons.isHidden()
    dialog.reasons_button.click()
    assert dialog.reasons.text() == "•  Experts fill what is left: each word needs a few."
    assert not dialog.reasons.isHidden()
    dialog.show_placement(placement(reasons=[]))
    assert dialog.reasons_button.isHidden() and dialog.reasons.isHidden()


def test_a_machine_that_was_not_measured_can_be(made: Callable[..., PlacementDialog]) -> None:
    dialog = made(forecast=None, forecast_problem="Nothing is foretold: not measured yet.")
    asked: list[str] = []
    dialog.measure_requested.connect(lambda: asked.append("measure"))
    dialog.stop_requested.connect(lambda: asked.append("stop"))
    assert dialog.note.text() == "Nothing is foretold: not measured yet."
    dialog.measure_button.click()
    dialog.show_hardware(HardwareState(measuring=True, step="disk"))
    assert "disk" in dialog.hardware.text() and dialog.is_measuring
    dialog.measure_button.click()
    assert asked == ["measure", "stop"]
    failed = ErrorBody(code="hardware", text="It cannot be measured: no room; close other programs.")
    dialog.show_hardware(HardwareState(error=failed))
    assert dialog.hardware.text() == failed.text
    dialog.show_hardware(HardwareState(measured_at=1_750_000_000))
    assert dialog.hardware.text().startswith("This machine was measured on ")
    dialog.show_placement(placement())
    assert (
        dialog.measure_button.text() == "&Measure this machine"
    )  # on a quieter day it may be measured again


def test_nothing_is_kept_for_what_is_not_here(made: Callable[..., PlacementDialog]) -> None:
    assert made(is_offer=True).use_button.isHidden()
    assert not made().use_button.isHidden()


def test_all_of_it_is_reached_by_the_keyboard_and_has_a_name(
    qtbot: QtBot, made: Callable[..., PlacementDialog]
) -> None:
    dialog = made(**GPU)
    fields = [
        dialog.context_slider, dialog.context, dialog.cache_type, dialog.budget_slider, dialog.favour,
        dialog.measure_button, dialog.reasons_button, dialog.reset_button, dialog.use_button,
    ]  # fmt: skip
    assert all(field.focusPolicy() & Qt.FocusPolicy.TabFocus for field in fields)
    assert all(field.accessibleName() or getattr(field, "text", str)() for field in fields)
    assert dialog.budget_slider.accessibleDescription() == "all that is free, 24.0 GB"
    told = changes(dialog)
    qtbot.keyClick(dialog.context_slider, Qt.Key.Key_Right)
    assert told and told[-1].context_tokens is not None
    qtbot.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_form_is_not_cut_off_at_its_side(
    qtbot: QtBot, qapp: QApplication, made: Callable[..., PlacementDialog], scale: float
) -> None:
    before = qapp.font()
    try:
        qapp.setFont(Theme.light().text_font(scale))
        dialog = made(**GPU)
        qtbot.waitExposed(dialog)
        form = dialog.area.widget()
        qtbot.waitUntil(lambda: form.width() <= dialog.area.viewport().width())
        assert form.minimumSizeHint().width() <= dialog.area.viewport().width()
    finally:
        qapp.setFont(before)


def test_tab_reaches_every_button(qtbot: QtBot) -> None:
    dialog = PlacementDialog("Flash", Theme.light())
    qtbot.addWidget(dialog)
    dialog.setStyleSheet(stylesheet(Theme.light()))  # lays the buttons out anew, as the program's does
    dialog.show()
    dialog.show_placement(placement())
    dialog.activateWindow()
    reached: set[str] = set()
    for _ in range(20):
        field = dialog.focusWidget()
        assert field is not None
        reached.add(field.text() if isinstance(field, QPushButton) else field.accessibleName())
        qtbot.keyClick(field, Qt.Key.Key_Tab)
    wanted = {
        "Context",
        "Context in tokens",
        "Conversation is kept in",
        "&Why it is so",
        "&Reset",
        "Close",
        "&Use",
    }
    assert reached >= wanted


def test_why_a_choice_was_refused_stays_until_another_one(made: Callable[..., PlacementDialog]) -> None:
    dialog = made()
    dialog.use_button.click()
    dialog.show_placement(placement())  # a rehearsal that was under way
    assert not dialog.use_button.isEnabled()
    dialog.show_refusal(ErrorBody(code="does_not_fit", text="It does not fit."))
    dialog.show_placement(placement())
    assert dialog.use_button.isEnabled()
    assert dialog.message.text() == "It does not fit." and not dialog.message.isHidden()
    dialog.context.setValue(4096)
    dialog.show_placement(placement(context_tokens=4096))
    assert dialog.message.isHidden()
