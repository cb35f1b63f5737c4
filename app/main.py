"""The window's way in.

Owns: nothing but the order of things: the data folder is named, the application is made, the window shown.
"""

from engine.paths import data_folder


def run(data: str | None = None) -> int:
    """Open the window on the folder `data` (None: where `engine.paths` says); returns the exit status."""
    from app.views.application import open_window

    return open_window(data_folder(data))
