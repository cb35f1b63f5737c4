"""The window: its layout, menus, and what it remembers.

Owns: the widgets' arrangement, the actions made from `app.actions`, geometry, dropped files, closing. Does not
talk to the engine: `desk.py` does, and is made after the first paint. Theme and zoom are `look.py`'s.
"""

import os
import sys
import time
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from PySide6.QtCore import QFileInfo, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QAction,
    QActionGroup,
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QMainWindow,
    QSplitter,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.actions import ACTIONS, MENUS, ActionRow
from app.composer_text import draft_of
from app.icons import application_icon, icon
from app.theme import Theme, ThemeChoice
from app.views.away_line import AwayLine
from app.views.composer import Composer
from app.views.help_desk import HelpDesk
from app.views.look import Look
from app.views.mode_switch import ModeSwitch
from app.views.model_picker import ContextMeter, ModelPicker
from app.views.notice import NoticeBar
from app.views.settings_desk import SettingsDesk
from app.views.sidebar import WIDTH_PX, Sidebar
from app.views.status_line import StatusLine
from app.views.transcript import TranscriptView
from app.window_state import WindowState
from engine.paths import DataFolder

if TYPE_CHECKING:
    from app.engine_watch import Launcher
    from app.views.access_page import AccessPage
    from app.views.desk import Desk
    from app.views.library_page import LibraryPage
    from app.views.outside_desk import OutsideDesk

FIRST_SIZE = QSize(1120, 760)
LEAST_SIZE = QSize(560, 420)
PURGE_WAIT_MS = 1000
DRAFT_PAUSE_MS = 1000
"""What is being written is kept so long after the last key, for a window that is killed."""
MODEL_SUFFIX = ".gguf"
TRACE_VARIABLE = "SEAMOUNT_TRACE_STARTUP"
"""Set it to have `first_paint SECONDS` (since the process began) written to stderr."""


class Themed(Protocol):
    """A part that is drawn in the window's look; it was made with the first one."""

    def set_theme(self, theme: Theme) -> None: ...


