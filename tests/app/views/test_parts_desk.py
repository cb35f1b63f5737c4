"""The row of an optional part and the engine, together."""

from typing import Any

from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.views import parts_desk
from app.views.part_row import PartRow


def test_from_a_click_to_what_is_there(qtbot: QtBot, fake_engine: Any) -> None:
    api = EngineApi()
    api.connect_to(fake_engine.url, fake_engine.key)
    row = PartRow()
    qtbot.addWidget(row)
    row.show()
    parts_desk.fill(row, api)
    qtbot.waitUntil(row.install_button.isVisible)
    row.variant.setCurrentIndex(1)
    row.install_button.click()
    qtbot.waitUntil(row.stop_button.isVisible)
    assert fake_engine.part["task"]["variant"] == "cuda"
    row.stop_button.click()
    qtbot.waitUntil(row.install_button.isVisible)
    assert row.state.text().startswith("Stopped.")
    fake_engine.part |= {"state": "installed", "version": "2.13.0", "task": None}
    parts_desk.fill(row, api)
    qtbot.waitUntil(row.remove_button.isVisible)
    row.remove_button.click()
    qtbot.waitUntil(lambda: fake_engine.part["state"] == "absent" and row.install_button.isVisible())
    api.close()
