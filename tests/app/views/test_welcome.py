"""What the welcome shows."""

from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.views.welcome import Welcome
from engine.protocol_library import HubState, Library, MachineSummary, Offer

MACHINE = MachineSummary(processor="CPU", cores=8, memory_bytes=64 * 10**9)
FLASH = Offer(
    name="flash", title="Flash", kind="checkpoint", repository="a/f", revision="main", download_bytes=10**11
)


def library(*offers: Offer) -> Library:
    return Library(items=[], offers=list(offers), rooms=[], hub=HubState(endpoint="h"), machine=MACHINE)


def test_with_a_starter_and_offers(qtbot: QtBot) -> None:
    shown = Welcome(Theme.light())
    qtbot.addWidget(shown)
    shown.show_library(library(FLASH), "Starter")
    assert "Starter is ready" in shown.start.text()
    assert list(shown.offers.cards) == ["flash"]
    for button, signal in (
        (shown.away_button, shown.put_away),
        (shown.library_button, shown.library_requested),
    ):
        with qtbot.waitSignal(signal):
            button.click()


def test_without_either_nothing_is_promised(qtbot: QtBot) -> None:
    shown = Welcome(Theme.light())
    qtbot.addWidget(shown)
    shown.show_library(library(), "")
    assert shown.start.isHidden()
    assert shown.large.isHidden()
    assert shown.found.text() == "Found here: CPU (8 cores), 64.0 GB of memory."