class MainWindow(QMainWindow):
    """One window on one data folder."""

    shown_first = Signal()
    """After the first paint; by then the desk is made and looks for the engine."""

    def __init__(self, folder: DataFolder, launcher: "Launcher | None" = None) -> None:
        super().__init__()
        self.folder = folder
        self.memory = WindowState(folder.window_state)
        self.desk: Desk | None = None
        self._launcher = launcher
        self._library_page: LibraryPage | None = None
        self._access_page: AccessPage | None = None
        self._outside: OutsideDesk | None = None
        self._handed_over: list[str] = []
        self.help = HelpDesk(self)
        self.settings = SettingsDesk(self)
        self._painted = False
        self._purged = False
        self._draft_soon = QTimer(self)
        self._draft_soon.setSingleShot(True)
        self._draft_soon.setInterval(DRAFT_PAUSE_MS)
        self._draft_soon.timeout.connect(self._keep_draft)
        # Before there are widgets: styling them afterwards costs time before the first paint.
        self.look = Look(self.memory, self)
        self.setWindowTitle("Seamount")
        self.setMinimumSize(LEAST_SIZE)
        self.setAcceptDrops(True)
        self._build()
        self.actions_by_id: dict[str, QAction] = {}
        self._build_actions()
        self._remember()
        self._show_theme(self.theme)
        self._tick_theme(self.memory.theme)
        self.look.changed.connect(self._set_theme)
        self.look.chosen.connect(self._tick_theme)
        self.composer.setFocus()

    # --- layout ---------------------------------------------------------------------------------------

    def _build(self) -> None:
        theme = self.theme
        self.sidebar = Sidebar(theme)
        self.picker = ModelPicker(theme)
        self.switch = ModeSwitch(theme)
        self.meter = ContextMeter(theme)
        self.transcript = TranscriptView(theme)
        self.notices = NoticeBar(theme)
        self.away = AwayLine(theme)
        self.composer = Composer(theme)
        self.status = StatusLine(theme)
        self._sidebar_button = QToolButton()
        self._sidebar_button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        head = QHBoxLayout()
        head.setContentsMargins(8, 6, 16, 6)
        head.setSpacing(8)
        head.addWidget(self._sidebar_button)
        head.addWidget(self.picker)
        head.addWidget(self.switch)
        head.addStretch(1)
        head.addWidget(self.meter)
        self._talk = QWidget()
        talk = QVBoxLayout(self._talk)
        talk.setContentsMargins(0, 0, 0, 0)
        talk.setSpacing(8)
        talk.addWidget(self.away)
        talk.addWidget(self.composer)
        self._column = QWidget()
        column = QVBoxLayout(self._column)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.notices)
        column.addWidget(self._talk)
        column.addWidget(self.status)
        foot = QHBoxLayout()
        foot.setContentsMargins(16, 4, 16, 8)
        foot.addStretch(1)
        foot.addWidget(self._column, 1000)
        foot.addStretch(1)
        page = QWidget()
        rows = QVBoxLayout(page)
        rows.setContentsMargins(0, 0, 0, 0)
        rows.setSpacing(0)
        rows.addLayout(head)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.transcript)
        rows.addWidget(self.pages, 1)
        rows.addLayout(foot)
        self.splitter = QSplitter(Qt.Orientation.Horizontal)
        self.splitter.setHandleWidth(1)
        self.splitter.addWidget(self.sidebar)
        self.splitter.addWidget(page)
        self.splitter.setStretchFactor(1, 1)
        self.splitter.setCollapsible(0, False)
        self.splitter.setCollapsible(1, False)
        self.splitter.setSizes([WIDTH_PX, FIRST_SIZE.width() - WIDTH_PX])
        self.setCentralWidget(self.splitter)
        order = (
            self.sidebar.new_button, self.sidebar.library_button, self.sidebar.programs_button,
            self.sidebar.search, self.sidebar.list, self._sidebar_button,
            self.picker, self.switch, self.transcript, self.composer.edit, self.composer.button,
            self.status.sign.words_button, self.status.sign.end_button,
        )  # fmt: skip
        for before, after in pairwise(order):
            QWidget.setTabOrder(before, after)
        self.composer.send_requested.connect(self._sent_early)
        self.picker.add_requested.connect(self.open_model)

    def _build_actions(self) -> None:
        menus = {name: self.menuBar().addMenu(f"&{name}") for name in MENUS}
        roles = {
            "quit": QAction.MenuRole.QuitRole,
            "about": QAction.MenuRole.AboutRole,
            "preferences": QAction.MenuRole.PreferencesRole,
        }
        themes = QActionGroup(self)
        for row in ACTIONS:
            action = QAction(row.text, self)
            action.setShortcuts(row.sequences())
            action.setToolTip(row.tooltip)
            action.setStatusTip("")
            action.setCheckable(row.checkable)
            action.setMenuRole(roles.get(row.role, QAction.MenuRole.NoRole))
            action.triggered.connect(partial(self._do, row))
            if row.separated:
                menus[row.menu].addSeparator()
            menus[row.menu].addAction(action)
            if row.id.startswith("theme_"):
                themes.addAction(action)
            self.actions_by_id[row.id] = action
        toggle = self.actions_by_id["toggle_sidebar"]
        self._sidebar_button.clicked.connect(toggle.trigger)
        self._sidebar_button.setToolTip(toggle.toolTip())
        self._sidebar_button.setAccessibleName(toggle.toolTip())
        self.update_actions()

    def _do(self, row: ActionRow) -> None:
        """Carry out an action, here or at the desk."""
        desk = self.desk
        for doer in (
            self,
            self.look,
            self.help,
            self.settings,
            desk,
            desk and desk.commands,
            desk and desk.library,
            desk and desk.access,
            desk and desk.remotes,
            desk and desk.storage,
        ):
            method = getattr(doer, row.slot, None)
            if method is not None:
                method()
                return

    def update_actions(self) -> None:
        """Enable what makes sense now."""
        for row in ACTIONS:
            self.actions_by_id[row.id].setEnabled(
                any(hasattr(doer, row.slot) for doer in (self, self.look, self.help, self.settings))
                if self.desk is None
                else self.desk.commands.can(row.id)
            )
            if self.desk is not None and row.id.startswith("mode_"):
                self.actions_by_id[row.id].setChecked(self.desk.commands.is_chosen(row.id))

    # --- first paint and the desk ---------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        """The first one is what a person waits for; everything else begins after it."""
        super().paintEvent(event)
        if not self._painted:
            self._painted = True
            QTimer.singleShot(0, self, lambda: self._after_first_paint())

    def _after_first_paint(self) -> None:
        if os.environ.get(TRACE_VARIABLE):
            import psutil

            seconds = time.time() - psutil.Process().create_time()
            sys.stderr.write(f"first_paint {seconds:.3f}\n")
            sys.stderr.flush()
        from app.views.desk import Desk, Parts
        from app.views.outside_desk import OutsideDesk
        from app.views.update_news import UpdateNews

        parts = Parts(
            self.sidebar, self.picker, self.switch, self.meter, self.transcript, self.notices, self.composer,
            self.status, self.away, self._make_access, self._make_library, lambda: self.look.theme,
        )  # fmt: skip
        self.desk = Desk(parts, self.folder, self.memory, self, self._launcher)
        self.composer.send_requested.disconnect(self._sent_early)
        self.desk.changed.connect(self.update_actions)
        for page in (self.desk.library, self.desk.access):
            page.left.connect(self._show_conversation)
        self.desk.library.opened.connect(self._show_library)
        self.desk.access.opened.connect(self._show_access)
        self.desk.storage.encryption_told.connect(self._keep_or_drop_drafts)
        self.help.desk = self.settings.desk = self.desk
        self._news = UpdateNews(self.desk.watch, self.notices, self.memory, self)
        self.update_actions()
        self.desk.begin()
        self._outside = OutsideDesk(self.desk, self)
        for request in self._handed_over:
            self._outside.take(request)
        self.setWindowIcon(application_icon())
        self.shown_first.emit()

    def _sent_early(self, text: str) -> None:
        self.composer.give_back(text)

    # --- actions of the window itself -----------------------------------------------------------------

    def send(self) -> None:
        """What stands in the composer, where it is seen."""
        if self.composer.isVisible():
            self.composer.send()

    def focus_composer(self) -> None:
        """The cursor into the composer."""
        if self.desk is not None:
            self.desk.show_conversation()
        self.composer.setFocus(Qt.FocusReason.ShortcutFocusReason)

    def search_conversations(self) -> None:
        """The cursor into the search field."""
        self._show_sidebar(True)
        self.sidebar.search.setFocus(Qt.FocusReason.ShortcutFocusReason)
        self.sidebar.search.selectAll()

    def toggle_sidebar(self) -> None:
        """Show or hide the conversations."""
        self._show_sidebar(self.sidebar.isHidden())

    def choose_model(self) -> None:
        """Open the list of models."""
        self.picker.showMenu()

    def open_model(self) -> None:
        """Choose a GGUF file."""
        from PySide6.QtWidgets import QFileDialog

        dialog = QFileDialog(self, "Add a GGUF file", "", f"Model files (*{MODEL_SUFFIX});;All files (*)")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._add_model)
        dialog.open()

    def open_outside(self, request: str) -> None:
        """Open a link or a model's file that was handed over; after the first paint where that is still to come."""
        if self._outside is not None:
            self._outside.take(request)
        else:
            self._handed_over.append(request)

    def close_window(self) -> None:
        """Close."""
        self.close()

    def quit(self) -> None:
        """Close every window."""
        QApplication.closeAllWindows()

    def _make_library(self) -> "LibraryPage":
        from app.views.library_page import LibraryPage

        self._library_page = LibraryPage(self.theme)
        self.pages.addWidget(self._library_page)
        return self._library_page

    def _make_access(self) -> "AccessPage":
        from app.views.access_page import AccessPage

        self._access_page = AccessPage(self.theme)
        self.pages.addWidget(self._access_page)
        return self._access_page

    def _show_library(self) -> None:
        if self._library_page is not None:
            self._show_page(self._library_page)
            self.sidebar.set_library_open(True)

    def _show_access(self) -> None:
        if self._access_page is not None:
            self._show_page(self._access_page)
            self.sidebar.set_programs_open(True)

    def _show_page(self, page: QWidget) -> None:
        """Instead of the conversation, which is what is written to and what leaves the machine."""
        self.pages.setCurrentWidget(page)
        self._talk.hide()

    def _show_conversation(self) -> None:
        self.pages.setCurrentWidget(self.transcript)
        self._talk.show()
        self.composer.setFocus()
        self.sidebar.set_library_open(False)
        self.sidebar.set_programs_open(False)

    def _add_model(self, path: str) -> None:
        if self.desk is not None:
            self.desk.add_model(path)

    # --- look -----------------------------------------------------------------------------------------

    @property
    def theme(self) -> Theme:
        """The look of this moment."""
        return self.look.theme

    def _parts(self) -> tuple[Themed, ...]:
        pages = (page for page in (self._library_page, self._access_page) if page is not None)
        return (
            self.sidebar, self.picker, self.switch, self.meter, self.transcript, self.notices, self.away,
            self.composer, self.status, *pages,
        )  # fmt: skip

    def _set_theme(self, theme: Theme) -> None:
        for part in self._parts():
            part.set_theme(theme)
        self._show_theme(theme)

    def _show_theme(self, theme: Theme) -> None:
        self._column.setMaximumWidth(theme.column_px + 24)
        self._sidebar_button.setIcon(icon("sidebar", theme.muted))

    def _tick_theme(self, choice: ThemeChoice) -> None:
        self.actions_by_id[f"theme_{choice}"].setChecked(True)

    # --- memory, files, closing -----------------------------------------------------------------------

    def _remember(self) -> None:
        if not self.restoreGeometry(self.memory.geometry):
            self.resize(FIRST_SIZE)
        self.splitter.restoreState(self.memory.splitter)
        self._show_sidebar(self.memory.sidebar_shown)
        self.composer.set_draft(draft_of(self.memory.draft))
        self.composer.changed.connect(self._draft_soon.start)

    def _keep_draft(self) -> None:
        self.memory.draft = self.composer.draft.text
        self.memory.save()

    def _keep_or_drop_drafts(self, encrypted: bool) -> None:
        if self.memory.keeps_draft == encrypted:
            self.memory.keeps_draft = not encrypted
            self._keep_draft()

    def _show_sidebar(self, shown: bool) -> None:
        self.sidebar.setVisible(shown)
        self.actions_by_id["toggle_sidebar"].setChecked(shown)
        self.memory.sidebar_shown = shown

    def resizeEvent(self, event: QResizeEvent) -> None:
        """What is said may take half of the height."""
        super().resizeEvent(event)
        self.notices.set_room(event.size().height() // 2)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Model files, checkpoints' folders and links to models may be dropped."""
        if _model_files(event) or _model_link(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take them into the library."""
        for path in _model_files(event):
            if self.desk is not None:
                self.desk.take_in(path)
        if link := _model_link(event):
            self.open_outside(link)
        event.acceptProposedAction()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Remember; purge what was deleted here; let go of the engine, which ends by itself."""
        desk = self.desk
        if desk is not None and not desk.access.may_close(self.close_window):
            event.ignore()
            return
        if desk is not None and not self._purged:
            self._save()
            self._purged = True
            if desk.catalogue.can_undo:
                # It stays in sight for that moment: Qt ends the program with the last window that is closed,
                # and one that was hidden before does not count.
                event.ignore()
                QTimer.singleShot(PURGE_WAIT_MS, self, lambda: self.close())
                desk.close(self.close_window)
                return
        if desk is not None:
            desk.drop_engine()
        super().closeEvent(event)

    def _save(self) -> None:
        self.memory.geometry = self.saveGeometry()
        self.memory.splitter = self.splitter.saveState()
        if self.desk is not None:
            self.memory.session_id = self.desk.session_id
        self.memory.draft = self.composer.draft.text
        self.memory.save()


def _model_files(event: QDropEvent) -> list[str]:
    urls = event.mimeData().urls()
    paths = [url.toLocalFile() for url in urls if url.isLocalFile()]
    return [path for path in paths if path.lower().endswith(MODEL_SUFFIX) or QFileInfo(path).isDir()]


def _model_link(event: QDropEvent) -> str:
    from engine.outside_request import SCHEME

    urls = event.mimeData().urls()
    dropped = urls[0].toString() if urls else event.mimeData().text().strip()
    return dropped if dropped.lower().startswith(f"{SCHEME}:") else ""
