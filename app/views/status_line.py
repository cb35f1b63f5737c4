"""The line at the bottom: what the engine is doing now, how fast, and for which other program.

Owns: the words for a turn's progress and the sparkline of writing speed. Does not follow turns itself.
"""

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from app.quantities import duration, expert_words, rate, token_count
from app.theme import Theme
from app.views.answering_sign import AnsweringSign

if TYPE_CHECKING:
    from app.turn_stream import TurnProgress

SIGN_FRAME_PX = 6
"""What the sign's buttons have around their words, above and below."""


def progress_words(progress: "TurnProgress") -> str:
    """Done, total, rate and time left, as far as they are known."""
    if progress.phase == "queued":
        if progress.place:
            return (
                f"Waiting: {progress.place} {'answer' if progress.place == 1 else 'answers'} before this one"
            )
        return "Waiting for the model"
    if progress.phase == "prefill":
        words = [f"Reading {progress.done:,} of {progress.total:,} tokens"]
        if progress.reused:
            words.append(f"{progress.reused:,} were known")
        if progress.rate is not None:
            words.append(rate(progress.rate))
        if progress.left_s is not None and progress.left_s >= 1:
            words.append(f"{duration(progress.left_s)} left")
        return " · ".join(words)
    tokens = token_count(progress.generated_tokens)
    words = [f"Thinking, {tokens}" if progress.phase == "thinking" else tokens]
    counters = progress.counters
    # The engine's own rate is over some seconds: where a token takes one, the window's jumps.
    speed = progress.rate if counters is None else counters.tokens_per_s
    if speed is not None:
        words.append(rate(speed))
    if counters is not None:
        words += expert_words(counters.disk_bytes_per_token, counters.experts_in_memory)
    return " · ".join(words)


class StatusLine(QWidget):
    """The engine or the running turn, with the sparkline; at the right the sign that another program is answered."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._label = QLabel()
        self._label.setProperty("muted", True)
        self._label.setTextFormat(Qt.TextFormat.PlainText)
        self._spark = Sparkline(theme)
        self._spark.hide()
        self.sign = AnsweringSign(theme)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(10)
        row.addStretch(1)
        row.addWidget(self._spark)
        row.addWidget(self._label)
        row.addStretch(1)
        row.addWidget(self.sign)
        self.set_theme(theme)
        self.setAccessibleName("Status")

    def set_theme(self, theme: Theme) -> None:
        """Follow the window's look."""
        self._spark.theme = theme
        self._spark.update()
        self.sign.set_theme(theme)
        # The sparkline and the sign come and go; what stands above must not move for them.
        text_px = QFontMetrics(theme.text_font(0.9)).height()
        self.setFixedHeight(max(self._spark.sizeHint().height(), text_px) + SIGN_FRAME_PX)

    def say(self, text: str) -> None:
        """Show a few words."""
        if text != self._label.text():
            self._label.setText(text)
            self._label.setAccessibleName(f"Status: {text}" if text else "Status")

    def text(self) -> str:
        """What it says."""
        return self._label.text()

    def show_progress(self, progress: "TurnProgress") -> None:
        """A turn's progress."""
        self.say(progress_words(progress))
        rates = progress.rates if progress.phase in ("thinking", "writing") else ()
        self._spark.set_values(rates)
        self._spark.setVisible(len(rates) > 1)

    def show_rest(self, text: str) -> None:
        """No turn is running."""
        self._spark.hide()
        self.say(text)


class Sparkline(QWidget):
    """Writing speed of late; from zero, so that a drop looks like one."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.theme = theme
        self._values: tuple[float, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.setToolTip("Writing speed over the last seconds")
        self.setAccessibleName("Writing speed")

    def sizeHint(self) -> QSize:
        """As long as twenty seconds."""
        return QSize(80, 16)

    def set_values(self, values: tuple[float, ...]) -> None:
        """Tokens per second, oldest first."""
        if values != self._values:
            self._values = values
            self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """One line."""
        if len(self._values) < 2:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        most = max(self._values) or 1.0
        height, step = self.height() - 3, self.width() / (len(self._values) - 1)
        points = [QPointF(i * step, 1.5 + height * (1 - v / most)) for i, v in enumerate(self._values)]
        painter.setPen(QPen(self.theme.accent, 1.4))
        painter.drawPolyline(QPolygonF(points))
