"""What lies here: one card for each."""

from typing import Any

from pytestqt.qtbot import QtBot

from app.views.item_card import ItemCard
from engine.protocol_library import LibraryItem

ITEM: dict[str, Any] = {
    "id": "m1", "kind": "model", "name": "flash", "path": "/m/flash.gguf", "size_bytes": 5,
    "repository": "a/flash",
}  # fmt: skip
EXACT = {"lossless": True, "exact": 9, "approximate": 0, "worst_relative_rms": 0.0}


def made(qtbot: QtBot, *, loaded: bool = False, **more: Any) -> ItemCard:
    card = ItemCard((LibraryItem.model_validate({**ITEM, **more}), loaded))
    qtbot.addWidget(card)
    return card


def offers(card: ItemCard) -> list[str]:
    return [button.text() for button in card.buttons() if not button.isHidden()]


def rows(card: ItemCard) -> dict[str, bool]:
    return {action.text(): action.isEnabled() for action in card.menu().actions()}


def test_what_it_is_decides_what_can_be_done(qtbot: QtBot) -> None:
    assert offers(made(qtbot)) == ["Use", "More"]
    assert offers(made(qtbot, loaded=True)) == ["More"]
    assert offers(made(qtbot, kind="checkpoint")) == ["Convert…", "More"]
    assert offers(made(qtbot, kind="checkpoint", complete=False)) == ["More"]
    broken = made(qtbot, problem={"code": "model_file", "text": "It is cut off; fetch it again."})
    assert offers(broken) == ["More"]
    assert broken.problem.text() == "It is cut off; fetch it again."
    assert broken.problem.property("danger")


def test_the_badge_comes_from_the_receipt_alone(qtbot: QtBot) -> None:
    card = made(qtbot)
    assert card.badge.isHidden()
    card.show_entry((LibraryItem.model_validate({**ITEM, "exactness": EXACT}), True))
    assert card.badge.text() == "✓ Exact"
    assert "All 9 tensors" in card.badge.toolTip()
    assert not card.loaded.isHidden()
    assert card.accessibleName() == "flash, loaded"


def test_the_menu_says_why_something_cannot_be_done(qtbot: QtBot) -> None:
    assert rows(made(qtbot)) == {
        "Placement and speed…": True, "Verify": True, "Show in folder": True, "Move to another folder…": True,
        "Remove…": True,
    }  # fmt: skip
    assert rows(made(qtbot, in_use=True, repository=None)) == {
        "Placement and speed…": True, "Verify (nothing to check it against)": False, "Show in folder": True,
        "Move to another folder (in use now)": False, "Remove (in use now)": False,
    }  # fmt: skip
    fixed = rows(made(qtbot, removable=False, movable=False))
    assert not fixed["Move to another folder (cannot be moved)"]
    assert not fixed["Remove (comes with the program)"]
    broken = rows(made(qtbot, problem={"code": "model_file", "text": "It is cut off; fetch it again."}))
    assert not broken["Placement and speed (for a model that can be loaded)"]


def test_each_button_and_row_asks(qtbot: QtBot) -> None:
    card = made(qtbot)
    asked: list[tuple[str, LibraryItem]] = []
    card.asked.connect(lambda verb, item: asked.append((verb, item)))
    card.use_button.click()
    card.convert_button.click()
    for action in card.menu().actions():
        action.trigger()
    assert [verb for verb, _ in asked] == [
        "use",
        "convert",
        "placement",
        "verify",
        "reveal",
        "move",
        "remove",
    ]
    assert {item.id for _, item in asked} == {"m1"}
    assert card.more_button.accessibleName() == "More: flash"


def test_a_long_path_is_told_whole(qtbot: QtBot) -> None:
    path = "/very/long/folder" * 30 + "/flash.gguf"
    card = made(qtbot, path=path)
    assert card.path.toolTip().replace("\u200b", "") == path
    assert card.minimumSizeHint().width() < 300
