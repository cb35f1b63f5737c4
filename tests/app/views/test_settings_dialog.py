"""The settings form."""

from PySide6.QtCore import QPoint, QRect
from PySide6.QtWidgets import QLabel, QScrollArea, QWidget
from pytestqt.qtbot import QtBot

from app.views.settings_dialog import SettingsDialog
from engine.protocol import LoadedModel, ModeChoice, Sampling, Settings


def made(qtbot: QtBot, settings: Settings) -> SettingsDialog:
    dialog = SettingsDialog(settings, None)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def test_untouched_settings_stay_what_they_are(qtbot: QtBot) -> None:
    for settings in (
        Settings(),
        Settings(model_id="m", sampling=Sampling(temperature=0, top_p=1, min_p=0, seed=7), threads=3),
        Settings(system_message="Zeile\nzwei", context_tokens=32768),
    ):
        assert made(qtbot, settings).settings() == settings


def test_what_suits_the_model_is_no_number(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings(sampling=Sampling(temperature=1.5)))
    assert dialog.temperature.isEnabled()
    dialog.suits.setChecked(True)
    assert not dialog.temperature.isEnabled()
    assert dialog.settings().sampling is None


def test_apply_asks_and_a_refusal_keeps_what_was_typed(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    asked: list[Settings] = []
    dialog.applied.connect(asked.append)
    dialog.suits.setChecked(False)
    dialog.temperature.setValue(0.3)
    dialog.context.setValue(4096)
    dialog.apply_button.click()
    assert asked[0].sampling == Sampling(temperature=0.3)
    assert asked[0].context_tokens == 4096
    assert not dialog.apply_button.isEnabled()
    dialog.refuse("The disk is full.")
    assert dialog.message.text() == "The disk is full."
    assert dialog.apply_button.isEnabled()
    assert dialog.temperature.value() == 0.3


def test_every_field_has_a_name_and_a_caption(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    buddies = [label.buddy() for label in dialog.findChildren(QLabel) if label.buddy()]
    assert len(buddies) == 22
    assert all(field.accessibleName() for field in buddies)


def test_nothing_in_the_form_overlaps(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    qtbot.waitExposed(dialog)
    hints = [label for label in dialog.findChildren(QLabel) if label.isVisible() and not label.buddy()]
    assert hints

    def place(widget: QWidget) -> QRect:
        return QRect(widget.mapTo(dialog, QPoint()), widget.size())

    assert not any(place(hint).intersects(place(dialog.system_message)) for hint in hints)


def test_a_model_with_modes_has_all_its_rows_in_a_small_screens_height(qtbot: QtBot) -> None:
    model = LoadedModel(
        id="m",
        name="M",
        context_tokens=1,
        threads=1,
        backend="b",
        modes=[ModeChoice(mode="high", problem=None)],
    )
    dialog = SettingsDialog(Settings(), model)
    qtbot.addWidget(dialog)
    dialog.show()
    assert dialog.thinking.isVisible() and dialog.titles.isVisible()
    assert dialog.sizeHint().height() <= 660
    area = dialog.tabs.widget(0)
    assert isinstance(area, QScrollArea)
    bar = area.verticalScrollBar()
    dialog.resize(dialog.width(), 420)
    qtbot.waitUntil(lambda: bar.maximum() > 0)


def test_what_suits_the_model_is_shown_while_nothing_else_is_chosen(qtbot: QtBot) -> None:
    model = LoadedModel(
        id="m", name="M", context_tokens=1, threads=1, backend="b",
        suited_sampling=Sampling(temperature=0.25, top_p=0.5, min_p=0.125),
    )  # fmt: skip
    dialog = SettingsDialog(Settings(), model)
    qtbot.addWidget(dialog)
    assert [f.value() for f in (dialog.temperature, dialog.top_p)] == [0.25, 0.5]
    assert not dialog.temperature.isEnabled()
