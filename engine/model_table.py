"""The models there are, as lines in a terminal.

Owns: what `seamount models` prints. Does not know how models are found (`library/`).
"""

from engine.library.models import ModelLibrary
from engine.paths import DataFolder
from engine.remotes import Remotes


def print_models(folder: DataFolder) -> int:
    """Print every model with its id, size and name, and why it cannot be loaded if so; exit status 0."""
    folder.create()
    library = ModelLibrary(folder)
    library.remotes = Remotes(folder.remotes).entries
    entries = library.entries()
    if not entries:
        print(f"There are no models. Put a GGUF file into {folder.models}.")
        return 0
    default = library.default_id()
    width = max(len(entry.id) for entry in entries)
    for entry in entries:
        mark = "*" if entry.id == default else " "
        size = "elsewhere" if entry.source == "remote" else size_text(entry.size_bytes)
        print(f"{mark} {entry.id:<{width}}  {size:>9}  {entry.name}")
        if entry.problem is not None:
            print(f"  {'':<{width}}  {entry.problem.text}")
    print("\nThe one with * is loaded when no other is chosen. Use an id or a path with --model.")
    return 0


def size_text(size_bytes: int) -> str:
    """`size_bytes` as people say it: 98 MB, 4.7 GB (powers of 1000, as on a download page)."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= scale:
            value = size_bytes / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{size_bytes / 1000:.0f} kB"
