"""A repository as the hub tells of it now: what it holds, what of it can be had, and whether it can be used here.

Owns: telling GGUFs from a checkpoint, the parts of a split model from several models, and a DeepSeek-V4 from
another architecture. What the hub says is from outside: it is bounded and shown as text. Fetches nothing but a
small config.json.
"""

import json
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any, cast

from convert.checkpoint_error import CheckpointError
from convert.expected_tensors import expected_tensors
from convert.inspection import result_sizes
from convert.model_shape import ModelShape
from convert.wording import printable
from engine.errors import HubUnreachable
from engine.library.catalogue import Wanted
from engine.library.fetching.fetch_plan import CHECKPOINT_FILES
from engine.library.model_files import parts_pattern
from engine.library.offers import Circumstances, fit_for, offer_of, release_title, working_bytes
from engine.protocol_jobs import ResultBytes
from engine.protocol_library import Lookup, Offer, RemoteFileEntry

if TYPE_CHECKING:
    from engine.library.fetching.hub import Hub, Listing
    from engine.library.fetching.remote_file import RemoteFile

MOST_SHOWN = 2_000
MAX_CONFIG_BYTES = 1 << 20
CONFIG_TIMEOUT_S = 30.0
WEIGHTS = ".safetensors"
SUFFIX = ".gguf"
LONGEST_NAME = 1_000
_NOT_MODELS = ("mmproj", "imatrix")


def look_up(meant: Wanted, hub: "Hub", now: Circumstances, *, own: bool) -> Lookup:
    """Ask the hub what is meant. Raises TokenNeeded, RepositoryGone, HubUnreachable, FetchFailed."""
    listing = hub.listing(meant.repository, meant.revision)
    choices = _choices(listing.files)
    patterns = meant.files or CHECKPOINT_FILES
    weights = [file for file in listing.files if file.path.endswith(WEIGHTS) and "/" not in file.path]
    if meant.is_gguf or (choices and not weights):
        offer, problem = _of_ggufs(meant, listing, choices, now)
    else:
        offer, problem = _of_checkpoint(meant, hub, listing, weights, patterns, now)
    if meant.entry is not None:
        known = offer_of(meant.entry, now, own=own)
        offer = offer.model_copy(
            update={
                name: getattr(known, name) for name in ("name", "title", "about", "release", "own", "item_id")
            }
        )
    return Lookup(
        offer=offer,
        files=[
            RemoteFileEntry(path=_text(file.path), size_bytes=file.size_bytes)
            for file in listing.files[:MOST_SHOWN]
        ],
        choices=choices if len(choices) > 1 or not meant.files else [],
        problem=problem,
    )


def _of_ggufs(
    meant: Wanted, listing: "Listing", choices: Sequence[RemoteFileEntry], now: Circumstances
) -> tuple[Offer, str | None]:
    patterns = list(meant.files) or ([choices[0].path] if len(choices) == 1 else [])
    wanted = [file for file in listing.files if any(fnmatch(file.path, each) for each in patterns)]
    size_bytes = sum(file.size_bytes for file in wanted) if patterns else None
    problem = None
    if patterns and not wanted:
        problem = f"There is no file {_text(patterns[0])} in {listing.repository} now."
    return (
        _offer(meant, listing, "gguf", patterns, size_bytes).model_copy(
            update={"fit": fit_for(size_bytes, now, is_here=False)}
        ),
        problem,
    )


