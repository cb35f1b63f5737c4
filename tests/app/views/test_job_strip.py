"""What runs, in sight all the time."""

from pytestqt.qtbot import QtBot

from app.views.job_strip import JobStrip


def test_it_is_there_while_something_runs(qtbot: QtBot) -> None:
    strip = JobStrip()
    qtbot.addWidget(strip)
    assert strip.isHidden()
    strip.show_words("Flash", "Downloading Flash: 3 of 10 GB", 0.3, 2)
    assert not strip.isHidden()
    assert (strip.line.words(), strip.share.text(), strip.bar.value()) == ("Flash", "30% +2", 300)
    assert strip.accessibleName() == strip.toolTip() == "Downloading Flash: 3 of 10 GB"
    assert strip.sizeHint().height() >= strip.line.sizeHint().height() + strip.bar.sizeHint().height()
    assert strip.minimumSizeHint().width() < 120
    strip.show_words("Flash", "Downloading", 0.5)
    assert strip.share.text() == "50%"
    strip.show_words("", "", 0)
    assert strip.isHidden()
