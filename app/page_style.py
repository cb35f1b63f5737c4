"""The page's measures and formats, made of a theme.

Owns: the block and character formats of prose, quotes, tables and code, and their distances in pixels. Knows
QtGui's documents; knows no widget and no Markdown.
"""

from functools import cached_property

from PySide6.QtGui import (
    QBrush,
    QColor,
    QFont,
    QFontMetricsF,
    QPalette,
    QTextBlockFormat,
    QTextCharFormat,
    QTextFormat,
    QTextFrameFormat,
    QTextLength,
    QTextListFormat,
    QTextTableCellFormat,
    QTextTableFormat,
)

from app.highlight import Kind
from app.theme import Theme

QUOTE_DEPTH = QTextFormat.Property.UserProperty.value + 1
"""Block property: how many quotes stand around a block; the view paints a bar for each."""
RULE = QTextFormat.Property.UserProperty.value + 2
"""Block property: this empty block is a horizontal rule."""

_LINE_MINIMUM = QTextBlockFormat.LineHeightTypes.MinimumHeight.value
_HEADING_SCALES = (1.45, 1.25, 1.1, 1.0, 1.0, 1.0)


class PageStyle:
    """Formats and distances for one theme (zoom included)."""

    def __init__(self, theme: Theme) -> None:
        self.theme = theme
        self.text_font = theme.text_font()
        self.code_font = theme.code_font()
        self.line_px = theme.base_px * theme.line_height
        self.code_line_px = theme.code_px * 1.5
        self.paragraph_gap = round(theme.base_px * 0.8)
        self.indent_px = round(theme.base_px * 1.6)
        natural_px = QFontMetricsF(self.text_font).height()
        self.half_leading_px = max(0, round((self.line_px - natural_px) / 2))
        self.task_px = QFontMetricsF(self.text_font).horizontalAdvance("☐ ")
        self.quote_px = round(theme.base_px * 1.1)

    @property
    def palette(self) -> QPalette:
        """For widgets that show text on the page; a copy that the caller may change."""
        return QPalette(self._palette)

    @cached_property
    def _palette(self) -> QPalette:
        theme = self.theme
        palette = QPalette()
        for role, colour in (
            (QPalette.ColorRole.Window, theme.background),
            (QPalette.ColorRole.Base, theme.background),
            (QPalette.ColorRole.Text, theme.text),
            (QPalette.ColorRole.WindowText, theme.text),
            (QPalette.ColorRole.ButtonText, theme.text),
            (QPalette.ColorRole.Button, theme.surface),
            (QPalette.ColorRole.PlaceholderText, theme.muted),
            (QPalette.ColorRole.Highlight, theme.selection),
            (QPalette.ColorRole.HighlightedText, theme.text),
            (QPalette.ColorRole.Link, theme.accent),
            (QPalette.ColorRole.Accent, theme.accent),
            (QPalette.ColorRole.Mid, theme.border),
        ):
            palette.setColor(role, colour)
        return palette

    def small_font(self) -> QFont:
        """Labels, buttons and notes beside the text."""
        return self.theme.text_font(0.87)

    # --- characters -----------------------------------------------------------------------------------

    @cached_property
    def code_format(self) -> QTextCharFormat:
        """Code inside a line."""
        form = QTextCharFormat()
        form.setFont(
            self.code_font, QTextCharFormat.FontPropertiesInheritanceBehavior.FontPropertiesSpecifiedOnly
        )
        form.setBackground(self.theme.code_background)
        return form

    @cached_property
    def muted_format(self) -> QTextCharFormat:
        """Quoted text, and what stands beside the text."""
        form = QTextCharFormat()
        form.setForeground(self.theme.muted)
        return form

    def heading_font(self, level: int) -> QFont:
        """The face of a heading, `level` 1 to 6."""
        font = self.theme.text_font(_HEADING_SCALES[level - 1])
        font.setWeight(QFont.Weight.DemiBold)
        return font

    def heading_chars(self, level: int) -> QTextCharFormat:
        """The letters of a heading, `level` 1 to 6."""
        form = QTextCharFormat()
        form.setFont(
            self.heading_font(level),
            QTextCharFormat.FontPropertiesInheritanceBehavior.FontPropertiesSpecifiedOnly,
        )
        return form

    def link_format(self, address: str) -> QTextCharFormat:
        """A link that a click opens; its address is told in a tooltip."""
        form = QTextCharFormat()
        form.setAnchor(True)
        form.setAnchorHref(address)
        form.setToolTip(address)
        form.setForeground(self.theme.accent)
        form.setFontUnderline(True)
        return form

    def syntax_colour(self, kind: Kind) -> QColor:
        """The colour of a part of code."""
        theme = self.theme
        return {
            "keyword": theme.syntax_keyword,
            "string": theme.syntax_string,
            "comment": theme.syntax_comment,
            "number": theme.syntax_number,
            "name": theme.syntax_name,
            "operator": theme.syntax_operator,
        }[kind]

    # --- blocks ---------------------------------------------------------------------------------------

    def block(self, *, top: float = 0.0, line_px: float | None = None) -> QTextBlockFormat:
        """A paragraph `top` pixels below what stands before it."""
        form = QTextBlockFormat()
        form.setTopMargin(top)
        form.setLineHeight(line_px or self.line_px, _LINE_MINIMUM)
        return form

    def heading_block(self, level: int, *, top: float) -> QTextBlockFormat:
        """A heading's block."""
        form = self.block(top=top, line_px=self.theme.base_px * _HEADING_SCALES[level - 1] * 1.35)
        form.setHeadingLevel(level)
        return form

    def heading_gap(self, level: int) -> int:
        """Pixels above a heading."""
        return round(self.theme.base_px * (1.7 if level <= 2 else 1.3))

    def code_block(self, *, top: float = 0.0) -> QTextBlockFormat:
        """Lines of code."""
        return self.block(top=top, line_px=self.code_line_px)

    def list_format(self, depth: int, start: int | None) -> QTextListFormat:
        """A list `depth` levels deep (1: outermost); `start` is the first number, None for bullets."""
        form = QTextListFormat()
        form.setIndent(depth)
        if start is None:
            form.setStyle(QTextListFormat.Style.ListDisc)
        else:
            form.setStyle(QTextListFormat.Style.ListDecimal)
            form.setStart(start)
        return form

    def table_format(self) -> QTextTableFormat:
        """A table as wide as its text."""
        form = QTextTableFormat()
        form.setBorderCollapse(True)
        form.setBorder(0)
        form.setCellPadding(self.theme.grid * 0.75)
        form.setCellSpacing(0)
        form.setHeaderRowCount(1)
        form.setWidth(QTextLength())
        return form

    def cell_format(self, *, head: bool) -> QTextTableCellFormat:
        """A cell of a table: a hair line below it, a tint behind the head."""
        form = QTextTableCellFormat()
        form.setBottomBorder(1)
        form.setBottomBorderStyle(QTextFrameFormat.BorderStyle.BorderStyle_Solid)
        form.setBottomBorderBrush(QBrush(self.theme.border))
        if head:
            form.setBackground(self.theme.code_background)
        return form
