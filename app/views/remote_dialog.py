"""The form of a model on another machine: which server, its address and key, which of its models, what that costs.

Owns: the form, the SetRemote made of it, and the certificates that were agreed to while it is open. The key's field is
emptied when the form closes and is never filled. Does not ask the server: `check_requested` and `saved` carry what is
wanted, and the form stays open until it is told the outcome.
"""

from typing import cast

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.remote_words import (
    ADDRESS_EXAMPLES,
    ADDRESS_HINT,
    CHECK_HINT,
    KINDS,
    PRICE_HINT,
    checked_words,
    host_of,
    is_unknown,
    key_words,
)
from app.theme import Theme
from app.views.copy_line import CopyLine
from app.views.scrolled_form import scrolled_form
from app.views.settings_dialog import NUMBER_INDENT_PX
from app.wrapping import breakable
from engine.protocol_remote import (
    CheckedRemote,
    Remote,
    RemoteAddress,
    RemoteKind,
    RemotePrice,
    SetRemote,
)

MOST_ADDRESSES = 8
LONGEST_ADDRESS = 500
ADDRESS_LINES = 2
FIELD_FRAME_PX = 32
MOST_PRICE = 1_000_000.0
SHOWN_MODELS = 500
"""A server may name more models than a person looks through."""


class RemoteDialog(QDialog):
    """A new one, or `remote` to be changed."""

    check_requested = Signal(object)
    """SetRemote."""
    saved = Signal(object)
    """SetRemote."""

    def __init__(self, theme: Theme, remote: Remote | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Model on another machine")
        self.resize(700, 640)
        self._theme = theme
        self._busy = False
        self._asked_from: QWidget | None = None
        """What had the keyboard when the server began to be asked."""
        addresses = remote.addresses if remote else []
        self._trusted = {each.url: each.fingerprint for each in addresses if each.fingerprint}
        """Certificates by the address at which they were agreed to."""
        self.name = QLineEdit(remote.name if remote else "")
        self.name.setMaxLength(80)
        self.name.setPlaceholderText("As Pro on the cluster")
        self.kind = QComboBox()
        for kind, words in KINDS:
            self.kind.addItem(words, kind)
        self.kind.setCurrentIndex(self.kind.findData(remote.kind if remote else "openai"))
        self.addresses = QPlainTextEdit("\n".join(each.url for each in addresses))
        self.addresses.setTabChangesFocus(True)
        self.addresses.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.key = QLineEdit()
        self.key.setEchoMode(QLineEdit.EchoMode.Password)
        self.key.setMaxLength(500)
        self._key_hint = key_words(
            has_key=bool(remote and remote.has_key), problem=remote.key_problem if remote else None
        )
        self.model = QComboBox()
        self.model.setEditable(True)
        self.model.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.model.setEditText(remote.model if remote else "")
        if (line := self.model.lineEdit()) is not None:  # an editable one has it
            line.setMaxLength(200)
            line.setPlaceholderText("The only one that it has")
        price = (remote.price if remote else None) or RemotePrice()
        self.read, self.written = _price(price.read), _price(price.written)
        self.cached = _price(price.read if price.read_cached is None else price.read_cached)
        self.cached.setMinimum(-0.0001)
        self.cached.setSpecialValueText("As read")
        self.cached.setValue(self.cached.minimum() if price.read_cached is None else price.read_cached)
        self.currency = QLineEdit(price.currency)
        self.currency.setMaxLength(8)
        self.check_button = QPushButton("Chec&k")
        self.check_button.setToolTip(CHECK_HINT)
        self.found = QLabel(CHECK_HINT)
        self.fingerprint = CopyLine("Fingerprint of its certificate (SHA-256)", "the fingerprint", wraps=True)
        self.fingerprint.field.setFont(theme.code_font(1.0))
        self.trust_button = QPushButton("&Trust this certificate")
        self.message = QLabel()
        self.message.setProperty("danger", True)
        self.message.setAccessibleName("Outcome")
        for label in (self.found, self.message):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
            label.setTextInteractionFlags(
                Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
            )
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.save_button = buttons.addButton(
            "Save" if remote else "Add it", QDialogButtonBox.ButtonRole.AcceptRole
        )
        buttons.accepted.connect(self._save)
        buttons.rejected.connect(self.reject)
        self._lay_out(buttons)
        # Return does what has the keyboard, anywhere else this. A dialog remembers it of buttons that lie in it alone.
        self.save_button.setDefault(True)
        self.check_button.clicked.connect(self._check)
        self.trust_button.clicked.connect(self._trust)
        self.kind.currentIndexChanged.connect(self._show_kind)
        self.addresses.textChanged.connect(self._changed)
        self.name.textChanged.connect(self._changed)
        self._show_fingerprint("")
        self._show_kind()
        self.message.hide()

    def _lay_out(self, buttons: QDialogButtonBox) -> None:
        form = QWidget()
        grid = QGridLayout(form)
        grid.setContentsMargins(0, 0, 8, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        self._key_caption_hint = _hint(self._key_hint)
        rows: tuple[tuple[str, QWidget, QLabel | None], ...] = (
            ("&Name", self.name, None),
            ("&Server", self.kind, None),
            ("&Addresses", self.addresses, _hint(ADDRESS_HINT)),
            ("K&ey", self.key, self._key_caption_hint),
            ("&Model", self.model, None),
            ("&Price", self._prices(), _hint(PRICE_HINT)),
        )
        row = 0
        for words, field, hint in rows:
            caption = QLabel(words)
            target = field.focusProxy() or field
            caption.setBuddy(target)
            if field is not target or not target.accessibleName():
                target.setAccessibleName(
                    words.replace("&", "") if target is not self.read else "Price of reading"
                )
            if hint is not None:
                target.setAccessibleDescription(hint.text())
            top = field is self.addresses
            align = Qt.AlignmentFlag.AlignTop if top else Qt.AlignmentFlag.AlignVCenter
            grid.addWidget(caption, row, 0, align)
            grid.addWidget(field, row, 1)
            if hint is not None:
                grid.addWidget(hint, row + 1, 1)
            grid.setRowMinimumHeight(row + 2, 4)
            row += 3
        grid.addWidget(self.found, row, 0, 1, 2)
        grid.addWidget(self.fingerprint.caption, row + 1, 0, 1, 2)
        grid.addWidget(self.fingerprint, row + 2, 0, 1, 2)
        trust = QHBoxLayout()
        trust.addWidget(self.trust_button)
        trust.addStretch(1)
        grid.addLayout(trust, row + 3, 0, 1, 2)
        grid.setRowStretch(row + 4, 1)
        lines = QFontMetrics(self.addresses.font()).lineSpacing() * ADDRESS_LINES
        self.addresses.setFixedHeight(lines + FIELD_FRAME_PX)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(24, 20, 24, 20)
        outer.setSpacing(12)
        # In sight however large the text is, as is what it found: `show_checked` scrolls there.
        buttons.addButton(self.check_button, QDialogButtonBox.ButtonRole.ActionRole)
        self._area = scrolled_form(form)
        outer.addWidget(self._area, 1)
        outer.addWidget(self.message)
        outer.addWidget(buttons)

    def _prices(self) -> QWidget:
        """Prices beside each other, each below its name."""
        row = QWidget()
        row.setFocusProxy(self.read)
        grid = QGridLayout(row)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        for column, (words, name, field) in enumerate(
            (
                ("Read", "Price of reading", self.read),
                ("From its cache", "Price of reading from its cache", self.cached),
                ("Written", "Price of writing", self.written),
                ("Currency", "Currency", self.currency),
            )
        ):
            caption = QLabel(words)
            caption.setProperty("muted", True)
            field.setAccessibleName(name)
            grid.addWidget(caption, 0, column)
            grid.addWidget(field, 1, column)
            grid.setColumnStretch(column, 1)
        return row

    # --- what it asks for -------------------------------------------------------------------------------

    def wanted(self) -> SetRemote | None:
        """What the form asks for; None while something is missing, which is said."""
        urls = self._urls()
        name = " ".join(self.name.text().split())
        if not urls:
            self.refuse("There is no address; write the one at which the server answers.")
            return None
        if len(urls) > MOST_ADDRESSES or any(len(url) > LONGEST_ADDRESS for url in urls):
            self.refuse(
                f"The addresses cannot be used: there are {len(urls)}, and at most {MOST_ADDRESSES} of "
                f"{LONGEST_ADDRESS} characters each are kept; leave some out."
            )
            return None
        read, written = round(self.read.value(), 4), round(self.written.value(), 4)
        cached = None if self.cached.value() < 0 else round(self.cached.value(), 4)
        priced = bool(read or written or cached)
        price = RemotePrice(
            read=read, read_cached=cached, written=written, currency=self.currency.text().strip() or "USD"
        )
        return SetRemote(
            name=name or host_of(urls[0]),
            kind=cast(RemoteKind, self.kind.currentData()),
            addresses=[RemoteAddress(url=url, fingerprint=self._trusted.get(url)) for url in urls],
            model=self.model.currentText().strip(),
            key=self.key.text().strip() or None,
            price=price if priced else None,
        )

    def _urls(self) -> list[str]:
        return [line.strip() for line in self.addresses.toPlainText().splitlines() if line.strip()]

    # --- from outside -----------------------------------------------------------------------------------

    def show_checked(self, checked: CheckedRemote) -> None:
        """What the server at the first address is and can do."""
        self._set_busy(False)
        urls = self._urls()
        self.found.setText(breakable(checked_words(checked, host_of(urls[0]) if urls else "")))
        self.found.setProperty("danger", checked.problem is not None and not is_unknown(checked))
        self.found.style().polish(self.found)
        trusted = self._trusted.get(urls[0]) if urls else None
        unknown = checked.fingerprint if checked.fingerprint != trusted else None
        self._show_fingerprint(unknown or "")
        # What has grown has its place a turn of the event loop later.
        last = self.trust_button if unknown else self.found
        QTimer.singleShot(0, self, lambda: self._area.ensureWidgetVisible(last))
        if checked.features is not None:
            typed = self.model.currentText()
            self.model.clear()
            self.model.addItems(checked.features.models[:SHOWN_MODELS])
            only = checked.features.models[0] if len(checked.features.models) == 1 else ""
            self.model.setEditText(typed or only)

    def refuse(self, sentence: str) -> None:
        """It was not done: say why, keep what was typed."""
        self._set_busy(False)
        self.message.setText(breakable(sentence))
        self.message.show()

    def done(self, result: int) -> None:
        """However it ends, no key stays in it."""
        self.key.clear()
        super().done(result)

    # --- doing ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        wanted = self.wanted()
        if wanted is not None:
            self._set_busy(True)
            self.message.hide()
            self._show_fingerprint("")
            self.found.setProperty("danger", False)
            self.found.style().polish(self.found)
            self.found.setText(f"Asking {host_of(wanted.addresses[0].url)}…")
            self.check_requested.emit(wanted)

    def _trust(self) -> None:
        urls = self._urls()
        if urls and self.fingerprint.value():
            self._trusted[urls[0]] = self.fingerprint.value()
            self._check()

    def _save(self) -> None:
        wanted = self.wanted()
        if wanted is not None:
            self._set_busy(True)
            self.message.hide()
            self.saved.emit(wanted)

    def _set_busy(self, busy: bool) -> None:
        if busy and not self._busy:
            self._asked_from = self.focusWidget()
        self._busy = busy
        self._changed()
        # A button that cannot be pressed for a while passes the keyboard on, and Cancel is the next.
        if not busy and self._asked_from is not None:
            back = self._asked_from if self._asked_from.isVisible() else self.check_button
            back.setFocus(Qt.FocusReason.OtherFocusReason)
            self._asked_from = None

    def _changed(self) -> None:
        possible = not self._busy and bool(self._urls())
        self.check_button.setEnabled(possible)
        self.save_button.setEnabled(possible)

    def _show_kind(self) -> None:
        kind = cast(RemoteKind, self.kind.currentData())
        self.addresses.setPlaceholderText(ADDRESS_EXAMPLES[kind])
        others = {example for each, example in ADDRESS_EXAMPLES.items() if each != kind}
        # The service has one address; nobody should have to look it up.
        if kind == "deepseek" and not self._urls():
            self.addresses.setPlainText(ADDRESS_EXAMPLES[kind])
        elif self.addresses.toPlainText().strip() in others:
            self.addresses.setPlainText("")
        self._changed()

    def _show_fingerprint(self, fingerprint: str) -> None:
        self.fingerprint.set_value(fingerprint)
        for part in (self.fingerprint, self.fingerprint.caption, self.trust_button):
            part.setVisible(bool(fingerprint))


def _price(value: float) -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(4)
    field.setRange(0.0, MOST_PRICE)
    field.setSingleStep(0.01)
    field.lineEdit().setTextMargins(NUMBER_INDENT_PX, 0, 0, 0)
    field.setValue(value)
    return field


def _hint(words: str) -> QLabel:
    hint = QLabel(words)
    hint.setTextFormat(Qt.TextFormat.PlainText)
    hint.setWordWrap(True)
    hint.setProperty("muted", True)
    return hint
