"""The settings' row of an optional part, at work.

Owns: handing what the row asks for to the shelf, and what the shelf is told to the row, as long as the row is there.
"""

from app.api import EngineApi
from app.parts_shelf import PartsShelf
from app.views.part_row import PartRow


def fill(row: PartRow, api: EngineApi) -> PartsShelf:
    """Have `row` show what is there now, and do what it is asked for. An installation goes on without the row."""
    # Its child: both end together, and with them what is still being asked.
    shelf = PartsShelf(api, parent=row)
    shelf.told.connect(row.show_entry)
    shelf.refused.connect(row.show_failure)
    row.install_requested.connect(shelf.install)
    row.stop_requested.connect(shelf.stop)
    row.remove_requested.connect(shelf.remove)
    shelf.refresh()
    return shelf
