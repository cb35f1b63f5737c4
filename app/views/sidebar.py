"""The conversations at the left: new, search, and the list by day; the ways to the other pages, and what runs there.

Owns: the widgets and how a row is drawn. Does not fetch or change anything; it asks.
"""

from PySide6.QtCore import QEvent, QModelIndex, QPersistentModelIndex, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent, QPainter, QPaintEvent, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLineEdit,
    QListView,
    QMenu,
    QPushButton,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon
from app.session_list import SessionList, SessionRole
from app.theme import Theme
from app.views.job_strip import JobStrip
from app.views.style import CHROME_SCALE

WIDTH_PX = 260
LEAST_PX = 208
AROUND_NEW_PX = 64
"""Icon, padding and margins of the button for a new conversation."""
ROW_PX = 34
HEADING_PX = 34


class SearchField(QLineEdit):
    """Escape empties it before it means anything else; the arrow down goes into the list."""

    left_downwards = Signal()

    def event(self, event: QEvent) -> bool:
        """Keep Escape from being the window's shortcut while there is something to empty."""
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and isinstance(event, QKeyEvent)
            and event.key() == Qt.Key.Key_Escape
            and self.text()
        ):
            event.accept()
            return True
        return super().event(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape and arrow down; the rest is a line edit's."""
        if event.key() == Qt.Key.Key_Escape and self.text():
            self.clear()
        elif event.key() == Qt.Key.Key_Down:
            self.left_downwards.emit()
        else:
            super().keyPressEvent(event)


class RowDelegate(QStyledItemDelegate):
    """Headings in small muted type; titles on one line, elided, the open one with a bar and a tint."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.theme = theme

    def sizeHint(
        self,
        option: QStyleOptionViewItem,  # noqa: ARG002 (Qt's signature)
        index: QModelIndex | QPersistentModelIndex,
    ) -> QSize:
        """Rows grow with the font."""
        height = QFontMetrics(self.theme.text_font(0.9)).height()
        heading = index.data(SessionRole.SESSION_ID) is None
        return QSize(0, max(HEADING_PX, height + 16) if heading else max(ROW_PX, height + 12))

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """One row."""
        theme = self.theme
        area = QRect(option.rect)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType] # missing in the stub
        state: QStyle.StateFlag = option.state  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] # missing in the stub
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = str(index.data())
        if index.data(SessionRole.SESSION_ID) is None:
            font = theme.text_font(0.8)
            painter.setFont(font)
            painter.setPen(theme.muted)
            place = area.adjusted(10, 0, -8, -5)
            painter.drawText(place, Qt.AlignmentFlag.AlignBottom | Qt.AlignmentFlag.AlignLeft, text)
            painter.restore()
            return
        block = area.adjusted(0, 1, 0, -1)
        selected = bool(state & QStyle.StateFlag.State_Selected)
        painter.setPen(Qt.PenStyle.NoPen)
        if selected:
            painter.setBrush(theme.selection)
            painter.drawRoundedRect(block, 6, 6)
            painter.setBrush(theme.accent)
            painter.drawRoundedRect(QRect(block.left(), block.top() + 7, 3, block.height() - 14), 1.5, 1.5)
        elif state & QStyle.StateFlag.State_MouseOver:
            tint = QColor(theme.text)
            tint.setAlphaF(0.05)
            painter.setBrush(tint)
            painter.drawRoundedRect(block, 6, 6)
        if state & QStyle.StateFlag.State_HasFocus and state & QStyle.StateFlag.State_KeyboardFocusChange:
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(theme.accent)
            painter.drawRoundedRect(block, 6, 6)
        font = theme.text_font(0.9)
        font.setWeight(font.Weight.DemiBold if selected else font.Weight.Normal)
        painter.setFont(font)
        painter.setPen(theme.text)
        place = block.adjusted(10, 0, -8, 0)
        elided = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, place.width())
        painter.drawText(place, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, elided)
        painter.restore()


class SessionView(QListView):
    """The list; Return opens, F2 renames, Delete deletes. Says `words` where it would be empty."""

    delete_requested = Signal(str)
    open_requested = Signal(str)
    words = ""

    def paintEvent(self, event: QPaintEvent) -> None:
        """The rows, or the words."""
        super().paintEvent(event)
        model = self.model()
        if self.words and (model is None or model.rowCount() == 0):  # pyright: ignore[reportUnnecessaryComparison] # before there is an engine there is no model
            painter = QPainter(self.viewport())
            painter.setPen(self.palette().color(QPalette.ColorRole.PlaceholderText))
            place = self.viewport().rect().adjusted(10, 8, -8, 0)
            flags = Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextWordWrap
            painter.drawText(place, flags, self.words)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Keys that mean the current row."""
        session_id = self.current_id()
        if session_id and event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self.delete_requested.emit(session_id)
        elif session_id and event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.open_requested.emit(session_id)
        else:
            super().keyPressEvent(event)

    def current_id(self) -> str | None:
        """The conversation under the keyboard."""
        return self.currentIndex().data(SessionRole.SESSION_ID)


class Sidebar(QWidget):
    """Conversations; asks for what is to happen with them."""

    new_requested = Signal()
    open_requested = Signal(str)
    delete_requested = Signal(str)
    search_changed = Signal(str)
    library_requested = Signal()
    programs_requested = Signal()
    jobs_requested = Signal()

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("sidebar")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setAccessibleName("Conversations")
        self.new_button = QPushButton(" New conversation")
        self.new_button.setObjectName("newConversation")
        self.new_button.setAccessibleName("New conversation")
        self.new_button.clicked.connect(self.new_requested)
        self.library_button = QPushButton(" Library")
        self.library_button.setObjectName("openLibrary")
        self.library_button.setAccessibleName("Library")
        self.library_button.setToolTip("The models on this machine, and those that can be had")
        self.library_button.setCheckable(True)
        self.library_button.clicked.connect(self._ask_for_library)
        self.programs_button = QPushButton(" Other programs")
        self.programs_button.setObjectName("openPrograms")
        self.programs_button.setAccessibleName("Other programs")
        self.programs_button.setToolTip(
            "The address and the keys with which other programs ask the models here"
        )
        self.programs_button.setCheckable(True)
        self.programs_button.clicked.connect(self._ask_for_programs)
        self.job_strip = JobStrip()
        self.job_strip.clicked.connect(self.jobs_requested)
        self.search = SearchField()
        self.search.setPlaceholderText("Search")
        self.search.setAccessibleName("Search conversations")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self.search_changed)
        self.list = SessionView()
        self.list.setObjectName("conversations")
        self.list.setAccessibleName("List of conversations")
        self.list.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setMouseTracking(True)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._show_menu)
        self.list.clicked.connect(self._clicked)
        self.list.open_requested.connect(self.open_requested)
        self.list.delete_requested.connect(self.delete_requested)
        self.search.left_downwards.connect(self._enter_list)
        self.search.returnPressed.connect(self._open_first)
        self._delegate = RowDelegate(theme, self.list)
        self.list.setItemDelegate(self._delegate)
        self._rows: SessionList | None = None
        self._open_id: str | None = None
        head = QHBoxLayout()
        head.addWidget(self.new_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 10, 6, 6)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self.library_button)
        column.addWidget(self.programs_button)
        column.addWidget(self.search)
        column.addWidget(self.list, 1)
        column.addWidget(self.job_strip)
        self.set_theme(theme)

    def sizeHint(self) -> QSize:
        """260 px wide to begin with."""
        return QSize(WIDTH_PX, 400)

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._delegate.theme = theme
        self.new_button.setIcon(icon("new", theme.accent))
        self.library_button.setIcon(icon("library", theme.accent))
        self.programs_button.setIcon(icon("programs", theme.accent))
        # Zoomed text has to fit, too.
        text_px = QFontMetrics(theme.text_font(CHROME_SCALE)).horizontalAdvance(self.new_button.text())
        self.setMinimumWidth(max(LEAST_PX, text_px + AROUND_NEW_PX))
        self.list.doItemsLayout()
        self.list.viewport().update()

    def set_rows(self, rows: SessionList) -> None:
        """Show this model from now on."""
        self._rows = rows
        self.list.setModel(rows)
        rows.modelReset.connect(self._mark_open)

    def say_when_empty(self, words: str) -> None:
        """What stands where the rows would be, while there are none."""
        self.list.words = words
        self.list.setAccessibleDescription(words)
        self.list.viewport().update()

    def set_library_open(self, is_open: bool) -> None:
        """The library's page is what is seen."""
        self.library_button.setChecked(is_open)

    def _ask_for_library(self) -> None:
        # Whether it is open is told by those who open it.
        self.library_button.setChecked(not self.library_button.isChecked())
        self.library_requested.emit()

    def set_programs_open(self, is_open: bool) -> None:
        """The page on other programs is what is seen."""
        self.programs_button.setChecked(is_open)

    def _ask_for_programs(self) -> None:
        self.programs_button.setChecked(not self.programs_button.isChecked())
        self.programs_requested.emit()

    def set_open(self, session_id: str | None) -> None:
        """Mark the open conversation."""
        self._open_id = session_id
        self._mark_open()

    def rename(self, session_id: str) -> None:
        """Edit a title where it stands."""
        if self._rows is None:
            return
        index = self._rows.index_of(session_id)
        if index.isValid():
            self.list.scrollTo(index)
            self.list.setCurrentIndex(index)
            self.list.edit(index)

    def neighbour(self, step: int) -> str | None:
        """The conversation `step` rows below the open one (above when negative); None at the end."""
        ids = self._rows.session_ids() if self._rows else []
        if not ids:
            return None
        if self._open_id not in ids:
            return ids[0]
        place = ids.index(self._open_id) + step
        return ids[place] if 0 <= place < len(ids) else None

    def menu_for(self, session_id: str) -> QMenu:
        """What can be done with a row."""
        menu = QMenu(self)
        menu.addAction("Open", lambda: self.open_requested.emit(session_id))
        menu.addAction("Rename…", lambda: self.rename(session_id))
        menu.addSeparator()
        menu.addAction("Delete", lambda: self.delete_requested.emit(session_id))
        return menu

    def _mark_open(self) -> None:
        if self._rows is None:
            return
        index = self._rows.index_of(self._open_id)
        if index.isValid():
            self.list.setCurrentIndex(index)
        else:
            self.list.clearSelection()
            self.list.setCurrentIndex(QModelIndex())

    def _show_menu(self, place: QPoint) -> None:
        session_id = self.list.indexAt(place).data(SessionRole.SESSION_ID)
        if session_id:
            menu = self.menu_for(session_id)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.list.viewport().mapToGlobal(place))

    def _clicked(self, index: QModelIndex) -> None:
        session_id = index.data(SessionRole.SESSION_ID)
        if session_id:
            self.open_requested.emit(session_id)

    def _enter_list(self) -> None:
        self.list.setFocus(Qt.FocusReason.TabFocusReason)
        ids = self._rows.session_ids() if self._rows else []
        if self._rows and ids and not self.list.currentIndex().isValid():
            self.list.setCurrentIndex(self._rows.index_of(ids[0]))

    def _open_first(self) -> None:
        ids = self._rows.session_ids() if self._rows else []
        if ids:
            self.open_requested.emit(ids[0])
