"""Shards that are still on their way: what a conversion asks of whoever brings them.

Owns: the questions. Who fetches, and from where, is not known here. All calls may come from any thread.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Beginning:
    """A shard of which at least the header has arrived.

    `path` begins with that header and may be shorter than the shard; `size_bytes` and `modified_ns` are the size
    and the time of change that the whole file will have under its own name.
    """

    path: Path
    size_bytes: int
    modified_ns: int


class Arrivals(Protocol):
    """The shards of one checkpoint folder while it is being filled."""

    def beginning(self, name: str) -> Beginning | None:
        """The beginning of a shard that is on its way; None for one that lies in the folder, or is not known."""
        ...

    def wait_for(self, names: Collection[str], cancelled: Callable[[], bool]) -> None:
        """Return when all of these lie whole in the folder; they are fetched before all others.

        Returns early when `cancelled()`, which is asked at least twice a second. Raises what fetching failed with.
        """
        ...

    def deleted(self, name: str) -> None:
        """The shard was used up and deleted: its room is free again."""
        ...
