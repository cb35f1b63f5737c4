"""Which backend opens a model.

Owns: that choice. Imports a backend's library only when a model of that kind is opened. Does not know what
a model file holds.
"""

from collections.abc import Callable
from pathlib import Path

from engine.backends.base import Backend
from engine.errors import ModelFileError
from engine.protocol import ModelEntry

SCRIPT_SUFFIX = ".script.json"


def open_backend(
    entry: ModelEntry, *, context_tokens: int, threads: int, on_progress: Callable[[float], bool]
) -> Backend:
    """Open `entry` with a context of at most `context_tokens`; takes as long as the file is large.

    `threads` 0: as many as suit this machine. `on_progress` is told the loaded fraction, 0 to 1; when it
    returns False, loading stops with ModelLoadError. Raises ModelFileError when the file is gone or is not a
    model, ModelLoadError when it cannot be loaded.
    """
    path = Path(entry.path)
    if not path.is_file():
        raise ModelFileError(
            f"{entry.name} could not be opened",
            f"there is no file {path}",
            "put the file back or choose another model",
        )
    if path.name.endswith(SCRIPT_SUFFIX):
        from engine.backends.scripted import ScriptedBackend

        return ScriptedBackend.open(
            path, name=entry.name, context_tokens=context_tokens, on_progress=on_progress
        )
    from engine.backends.llamacpp import LlamaCppBackend

    return LlamaCppBackend.open(
        path, name=entry.name, context_tokens=context_tokens, threads=threads, on_progress=on_progress
    )
