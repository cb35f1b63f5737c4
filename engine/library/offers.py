"""What can be had, with what it costs: an Offer for each entry of the catalogue, or for a repository.

Owns: putting an entry's sizes, what this machine could do with it, and what already lies here, together. Asks no
hub.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from convert.model_shape import ModelShape
from engine.encoding.release import choose_release
from engine.errors import DoesNotFit, UnknownRelease
from engine.library.catalogue_entries import Catalogue, Entry
from engine.library.fit import Foretold, fit_of
from engine.library.holdings import Holding
from engine.protocol_library import Fit, Offer


@dataclass(frozen=True)
class Circumstances:
    """What an offer depends on besides itself. `streams`: files that are fetched at the same time; `foretell`: how a
    model of that size, or shape, would run here (`Foretelling.of`)."""

    memory_bytes: int
    gpu_bytes: int
    free_bytes: int
    streams: int
    holdings: Sequence[Holding]
    foretell: Callable[[int, ModelShape | None], Foretold | DoesNotFit | None] = lambda _bytes, _shape: None


def offers(catalogue: Catalogue, now: Circumstances) -> list[Offer]:
    """One for each entry: the person's own first, then in the catalogue's order."""
    entries = sorted(catalogue.entries.values(), key=lambda entry: entry.name not in catalogue.own)
    return [offer_of(entry, now, own=entry.name in catalogue.own) for entry in entries]


def offer_of(entry: Entry, now: Circumstances, *, own: bool) -> Offer:
    """What an entry offers."""
    item_id = _item_of(entry, now.holdings)
    return Offer(
        name=entry.name,
        title=entry.title,
        about=entry.about,
        kind=entry.kind,
        repository=entry.repository,
        revision=entry.revision,
        pinned=entry.pinned,
        files=entry.files,
        release=release_title([entry.release or entry.repository]),
        licence=entry.licence,
        download_bytes=entry.download_bytes,
        results=entry.results,
        working_bytes=working_bytes(entry.largest_shard_bytes, now.streams),
        own=own,
        fit=fit_for(result_bytes_of(entry), now, is_here=item_id is not None),
        item_id=item_id,
    )


def fit_for(
    run_bytes: int | None, now: Circumstances, *, is_here: bool, shape: ModelShape | None = None
) -> Fit:
    """What this machine could do with a model of that size; the disk counts only for one that is not here yet."""
    return fit_of(
        run_bytes,
        memory_bytes=now.memory_bytes,
        gpu_bytes=now.gpu_bytes,
        free_bytes=None if is_here else now.free_bytes,
        foretold=None if run_bytes is None else now.foretell(run_bytes, shape),
    )


def working_bytes(largest_shard_bytes: int | None, streams: int) -> int | None:
    """What shards take at most while they are converted as they arrive and deleted: streams + 2 are on their way or
    wait (`streamed_conversion`), and one may be wanted before its turn."""
    return None if largest_shard_bytes is None else (streams + 3) * largest_shard_bytes


def release_title(names: Sequence[str]) -> str | None:
    """The title of the release that bears one of these names; None for other models."""
    try:
        return choose_release(names).title
    except UnknownRelease:
        return None


def result_bytes_of(entry: Entry) -> int | None:
    """What is read to compute with it: of a checkpoint the smallest result, without its drafter."""
    if entry.kind == "gguf":
        return entry.download_bytes
    return min((each.model_bytes for each in entry.results), default=None)


def _item_of(entry: Entry, holdings: Sequence[Holding]) -> str | None:
    """The item that came of an entry; a model before the checkpoint that it may have been made of."""
    for holding in sorted(holdings, key=lambda each: each.item.kind != "model"):
        item = holding.item
        here = (item.repository or "").casefold() == entry.repository.casefold()
        if entry.kind == "gguf":
            # A repository of GGUFs holds several: the file tells which.
            here = here and any(
                fnmatch(path.name, each.rpartition("/")[2]) for path in holding.takes for each in entry.files
            )
        elif item.kind == "model" and item.repository is None:
            here = entry.release is not None and entry.release in holding.release_names[:1]
        if here:
            return item.id
    return None
