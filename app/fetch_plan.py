"""What getting a model costs, before it is begun: bytes to fetch, room at the end and at most, time.

Owns: the arithmetic, and whether it fits. Pure; the words about it are `library_words`. Sizes are bytes.
"""

from dataclasses import dataclass

from app.conversion_words import result_bytes
from engine.protocol_jobs import DenseFormat
from engine.protocol_library import DiskRoom, Offer

SAME_DISK_SHARE = 0.01
"""Two measurements of one disk, a moment apart, differ by less than this share of it."""


@dataclass(frozen=True)
class Room:
    """A disk as it was measured."""

    free_bytes: int
    total_bytes: int

    @classmethod
    def of(cls, room: DiskRoom) -> "Room":
        """The disk of a folder that the engine knows."""
        return cls(room.free_bytes, room.total_bytes)

    def is_same(self, other: "Room") -> bool:
        """Both are one disk, as far as its size and its free space tell."""
        apart_bytes = abs(self.free_bytes - other.free_bytes)
        return self.total_bytes == other.total_bytes and apart_bytes <= SAME_DISK_SHARE * self.total_bytes


@dataclass(frozen=True)
class FetchPlan:
    """An offer, and what is to be made of it. None where it is not known."""

    download_bytes: int | None
    result_bytes: int | None
    """Of the converted model; None too where nothing is converted."""
    working_bytes: int | None
    """Of the parts that lie beside the result at most, when each is deleted once it is converted."""
    converts: bool
    consumes: bool

    @classmethod
    def of(cls, offer: Offer, *, convert: bool, dense: DenseFormat, consume: bool) -> "FetchPlan":
        """The plan of getting `offer` so."""
        return cls(
            offer.download_bytes,
            result_bytes(offer.results, dense) if convert else None,
            offer.working_bytes,
            convert,
            convert and consume,
        )

    @property
    def fetched_peak_bytes(self) -> int | None:
        """What has arrived and lies on the disk, at most."""
        if self.consumes and self.working_bytes is not None:
            return self.working_bytes
        return self.download_bytes

    @property
    def end_bytes(self) -> int | None:
        """What lies on all disks at the end."""
        if self.consumes:
            return self.result_bytes
        return _sum(self.download_bytes, self.result_bytes) if self.converts else self.download_bytes

    @property
    def peak_bytes(self) -> int | None:
        """What lies on all disks at most."""
        if self.converts:
            return _sum(self.fetched_peak_bytes, self.result_bytes)
        return self.download_bytes

    def seconds_at(self, bits_per_s: float) -> float | None:
        """How long the download takes on a line of this speed."""
        return None if self.download_bytes is None else self.download_bytes * 8 / bits_per_s

    def shortfalls(self, fetched: Room | None, result: Room | None) -> list[tuple[int, int]]:
        """(needed, free) of each disk that has not enough. `fetched`, `result`: the disks of both folders."""
        needs: list[tuple[int | None, Room | None]]
        if not self.converts:
            needs = [(self.download_bytes, fetched)]
        elif fetched is not None and result is not None and fetched.is_same(result):
            needs = [(self.peak_bytes, result)]
        else:
            needs = [(self.fetched_peak_bytes, fetched), (self.result_bytes, result)]
        return [
            (needed, room.free_bytes)
            for needed, room in needs
            if needed is not None and room is not None and needed > room.free_bytes
        ]


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other