def _of_checkpoint(
    meant: Wanted,
    hub: "Hub",
    listing: "Listing",
    weights: "Sequence[RemoteFile]",
    patterns: Sequence[str],
    now: Circumstances,
) -> tuple[Offer, str | None]:
    size_bytes = sum(
        file.size_bytes for file in listing.files if any(fnmatch(file.path, each) for each in patterns)
    )
    offer = _offer(meant, listing, "checkpoint", meant.files, size_bytes)
    if not weights:
        return offer, f"{listing.repository} holds no weights: neither .safetensors files nor a GGUF."
    shape, problem = _shape(hub, listing)
    if shape is None:
        return offer, problem
    results = (
        [
            ResultBytes(dense=each.dense, model_bytes=each.model_bytes, draft_bytes=each.draft_bytes)
            for each in result_sizes(expected_tensors(shape))
        ]
        if shape.expert_dtype == "fp4"
        else []
    )
    if not results:
        problem = "Its experts are not in FP4, so it cannot be converted."
    run_bytes = min((each.model_bytes for each in results), default=None)
    return (
        offer.model_copy(
            update={
                "results": results,
                "item_id": _item_of(listing.repository, now),
                "working_bytes": working_bytes(max(file.size_bytes for file in weights), now.streams),
                "fit": fit_for(run_bytes, now, is_here=False, shape=shape),
            }
        ),
        problem,
    )


def _item_of(repository: str, now: Circumstances) -> str | None:
    """The item that came of a checkpoint's repository, a model first."""
    of_it = [
        each.item for each in now.holdings if (each.item.repository or "").casefold() == repository.casefold()
    ]
    return next((item.id for item in sorted(of_it, key=lambda each: each.kind != "model")), None)


def _shape(hub: "Hub", listing: "Listing") -> tuple[ModelShape | None, str | None]:
    """The shape of its model by its config.json; a sentence where it is no V4."""
    file = next((file for file in listing.files if file.path == "config.json"), None)
    if file is None:
        return None, f"{listing.repository} has no config.json, so nothing tells what kind of model it is."
    if file.size_bytes > MAX_CONFIG_BYTES:
        return None, f"The config.json of {listing.repository} is too large to be one."
    if file.size_bytes == 0:
        return None, f"The config.json of {listing.repository} is empty."
    raw = bytearray()
    until_s = time.monotonic() + CONFIG_TIMEOUT_S
    with hub.stream(listing.repository, listing.revision, file, 0, file.size_bytes) as pieces:
        for piece in pieces:
            raw += piece
            if len(raw) > MAX_CONFIG_BYTES:
                break
            if time.monotonic() > until_s:
                raise HubUnreachable(
                    f"{listing.repository} cannot be looked up",
                    "the hub sends its config.json too slowly",
                    "try again later",
                )
    try:
        config: Any = json.loads(bytes(raw))
        if not isinstance(config, dict):
            raise ValueError("not an object")
        return ModelShape.from_config(cast(dict[str, Any], config), listing.repository), None
    except CheckpointError as error:
        return None, f"{error.what}: {error.why}."
    except (ValueError, RecursionError):
        return None, f"The config.json of {listing.repository} cannot be read."


def _offer(
    meant: Wanted, listing: "Listing", kind: Any, patterns: Sequence[str], size_bytes: int | None
) -> Offer:
    name = meant.repository.rpartition("/")[2]
    names = [name, *(each.rpartition("/")[2] for each in patterns)]
    return Offer(
        name=meant.repository,
        title=name,
        kind=kind,
        repository=meant.repository,
        revision=listing.revision,
        pinned=True,
        files=[_text(each) for each in patterns],
        release=release_title(names),
        licence=None if listing.licence is None else _text(listing.licence)[:60],
        download_bytes=size_bytes,
    )


def _choices(files: "Sequence[RemoteFile]") -> list[RemoteFileEntry]:
    """Each whole GGUF model as a pattern with its size; what is part of another model, or no model, left out."""
    sizes: dict[str, int] = {}
    for file in files:
        folder, _, name = file.path.rpartition("/")
        lower = name.lower()
        if not lower.endswith(SUFFIX) or any(word in lower for word in _NOT_MODELS):
            continue
        pattern = parts_pattern(name)
        whole = f"{parts_pattern(folder)}/{pattern}" if folder else pattern
        sizes[whole] = sizes.get(whole, 0) + file.size_bytes
    return [RemoteFileEntry(path=pattern, size_bytes=size) for pattern, size in sorted(sizes.items())][
        :MOST_SHOWN
    ]


def _text(text: str) -> str:
    """A name from the hub as text that can be shown, and asked for again."""
    return printable(text[:LONGEST_NAME])
