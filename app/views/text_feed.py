"""A text on its way into its blocks.

Owns: giving a long text to a body in slices, one for each turn of the event loop, so that the window goes on
answering meanwhile. Does not know where the text comes from.
"""

from PySide6.QtCore import QObject, QTimer, Signal

from app.views.message_body import MessageBody

SLICE_CHARS = 50_000


class TextFeed(QObject):
    """Feeds `body`."""

    fed = Signal()
    """The body has got more of a long text: its height has changed."""

    def __init__(self, body: MessageBody) -> None:
        super().__init__(body)
        self._body = body
        self._unfed = ""
        self._ended = False
        self._timer = QTimer(self)
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._feed_slice)

    def restart(self, text: str, *, ended: bool) -> None:
        """Show `text` instead of what is shown, keeping the blocks that are the same. `ended`: no more comes."""
        self._body.restart()
        self._unfed, self._ended = text, ended
        self._feed_slice()

    def append(self, text: str) -> None:
        """More text at the end; shown by the next `sync` of the body."""
        if self._unfed:
            self._unfed += text
        else:
            self._body.feed(text)

    def finish(self) -> None:
        """No more text comes: the open block is shown as a finished one."""
        self._ended = True
        if not self._unfed:
            self._body.finish()
            self._body.sync()

    def _feed_slice(self) -> None:
        self._body.feed(self._unfed[:SLICE_CHARS])
        self._unfed = self._unfed[SLICE_CHARS:]
        if self._unfed:
            self._timer.start()
        else:
            self._timer.stop()
            if self._ended:
                self._body.finish()
        self._body.sync()
        self._body.settle()
        self.fed.emit()
