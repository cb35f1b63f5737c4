"""The window's way in.

Owns: nothing but the order of things: the data folder is named, what is to be opened is handed to a window that is
open already, else the application is made and the window shown.
"""

from engine.paths import data_folder


def run(data: str | None = None, request: str | None = None) -> int:
    """Open the window on the folder `data` (None: where `engine.paths` says); returns the exit status.

    `request`: a link or a model's file to open in it. A window of that folder that is open already gets it instead.
    """
    folder = data_folder(data)
    if request is not None:
        from app.front_door import hand_over

        if hand_over(folder.root, request):
            return 0
    from app.views.application import open_window

    return open_window(folder, request)
