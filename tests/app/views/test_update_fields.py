"""The setting of newer versions says who is asked."""

from pytestqt.qtbot import QtBot

from app.views.update_fields import NO_ADDRESS, UpdateFields, words_of
from engine.protocol import Settings
from engine.protocol_about import UpdateFound, UpdateState

FEED = "https://example.org/feed.json"


def test_off_unless_chosen(qtbot: QtBot) -> None:
    fields = UpdateFields(Settings())
    assert fields.values() == {"look_for_updates": False}
    fields.looks.click()
    assert fields.values() == {"look_for_updates": True}
    fields.show(UpdateState(asks=False))
    assert fields.state.text().replace("\u200b", "") == NO_ADDRESS
    for _, field, _ in fields.rows:
        qtbot.addWidget(field)


def test_what_is_so() -> None:
    assert "example.org is asked" in words_of(UpdateState(asks=False, address=FEED))
    problem = UpdateState(asks=True, address=FEED, problem="It is not known: why.", looked_at=1.0)
    assert words_of(problem).endswith("It is not known: why.")
    found = UpdateFound(version="9.9.9")
    assert words_of(UpdateState(asks=True, address=FEED, found=found, looked_at=1.0)).endswith(
        "9.9.9 is there."
    )
    assert "this is the newest" in words_of(UpdateState(asks=True, address=FEED, looked_at=1e9))
