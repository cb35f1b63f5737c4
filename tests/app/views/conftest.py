"""What tests of the transcript's parts share: messages, and a page to show them on."""

from collections.abc import Callable
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.theme import Theme
from app.transcript_model import ShownMessage
from app.views.transcript import TranscriptView


@pytest.fixture
def answer() -> Callable[..., ShownMessage]:
    """Makes an answer: `answer("text", reasoning=…, calls=…)`."""

    def make(text: str = "", name: str = "a", **more: Any) -> ShownMessage:
        fields = {
            "role": "assistant", "status": "complete", "error_text": None, "note": None, "version": 1,
            "version_count": 1, "previous_id": None, "next_id": None,
        }  # fmt: skip
        return ShownMessage(id=name, text=text, **{**fields, **more})

    return make


@pytest.fixture
def page_view(qtbot: QtBot) -> TranscriptView:
    """A transcript on the screen."""
    made = TranscriptView(Theme.light())
    made.resize(900, 600)
    qtbot.addWidget(made)
    made.show()
    qtbot.waitExposed(made)
    return made
