"""How every widget is drawn: one stylesheet and one palette out of a theme.

Owns: all styling of the window's widgets but what the transcript paints itself. Does not know the widgets;
they are named by class and object name.
"""

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication

from app.theme import ASSETS, Theme

CHROME_SCALE = 0.9
"""Controls are set a little smaller than the text that is read."""


def apply(theme: Theme, app: QApplication) -> None:
    """Draw the whole program in `theme`."""
    app.setPalette(palette(theme))
    # Before: widgets that a stylesheet has polished already take the font of that moment, and not a later one.
    app.setFont(theme.text_font(CHROME_SCALE))
    app.setStyleSheet(stylesheet(theme))
    # And after: the first stylesheet puts a new style in place, and that brings the platform's fonts back.
    app.setFont(theme.text_font(CHROME_SCALE))


def palette(theme: Theme) -> QPalette:
    """The palette for what the stylesheet does not reach, dialogs of Qt's own included."""
    result = QPalette()
    role, group = QPalette.ColorRole, QPalette.ColorGroup
    for key, colour in {
        role.Window: theme.background,
        role.WindowText: theme.text,
        role.Base: theme.surface,
        role.AlternateBase: theme.sidebar,
        role.Text: theme.text,
        role.Button: theme.surface,
        role.ButtonText: theme.text,
        role.ToolTipBase: theme.surface,
        role.ToolTipText: theme.text,
        role.PlaceholderText: theme.muted,
        role.Highlight: theme.selection,
        role.HighlightedText: theme.text,
        role.Link: theme.accent,
        role.LinkVisited: theme.accent,
        role.Mid: theme.border,
        role.Accent: theme.accent,
    }.items():
        result.setColor(key, colour)
    for key in (role.WindowText, role.Text, role.ButtonText):
        result.setColor(group.Disabled, key, theme.muted)
    return result


def _tint(colour: QColor, opacity: float) -> str:
    return f"rgba({colour.red()}, {colour.green()}, {colour.blue()}, {round(opacity * 255)})"


