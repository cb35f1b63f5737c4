"""Everything the window can do, as one table.

Owns: names, shortcuts, places in the menus and explanations; menus, shortcuts and the help on shortcuts are
made from it. Does not know widgets: `slot` is the name of a method of the window.
"""

from dataclasses import dataclass
from typing import Literal

from PySide6.QtGui import QKeySequence

Standard = QKeySequence.StandardKey
Menu = Literal["Conversation", "Answer", "Model", "Data", "View", "Help"]
MENUS: tuple[Menu, ...] = ("Conversation", "Answer", "Model", "Data", "View", "Help")


@dataclass(frozen=True)
class ActionRow:
    """One thing to do. `shortcuts` as text name Ctrl for what is Command on a Mac."""

    id: str
    text: str
    shortcuts: tuple[str | QKeySequence.StandardKey, ...]
    menu: Menu
    tooltip: str
    slot: str
    checkable: bool = False
    separated: bool = False
    """A line stands above it in the menu."""
    role: Literal["", "quit", "about", "preferences"] = ""
    """Where macOS puts it."""

    def sequences(self) -> list[QKeySequence]:
        """The key sequences on this platform; the first is the one that is shown."""
        found: list[QKeySequence] = []
        for shortcut in self.shortcuts:
            if isinstance(shortcut, str):
                found.append(QKeySequence(shortcut))
            else:
                found.extend(QKeySequence.keyBindings(shortcut))
        return list(dict.fromkeys(sequence for sequence in found if not sequence.isEmpty()))

    @property
    def label(self) -> str:
        """The text without its mnemonic mark."""
        return self.text.replace("&", "")


