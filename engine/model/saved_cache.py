"""A context's state as bytes, and back bit for bit.

Owns: the layout below, and every check of bytes that come back from a disk: nothing in them is believed that the
model's configuration does not allow, and no memory is taken before the length agrees. What the numbers mean is not
checked (whoever keeps states has sums and a probe for that). Knows no file.

All numbers are little-endian. A header of 96 bytes:

    offset  size  what
         0     8  b"SMV4KV" and two zeros
         8     4  version, 1
        12     4  format of rows: 0 f32, 1 bf16, 2 mixed (584 bytes for a row of 512, 68 for a key of 128)
        16     4  bits: 1 compressed rows follow; 2 the draft block's part follows; 4 with its streams
        20     4  zero
        24     8  position: how many tokens were read
        32     8  the first token whose row is in the windows' rings
        40     8  the first token whose row is in the draft block's ring; 0 without it
        48     8  how many bytes follow
        56     8  zero
        64    32  SHA-256 of the shape (`_digest`)

Then, each array with its last index fastest, and nothing between two of them:

1. For each layer: the ring's rows by rising token [position - first, row]; where it compresses, the raw values and
   then the raw gates, F32 [tokens, width], from the first token that is still needed (`compressor_state`); where it
   chooses, the same of the indexer's compressor.
2. The draft block's ring likewise, and the streams after the last token, F32 [streams, hidden].
3. For each layer: the compressed rows [position / ratio, row], then the indexer's keys.

A mark of a context is 1. and 2. alone: its rows are the first ones of the context's.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from engine.model.cache import CacheMark, SequenceCache
from engine.model.compressor_state import first_needed
from engine.model.config import NetworkConfig
from engine.model.model_error import ModelError
from engine.model.row_formats import CacheFormat

Bytes = NDArray[np.uint8]
MAGIC, VERSION = b"SMV4KV\0\0", 1
HEADER = struct.Struct("<8sIIIIQQQQQ32s")
FORMATS: tuple[CacheFormat, ...] = ("f32", "bf16", "mixed")
ROWS, DRAFT, STREAMS = 1, 2, 4
COPIED_AT_ONCE = 1 << 26
"""Bytes of rows that are on their way at a time."""


@dataclass(frozen=True)
class _Header:
    format: CacheFormat
    bits: int
    position: int
    first: int
    draft_first: int
    follow: int


def state_bytes(cache: SequenceCache, *, rows: bool = True) -> int:
    """What `write_state` writes."""
    return HEADER.size + sum(each.nbytes for each in _arrays(cache, rows=rows))


def write_state(cache: SequenceCache, room: Bytes, *, rows: bool = True) -> None:
    """Write the state into `room`, [state_bytes]. `rows`: with the compressed rows; without, it is a mark."""
    size = state_bytes(cache, rows=rows)
    if room.nbytes != size or sys.byteorder != "little":
        raise ValueError(f"a state of {size} bytes does not go into {room.nbytes} ({sys.byteorder}-endian)")
    draft = cache.draft
    bits = ROWS if rows else 0
    if draft is not None:
        bits |= DRAFT if draft.hidden is None else DRAFT | STREAMS
    head = (MAGIC, VERSION, FORMATS.index(cache.format), bits, 0, cache.position, cache.layers[0].ring.first)
    after = (0 if draft is None else draft.ring.first, size - HEADER.size, 0, _digest(cache.config))
    room[: HEADER.size] = np.frombuffer(HEADER.pack(*head, *after), np.uint8)
    place = HEADER.size
    for each in _arrays(cache, rows=rows):
        step = max(1, COPIED_AT_ONCE // max(1, each[:1].nbytes))
        for start in range(0, len(each), step):
            some = each[start : start + step].contiguous().cpu().view(torch.uint8).flatten().numpy()
            room[place : place + some.nbytes] = some
            place += some.nbytes


def read_state(
    raw: Bytes,
    config: NetworkConfig,
    cache_format: CacheFormat,
    device: torch.device | str = "cpu",
    *,
    drafts: bool = False,
) -> SequenceCache:
    """The context that was written. Where `drafts` and nothing of them was kept they begin anew; where not, what was
    kept of them is left out. Raises ModelError for bytes that are not such a state of this model."""
    header = _header(raw, config, cache_format)
    if not header.bits & ROWS:
        raise _wrong("it is a mark, without its rows")
    cache = SequenceCache(config, cache_format, device, drafts=drafts)
    _read(cache, header, raw, None)
    return cache


def read_mark(raw: Bytes, cache: SequenceCache) -> CacheMark:
    """The mark that was written of a context with these tokens; `cache` holds at least as many. Raises ModelError."""
    header = _header(raw, cache.config, cache.format)
    if header.bits & ROWS:
        raise _wrong("it is a whole context, not a mark")
    if header.position > cache.position:
        raise _wrong(f"it is a mark at {header.position:,} in a context of {cache.position:,} tokens")
    marked = SequenceCache(cache.config, cache.format, cache.device, drafts=cache.draft is not None)
    _read(marked, header, raw, cache)
    return CacheMark(marked)


def _read(cache: SequenceCache, header: _Header, raw: Bytes, whole: SequenceCache | None) -> None:
    """Fill an empty context. `whole`: whose compressed rows it begins with, where they are not in `raw`."""
    place = HEADER.size

    def taken(target: torch.Tensor) -> torch.Tensor:
        nonlocal place
        step = max(1, COPIED_AT_ONCE // max(1, target[:1].nbytes))
        for start in range(0, len(target), step):
            some = torch.empty_like(target[start : start + step], device="cpu")
            seen = some.view(torch.uint8).flatten().numpy()
            seen[:] = raw[place : place + seen.nbytes]
            place += seen.nbytes
            target[start : start + step] = some
        return target

    position = header.position
    for layer in cache.layers:
        empty = layer.ring.last(0)
        layer.ring.fill(header.first, taken(empty.new_empty(position - header.first, empty.shape[1])))
        for each in layer.compressors:
            tokens = position - first_needed(each.ratio, position)
            kv = taken(each.kv.new_empty(tokens, each.kv.shape[1]))
            each.restore(position, kv, taken(torch.empty_like(kv)))
    if header.bits & DRAFT:
        empty = cache.layers[0].ring.last(0)
        rows = taken(empty.new_empty(max(0, position - header.draft_first), empty.shape[1]))
        hidden = None
        if header.bits & STREAMS:
            size = (cache.config.hc_mult, cache.config.hidden_size)
            hidden = taken(torch.empty(size, dtype=torch.float32, device=cache.device))
        if cache.draft is not None:
            cache.draft.restore(header.draft_first, rows, hidden)
    elif cache.draft is not None:
        cache.draft.begin(position)
    for number, layer in enumerate(cache.layers):
        for at, each in enumerate(layer.compressors):
            count = position // each.ratio
            if whole is None:
                taken(each.rows.prepare(count))
            else:
                each.rows = whole.layers[number].compressors[at].rows.fork()
            each.rows.settle(count)
    cache.position = position


def _arrays(cache: SequenceCache, *, rows: bool) -> Iterator[torch.Tensor]:
    """What is written, in order."""
    for layer in cache.layers:
        yield layer.ring.last(layer.ring.window)
        for each in layer.compressors:
            yield each.kv
            yield each.gate
    if cache.draft is not None:
        yield cache.draft.ring.last(cache.draft.ring.window)
        if cache.draft.hidden is not None:
            yield cache.draft.hidden
    if rows:
        for layer in cache.layers:
            for each in layer.compressors:
                yield each.rows.kept


def _header(raw: Bytes, config: NetworkConfig, cache_format: CacheFormat) -> _Header:
    """What the header says, if bytes of that length can follow it in this model."""
    if raw.dtype != np.uint8 or raw.ndim != 1 or raw.nbytes < HEADER.size or sys.byteorder != "little":
        raise _wrong("it is too short to be one")
    magic, version, form, bits, zero, position, first, draft_first, follow, zeros, digest = HEADER.unpack(
        raw[: HEADER.size].tobytes()
    )
    if magic != MAGIC:
        raise _wrong("it does not begin like one")
    if version != VERSION:
        raise _wrong(f"it is of version {version}, and this program reads {VERSION}")
    if zero or zeros or bits & ~(ROWS | DRAFT | STREAMS) or (bits & STREAMS and not bits & DRAFT):
        raise _wrong("its header holds what no version writes")
    if digest != _digest(config):
        raise _wrong("it was written with a model of another shape")
    if form >= len(FORMATS) or FORMATS[form] != cache_format:
        raise _wrong(f"its rows are not kept as {cache_format}, as this context's are")
    window = config.sliding_window
    if position > config.max_position_embeddings:
        raise _wrong(f"it says that it holds {position:,} tokens, more than the model can")
    if not position - window <= first <= max(0, position - window + 1):
        raise _wrong("its windows do not hold the tokens before its end")
    if bits & STREAMS:
        begins_well = max(1, position - window) <= draft_first <= position
    else:
        begins_well = draft_first == (position + 1 if bits & DRAFT else 0)
    if not begins_well:
        raise _wrong("its draft block's window does not lie before its end")
    header = _Header(cache_format, bits, position, first, draft_first, follow)
    if follow != raw.nbytes - HEADER.size or follow != _length(config, header):
        raise _wrong(f"it is {raw.nbytes:,} bytes long, and one of {position:,} tokens is not")
    return header


def _length(config: NetworkConfig, header: _Header) -> int:
    """Bytes after such a header, told by an empty context: nothing of the size that the header says is allocated."""
    cache = SequenceCache(config, header.format, "meta")
    total = 0
    for layer in cache.layers:
        total += (header.position - header.first) * layer.ring.form.row_bytes
        for each in layer.compressors:
            tokens = header.position - first_needed(each.ratio, header.position)
            total += tokens * 2 * each.kv.shape[1] * each.kv.itemsize
            if header.bits & ROWS:
                total += header.position // each.ratio * each.form.row_bytes
    if header.bits & DRAFT:
        total += max(0, header.position - header.draft_first) * cache.layers[0].ring.form.row_bytes
    if header.bits & STREAMS:
        total += config.hc_mult * config.hidden_size * 4
    return total


def _digest(config: NetworkConfig) -> bytes:
    """Of all that the arrays' shapes depend on, by name, as JSON."""
    ratios = config.compress_ratios[: config.num_hidden_layers]
    names = ("head_dim", "qk_rope_head_dim", "index_head_dim", "sliding_window", "hidden_size", "hc_mult")
    shape = {name: getattr(config, name) for name in names} | {"compress_ratios": ratios}
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).digest()


def _wrong(why: str) -> ModelError:
    return ModelError("This saved context cannot be used", why, "its text is read again instead")