def stylesheet(theme: Theme) -> str:
    """The one stylesheet."""
    c = {name: colour.name() for name, colour in theme.colours().items()}
    hover = _tint(theme.text, 0.06)
    pressed = _tint(theme.text, 0.11)
    radius, grid = theme.radius, theme.grid
    check, up, down = (
        (ASSETS / "icons" / f"{name}-{theme.name}.svg").as_posix()
        for name in ("check", "step-up", "step-down")
    )
    return f"""
QMainWindow, QDialog {{ background: {c["background"]}; }}
QWidget#sidebar, QMenuBar {{ background: {c["sidebar"]}; color: {c["text"]}; }}
QMenuBar {{ border: none; padding: 2px {grid}px; }}
QMenuBar::item {{ background: transparent; padding: 4px {grid}px; border-radius: 4px; }}
QMenuBar::item:selected {{ background: {hover}; }}
QMenu {{ background: {c["surface"]}; color: {c["text"]}; border: 1px solid {c["border"]}; padding: 4px; }}
QMenu::item {{ padding: 6px {3 * grid}px 6px {2 * grid + 8}px; border-radius: 4px; }}
QMenu::item:selected {{ background: {c["selection"]}; }}
QMenu::item:disabled {{ color: {c["muted"]}; }}
QMenu::indicator {{ width: 16px; height: 16px; left: 6px; }}
QMenu::indicator:checked {{ image: url("{check}"); }}
QMenu::separator {{ height: 1px; background: {c["border"]}; margin: 4px {grid}px; }}
QToolTip {{ background: {c["surface"]}; color: {c["text"]}; border: 1px solid {c["border"]}; padding: 4px; }}

QSplitter::handle {{ background: {c["border"]}; }}
QToolButton {{ background: transparent; color: {c["text"]}; border: 1px solid transparent;
    border-radius: {radius - 2}px; padding: 5px; }}
QToolButton:hover {{ background: {hover}; }}
QToolButton:pressed, QToolButton:open {{ background: {pressed}; }}
QToolButton:disabled {{ color: {c["muted"]}; }}
QToolButton:focus, QPushButton:focus {{ border: 1px solid {c["accent"]}; }}
QToolButton#modelPicker {{ padding: 5px; font-weight: 600; }}
QToolButton#modelPicker::menu-indicator, QToolButton#modeSwitch::menu-indicator {{ image: none; }}
QPushButton {{ background: {c["surface"]}; color: {c["text"]}; border: 1px solid {c["border"]};
    border-radius: {radius - 2}px; padding: 6px {2 * grid}px; }}
QPushButton:hover {{ background: {c["user_block"]}; }}
QPushButton:disabled {{ color: {c["muted"]}; }}
QPushButton:default, QPushButton#send {{ background: {c["accent"]}; color: {c["accent_text"]};
    border: 1px solid {c["accent"]}; }}
QPushButton:default:disabled {{ background: transparent; color: {c["muted"]}; border-color: {c["border"]}; }}
QPushButton:default:focus, QPushButton#send:focus {{ border: 2px solid {c["text"]}; }}
QPushButton#send:disabled {{ background: transparent; color: {c["muted"]}; border-color: {c["border"]}; }}
QPushButton#send[stops="true"] {{ background: {c["surface"]}; color: {c["text"]};
    border-color: {c["border"]}; }}
QToolButton#signWords, QToolButton#signEnd {{ padding: 1px 6px; color: {c["muted"]}; }}
QToolButton#signEnd {{ border: 1px solid {c["border"]}; color: {c["text"]}; }}
QToolButton#signEnd:focus {{ border: 1px solid {c["accent"]}; }}
QPushButton#newConversation, QPushButton#openLibrary, QPushButton#openPrograms,
    QPushButton#jobStrip {{ background: transparent; border: 1px solid {c["border"]};
    text-align: left; padding: 7px {grid}px; }}
QPushButton#openLibrary, QPushButton#openPrograms, QPushButton#jobStrip {{ border-color: transparent; }}
QPushButton#openLibrary:checked, QPushButton#openPrograms:checked {{ background: {c["selection"]}; }}
QPushButton#newConversation:hover, QPushButton#openLibrary:hover:!checked,
    QPushButton#openPrograms:hover:!checked,
    QPushButton#jobStrip:hover {{ background: {hover}; }}
QPushButton#newConversation:focus, QPushButton#openLibrary:focus, QPushButton#openPrograms:focus,
    QPushButton#jobStrip:focus {{ border-color: {c["accent"]}; }}

QLineEdit, QDialog QPlainTextEdit {{ background: {c["surface"]};
    color: {c["text"]}; border: 1px solid {c["border"]}; border-radius: {radius - 2}px; padding: 6px {grid}px;
    selection-background-color: {c["selection"]}; selection-color: {c["text"]}; }}
QLineEdit, QPlainTextEdit {{ placeholder-text-color: {c["muted"]}; }}
QLineEdit:focus, QDialog QPlainTextEdit:focus {{ border: 1px solid {c["accent"]}; }}
QPlainTextEdit#recipe {{ background: {c["code_background"]}; color: {c["text"]};
    border: 1px solid {c["border"]}; border-radius: {radius - 2}px; padding: {grid // 2}px {grid}px;
    selection-background-color: {c["selection"]}; selection-color: {c["text"]}; }}
QPlainTextEdit#recipe:focus {{ border: 1px solid {c["accent"]}; }}
QLabel#quotedLine {{ color: {c["text"]}; }}
QPlainTextEdit#resultField {{ background: {c["background"]}; color: {c["text"]};
    border: 1px solid {c["border"]}; border-radius: {radius - 2}px; padding: {grid // 2}px {grid}px;
    selection-background-color: {c["selection"]}; selection-color: {c["text"]}; }}
QPlainTextEdit#resultField:focus {{ border: 1px solid {c["accent"]}; }}
QAbstractSpinBox {{ background: {c["surface"]}; color: {c["text"]}; border: 1px solid {c["border"]};
    border-radius: {radius - 2}px; padding: 4px 20px 4px {grid}px; min-height: 18px; }}
QAbstractSpinBox:focus {{ border: 1px solid {c["accent"]}; }}
QAbstractSpinBox:disabled {{ background: transparent; color: {c["muted"]}; }}
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button {{ subcontrol-origin: border; width: 18px;
    border: none; background: transparent; }}
QAbstractSpinBox::up-button {{ subcontrol-position: top right; }}
QAbstractSpinBox::down-button {{ subcontrol-position: bottom right; }}
QAbstractSpinBox::up-arrow {{ image: url("{up}"); width: 9px; height: 9px; }}
QAbstractSpinBox::down-arrow {{ image: url("{down}"); width: 9px; height: 9px; }}
QAbstractSpinBox::up-arrow:disabled, QAbstractSpinBox::up-arrow:off, QAbstractSpinBox::down-arrow:disabled,
    QAbstractSpinBox::down-arrow:off {{ image: none; }}
QSlider {{ min-height: 20px; }}
QSlider::groove:horizontal {{ height: 4px; border-radius: 2px; background: {c["border"]}; }}
QSlider::sub-page:horizontal {{ border-radius: 2px; background: {c["accent"]}; }}
QSlider::handle:horizontal {{ width: 12px; height: 12px; margin: -5px 0; border: 1px solid {c["muted"]};
    border-radius: 7px; background: {c["surface"]}; }}
QSlider::handle:horizontal:focus {{ border: 3px solid {c["text"]}; width: 8px; height: 8px;
    background: {c["accent"]}; }}
QSlider::sub-page:horizontal:disabled, QSlider::handle:horizontal:disabled {{ background: {c["border"]};
    border-color: {c["border"]}; }}
QTabWidget::pane {{ border: none; border-top: 1px solid {c["border"]}; }}
QTabBar::tab {{ background: transparent; color: {c["muted"]}; padding: 6px {2 * grid}px; border: none;
    border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {c["text"]}; border-bottom: 2px solid {c["accent"]}; }}
QTabBar::tab:hover:!selected {{ background: {hover}; }}
QTabBar::tab:focus {{ color: {c["accent"]}; }}
QRadioButton {{ spacing: {grid}px; }}
QRadioButton::indicator {{ width: 14px; height: 14px; border: 1px solid {c["muted"]}; border-radius: 8px;
    background: {c["surface"]}; }}
QRadioButton::indicator:checked {{ width: 6px; height: 6px; border: 5px solid {c["accent"]};
    background: {c["accent_text"]}; }}
QRadioButton::indicator:focus {{ border-color: {c["text"]}; }}
QCheckBox {{ spacing: {grid}px; }}
QCheckBox::indicator {{ width: 14px; height: 14px; border: 1px solid {c["muted"]}; border-radius: 3px;
    background: {c["surface"]}; }}
QCheckBox::indicator:checked {{ image: url("{check}"); }}
QCheckBox::indicator:focus {{ border: 1px solid {c["accent"]}; }}
QListView#conversations {{ background: transparent; border: none; outline: none; }}
QListView#conversations QLineEdit {{ padding: 2px {grid - 2}px; }}

QFrame#composer {{ background: {c["surface"]}; border: 1px solid {c["border"]}; border-radius: {radius}px; }}
QFrame#composer[focused="true"] {{ border: 1px solid {c["accent"]}; }}
QFrame#composer QPlainTextEdit {{ background: transparent; color: {c["text"]}; border: none;
    selection-background-color: {c["selection"]}; selection-color: {c["text"]}; }}
QToolButton#toolCount {{ color: {c["muted"]}; }}
QFrame#chip {{ background: {c["user_block"]}; border-radius: {radius - 2}px; }}
QDialogButtonBox {{ dialogbuttonbox-buttons-have-icons: 0; }}
QDialog QScrollArea, QDialog QScrollArea > QWidget > QWidget {{ background: transparent; }}
QLabel {{ background: transparent; color: {c["text"]}; }}
QLabel[muted="true"] {{ color: {c["muted"]}; }}
QLabel[danger="true"] {{ color: {c["danger"]}; }}
QWidget#libraryPage, QWidget#accessPage {{ background: {c["background"]}; }}
QScrollArea#scrolledColumn, QScrollArea#scrolledColumn > QWidget > QWidget {{ background: transparent; }}
QLabel#pageTitle {{ font-size: {theme.base_px * 1.4:.1f}px; font-weight: 600; }}
QLabel#sectionTitle {{ font-size: {theme.base_px * 1.1:.1f}px; font-weight: 600; }}
QFrame#card {{ background: {c["surface"]}; border: 1px solid {c["border"]}; border-radius: {radius}px; }}
QLabel#cardTitle {{ font-weight: 600; }}
QLabel#badge {{ color: {c["accent"]}; border: 1px solid {c["accent"]}; border-radius: {radius - 2}px;
    padding: 1px {grid}px; font-weight: 600; }}
QPushButton#primary {{ background: {c["accent"]}; color: {c["accent_text"]}; border: 1px solid {c["accent"]}; }}
QPushButton#primary:focus {{ border: 2px solid {c["text"]}; }}
QProgressBar {{ background: {c["border"]}; border: none; border-radius: 3px; min-height: 6px;
    max-height: 6px; }}
QProgressBar::chunk {{ background: {c["accent"]}; border-radius: 3px; }}
QComboBox {{ background: {c["surface"]}; color: {c["text"]}; border: 1px solid {c["border"]};
    border-radius: {radius - 2}px; padding: 5px {grid}px; }}
QComboBox:focus {{ border: 1px solid {c["accent"]}; }}
QComboBox:disabled {{ color: {c["muted"]}; }}
QComboBox::drop-down {{ border: none; width: 22px; }}
QComboBox::down-arrow {{ image: url("{down}"); width: 9px; height: 9px; }}
QComboBox QAbstractItemView {{ background: {c["surface"]}; color: {c["text"]}; border: 1px solid {c["border"]};
    selection-background-color: {c["selection"]}; selection-color: {c["text"]}; }}
QLabel#dialogTitle {{ font-size: {theme.base_px * 1.25:.1f}px; font-weight: 600; }}

QFrame#notice {{ background: {c["surface"]}; border: 1px solid {c["border"]}; border-radius: {radius}px; }}
QFrame#notice[kind="error"] {{ border: 1px solid {c["danger"]}; }}
QFrame#notice QPushButton {{ padding: 4px {grid + 4}px; }}

QScrollBar:vertical {{ background: transparent; width: 10px; margin: 0; }}
QScrollBar::handle:vertical {{ background: {_tint(theme.muted, 0.45)}; border-radius: 3px;
    min-height: 32px; margin: 2px; }}
QScrollBar::handle:vertical:hover {{ background: {_tint(theme.muted, 0.8)}; }}
QScrollBar:horizontal {{ background: transparent; height: 10px; margin: 0; }}
QScrollBar::handle:horizontal {{ background: {_tint(theme.muted, 0.45)}; border-radius: 3px;
    min-width: 32px; margin: 2px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
"""