ACTIONS: tuple[ActionRow, ...] = (
    ActionRow("new", "&New conversation", (Standard.New, "Ctrl+N"), "Conversation",
              "Begin a new conversation", "new_conversation"),
    ActionRow("rename", "&Rename…", ("F2",), "Conversation",
              "Give the open conversation another title", "rename_conversation"),
    ActionRow("delete", "&Delete", ("Ctrl+Shift+Del",), "Conversation",
              "Delete the open conversation; can be undone until the window closes", "delete_conversation"),
    ActionRow("undo_delete", "&Undo delete", ("Ctrl+Alt+Z",), "Conversation",
              "Bring back the conversation that was deleted last", "undo_delete"),
    ActionRow("search", "&Search conversations", (Standard.Find, "Ctrl+F"), "Conversation",
              "Find words in titles and messages", "search_conversations", separated=True),
    ActionRow("next", "Ne&xt conversation", ("Ctrl+PgDown", "Ctrl+Tab"), "Conversation",
              "Open the conversation below in the list", "next_conversation"),
    ActionRow("previous", "&Previous conversation", ("Ctrl+PgUp", "Ctrl+Shift+Tab"), "Conversation",
              "Open the conversation above in the list", "previous_conversation"),
    ActionRow("copy_conversation", "&Copy conversation", ("Ctrl+Alt+C",), "Conversation",
              "Copy the shown messages as Markdown", "copy_conversation", separated=True),
    ActionRow("export", "&Export…", ("Ctrl+Shift+S",), "Conversation",
              "Write the open conversation to a file: Markdown to read, or JSON with everything in it",
              "export_conversation"),
    ActionRow("import", "I&mport…", ("Ctrl+Shift+O",), "Conversation",
              "Take in a conversation that was exported as JSON", "import_conversation"),
    ActionRow("tools", "&Tools…", ("Ctrl+T",), "Conversation",
              "What the model may call in this conversation", "show_tools", separated=True),
    ActionRow("settings", "Sett&ings…", ("Ctrl+,",), "Conversation",
              "System message, sampling, context size, threads", "show_settings", role="preferences"),
    ActionRow("close", "C&lose window", (Standard.Close, "Ctrl+W"), "Conversation",
              "Close this window; what was written stays", "close_window", separated=True),
    ActionRow("quit", "&Quit", ("Ctrl+Q",), "Conversation", "Close Seamount", "quit", role="quit"),
    ActionRow("send", "&Send", ("Ctrl+Return",), "Answer", "Send what stands in the composer", "send"),
    ActionRow("stop", "S&top", ("Esc",), "Answer", "Stop the answer that is being written", "stop"),
    ActionRow("retry", "&Retry", ("Ctrl+R",), "Answer",
              "Ask for another answer beside the last one", "retry", separated=True),
    ActionRow("continue", "&Continue", ("Ctrl+Shift+R",), "Answer",
              "Go on with an answer that was cut off", "continue_answer"),
    ActionRow("edit_last", "&Edit last message", ("Ctrl+Shift+E",), "Answer",
              "Ask your last question differently", "edit_last"),
    ActionRow("copy_answer", "Copy &last answer", ("Ctrl+Shift+C",), "Answer",
              "Copy the last answer as Markdown", "copy_answer", separated=True),
    ActionRow("focus_composer", "&Write", ("Ctrl+L",), "Answer",
              "Put the cursor into the composer", "focus_composer", separated=True),
    ActionRow("choose_model", "&Choose model…", ("Ctrl+M",), "Model",
              "Open the list of models", "choose_model"),
    ActionRow("open_model", "&Add a GGUF file…", (Standard.Open, "Ctrl+O"), "Model",
              "Add a model file that lies on this computer", "open_model"),
    ActionRow("placement", "&Placement and speed…", ("Ctrl+Shift+P",), "Model",
              "What of the loaded model lies where, how fast that is, and sliders to change it", "show_placement"),
    ActionRow("library", "&Library", ("Ctrl+Shift+L",), "Model",
              "The models on this machine, and those that can be had", "show_library", separated=True),
    ActionRow("add_remote", "Add a model &on another machine…", ("Ctrl+Shift+A",), "Model",
              "Use a model that a cluster, a service or another Seamount computes", "add_remote"),
    ActionRow("convert", "Conver&t a checkpoint…", ("Ctrl+Shift+M",), "Model",
              "Make a GGUF file of a DeepSeek-V4 checkpoint", "convert_checkpoint"),
    ActionRow("conversions", "Con&versions and downloads…", ("Ctrl+J",), "Model",
              "Watch, pause and resume what is under way", "show_conversions"),
    ActionRow("programs", "Other pro&grams", ("Ctrl+Shift+K",), "Model",
              "The address and the keys with which other programs ask the models here", "show_programs",
              separated=True),
    ActionRow("mode_non_think", "&Non-think", ("Ctrl+1",), "Model",
              "The model answers at once", "mode_non_think", checkable=True, separated=True),
    ActionRow("mode_high", "Think-&High", ("Ctrl+2",), "Model",
              "The model thinks first, then answers", "mode_high", checkable=True),
    ActionRow("mode_max", "Think-&Max", ("Ctrl+3",), "Model",
              "The model thinks as long as it takes", "mode_max", checkable=True),
    ActionRow("restart_engine", "&Restart engine", ("Ctrl+Shift+F5",), "Model",
              "Start the process that runs the model anew", "restart_engine", separated=True),
    ActionRow("back_up", "&Back up…", ("Ctrl+Shift+B",), "Data",
              "Write conversations, settings and choices into one file", "back_up"),
    ActionRow("restore", "&Restore…", ("Ctrl+Alt+B",), "Data",
              "Put a backup in the place of what is here", "restore_backup"),
    ActionRow("encryption", "&Encryption…", ("Ctrl+Alt+E",), "Data",
              "Encrypt the conversations on this disk, or take that back", "show_encryption", separated=True),
    ActionRow("toggle_sidebar", "&Conversations", ("Ctrl+B",), "View",
              "Show or hide the list of conversations", "toggle_sidebar", checkable=True),
    ActionRow("zoom_in", "Zoom &in", (Standard.ZoomIn, "Ctrl++", "Ctrl+="), "View", "Larger text", "zoom_in",
              separated=True),
    ActionRow("zoom_out", "Zoom &out", (Standard.ZoomOut, "Ctrl+-"), "View", "Smaller text", "zoom_out"),
    ActionRow("zoom_reset", "&Normal size", ("Ctrl+0",), "View", "Text at its normal size", "zoom_reset"),
    ActionRow("theme_system", "Theme of the &system", ("Ctrl+Alt+1",), "View",
              "Light or dark as the system is", "theme_system", checkable=True, separated=True),
    ActionRow("theme_light", "&Light theme", ("Ctrl+Alt+2",), "View", "Always light", "theme_light",
              checkable=True),
    ActionRow("theme_dark", "&Dark theme", ("Ctrl+Alt+3",), "View", "Always dark", "theme_dark",
              checkable=True),
    ActionRow("shortcuts", "&Keyboard shortcuts", ("F1",), "Help",
              "Every action and its keys", "show_shortcuts"),
    ActionRow("about", "&About Seamount", ("Shift+F1",), "Help",
              "Version, licence, and where your data lies", "show_about", role="about"),
)  # fmt: skip
