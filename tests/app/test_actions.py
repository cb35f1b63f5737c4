"""The table of actions holds what it promises."""

from app.actions import ACTIONS, MENUS
from app.views.access_desk import AccessDesk
from app.views.commands import Commands
from app.views.desk import Desk
from app.views.help_desk import HelpDesk
from app.views.library_desk import LibraryDesk
from app.views.look import Look
from app.views.remote_desk import RemoteDesk
from app.views.settings_desk import SettingsDesk
from app.views.storage_desk import StorageDesk
from app.views.window import MainWindow


def test_every_action_has_a_shortcut_a_menu_and_words(qapp: object) -> None:
    for row in ACTIONS:
        assert row.sequences(), row.id
        assert row.menu in MENUS
        assert row.label
        assert row.tooltip


def test_no_shortcut_is_given_twice(qapp: object) -> None:
    keys = [(sequence.toString(), row.id) for row in ACTIONS for sequence in row.sequences()]
    assert len({key for key, _ in keys}) == len(keys), sorted(keys)


def test_no_id_and_no_mnemonic_of_a_menu_is_given_twice() -> None:
    assert len({row.id for row in ACTIONS}) == len(ACTIONS)
    for menu in MENUS:
        marks = [row.text[row.text.index("&") + 1].lower() for row in ACTIONS if row.menu == menu]
        assert len(set(marks)) == len(marks), (menu, sorted(marks))


def test_every_slot_is_there() -> None:
    doers = (
        MainWindow, Look, HelpDesk, SettingsDesk, Desk, Commands, LibraryDesk, StorageDesk, AccessDesk, RemoteDesk,
    )  # fmt: skip
    found = {row.slot: sum(hasattr(doer, row.slot) for doer in doers) for row in ACTIONS}
    assert {slot: count for slot, count in found.items() if count != 1} == {}


def test_what_the_issue_asks_for_is_there() -> None:
    ids = {row.id for row in ACTIONS}
    assert ids >= {
        "new", "rename", "delete", "undo_delete", "search", "next", "previous", "send", "stop", "retry",
        "continue", "edit_last", "copy_answer", "copy_conversation", "open_model", "choose_model", "settings",
        "toggle_sidebar", "focus_composer", "zoom_in", "zoom_out", "zoom_reset", "theme_system", "theme_light",
        "theme_dark", "restart_engine", "shortcuts", "about", "close", "quit",
    }  # fmt: skip
