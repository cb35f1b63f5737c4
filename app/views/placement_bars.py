"""Bars of what lies where: one for each GPU, for the memory, and for the model's file.

Owns: painting the pieces, each with a colour and a pattern of its own, and the legend below each bar. Does not know
what is planned, nor the words (`placement_words`).
"""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QBrush, QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.placement_words import Piece, PieceKind, bar_bytes, pieces, place_words, spoken
from app.theme import Theme
from app.views.flow_row import FlowRow
from engine.protocol_placement import Place

BAR_HEIGHT_PX = 22
SWATCH_PX = 14
LEAST_PIECE_PX = 3
"""What is there is seen, however small."""
Pattern = Qt.BrushStyle
# The pattern is drawn over the colour: without colours they differ as well.
PATTERNS: dict[PieceKind, Qt.BrushStyle] = {
    "experts": Pattern.NoBrush,
    "dense": Pattern.BDiagPattern,
    "output": Pattern.CrossPattern,
    "embedding": Pattern.VerPattern,
    "cache": Pattern.Dense5Pattern,
    "states": Pattern.HorPattern,
    "compute": Pattern.FDiagPattern,
    "driver": Pattern.Dense4Pattern,
    "others": Pattern.Dense6Pattern,
    "reserve": Pattern.DiagCrossPattern,
    "free": Pattern.NoBrush,
    "once": Pattern.Dense7Pattern,
}


def colour_of(kind: PieceKind, theme: Theme) -> QColor:
    """A colour of the theme for each kind."""
    return {
        "experts": theme.accent,
        "dense": theme.syntax_name,
        "output": theme.syntax_operator,
        "embedding": theme.syntax_comment,
        "cache": theme.syntax_number,
        "states": theme.syntax_keyword,
        "compute": theme.syntax_string,
        "driver": theme.text,
        "others": theme.muted,
        "reserve": theme.border,
        "free": theme.surface,
        "once": theme.selection,
    }[kind]


def fill(painter: QPainter, area: QRectF, kind: PieceKind, theme: Theme) -> None:
    """Paint a piece: its colour, then its pattern."""
    painter.fillRect(area, colour_of(kind, theme))
    # On what is pale a pattern of the page's colour would not be seen.
    over = theme.muted if kind in ("reserve", "once") else theme.background
    painter.fillRect(area, QBrush(over, PATTERNS[kind]))


class PlacementBars(QWidget):
    """Shows places; those of before are changed where they stand."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self.rows: list[PlaceRow] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(12)

    def show_places(self, places: list[Place]) -> None:
        """Show these."""
        while len(self.rows) > len(places):
            self.rows.pop().deleteLater()
        while len(self.rows) < len(places):
            row = PlaceRow(self._theme)
            self.rows.append(row)
            self._column.addWidget(row)
        for row, place in zip(self.rows, places, strict=True):
            row.show_place(place)


class PlaceRow(QWidget):
    """The words, the bar, its legend."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self.title = QLabel()
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.title.setWordWrap(True)
        self.bar = PlaceBar(theme)
        self._legend = QWidget()
        self._entries: list[LegendEntry] = []
        self._flow = FlowRow()
        self._legend.setLayout(self._flow)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.title)
        column.addWidget(self.bar)
        column.addWidget(self._legend)

    def show_place(self, place: Place) -> None:
        """Show this."""
        self.title.setText(place_words(place))
        found = pieces(place)
        self.bar.show_pieces(found, bar_bytes(place))
        self.bar.setAccessibleName(spoken(place))
        while len(self._entries) < len(found):
            entry = LegendEntry(self._theme)
            self._entries.append(entry)
            self._flow.addWidget(entry)
        for number, entry in enumerate(self._entries):
            entry.setVisible(number < len(found))
            if number < len(found):
                entry.show_piece(found[number])

    def legend(self) -> list[str]:
        """What the legend says."""
        return [entry.label.text() for entry in self._entries if not entry.isHidden()]


class PlaceBar(QWidget):
    """The bar alone."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._pieces: list[Piece] = []
        self._total = 1
        self.setFixedHeight(BAR_HEIGHT_PX)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_pieces(self, found: list[Piece], total_bytes: int) -> None:
        """Show these of a whole."""
        if (found, total_bytes) != (self._pieces, self._total):
            self._pieces, self._total = found, total_bytes
            self.update()

    def widths(self) -> list[float]:
        """The width of each piece in pixels; what is small takes a little of what is large."""
        room = self.width() - 2.0
        wanted = [piece.size_bytes / self._total * room for piece in self._pieces]
        least = min(LEAST_PIECE_PX, room / max(1, len(wanted)))
        lifted = [max(least, each) for each in wanted]
        over = sum(lifted) - room
        spare = sum(each - least for each in lifted)
        return [each - over * (each - least) / spare if spare > 0 else each for each in lifted]

    def sizeHint(self) -> QSize:
        """As wide as there is room."""
        return QSize(320, BAR_HEIGHT_PX)

    def paintEvent(self, _event: QPaintEvent) -> None:
        """The pieces from the left, in a frame."""
        painter = QPainter(self)
        x = 1.0
        for piece, width in zip(self._pieces, self.widths(), strict=True):
            area = QRectF(x, 1, width, self.height() - 2)
            fill(painter, area, piece.kind, self._theme)
            x += width
            painter.setPen(QPen(self._theme.background, 1))
            painter.drawLine(area.topRight(), area.bottomRight())
        painter.setPen(QPen(self._theme.muted, 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5))


class LegendEntry(QWidget):
    """A swatch and its words."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._swatch = _Swatch(theme)
        self.label = QLabel()
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setProperty("muted", True)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 8, 0)
        row.setSpacing(6)
        row.addWidget(self._swatch)
        row.addWidget(self.label)

    def show_piece(self, piece: Piece) -> None:
        """Show this."""
        self._swatch.show_kind(piece.kind)
        if self.label.text() != piece.words:
            self.label.setText(piece.words)
        self.setToolTip(piece.tip)


class _Swatch(QWidget):
    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._theme = theme
        self._kind: PieceKind = "free"
        self.setFixedSize(SWATCH_PX, SWATCH_PX)

    def show_kind(self, kind: PieceKind) -> None:
        if kind != self._kind:
            self._kind = kind
            self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        area = QRectF(self.rect())
        fill(painter, area, self._kind, self._theme)
        painter.setPen(QPen(self._theme.muted, 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawRect(area.adjusted(0.5, 0.5, -0.5, -0.5))
