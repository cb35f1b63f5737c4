"""Whether a model's numbers can be used: hash tables and small tensors when it is loaded, the rest at first use.

Owns: the scan for NaN and infinity in every number format, without decoding what cannot hold one, and the memory of
what was scanned already (`FirstUse`). Reading a hundred gigabytes at load only to look at them would be the larger
part of loading; what a pass reads anyway is looked at once, just before.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch

from convert.wording import quoted
from engine.model.config import NetworkConfig
from engine.model.model_error import GET_AGAIN, ModelError
from engine.model.weight_assembly import DRAFT
from engine.model.weights import (
    BlockWeights,
    CompressorWeights,
    DraftWeights,
    HyperConnectionWeights,
    NetworkWeights,
)
from kernels.formats import FormatError, decode_fp4, decode_fp8_blocks, decode_mxfp4
from kernels.matrices import PLAIN, TILE, ExpertMatrices, Matrix

_BAND_BYTES = 8 << 20
"""Looked at at a time, so that what a scan takes on the way stays in a few megabytes."""
_SMALL_ELEMENTS = 1 << 17
"""Larger tensors in F32 are looked at at first use."""
_E8M0_LARGE = 253
"""6 * 2^(253 - 127) is beyond F32; 255 is NaN."""
_E8M0_LARGE_FOR_E4M3 = 247
"""448 * 2^(247 - 127) is beyond F32."""

Told = Callable[[str], str]
Named = Iterator[tuple[str, Matrix | torch.Tensor]]


class FirstUse:
    """`WeightChecks` of a model's weights; `begin_pass` looks at the files, `told` gives a tensor's name there."""

    def __init__(
        self,
        weights: NetworkWeights,
        draft: DraftWeights | None,
        config: NetworkConfig,
        begin_pass: Callable[[], None],
        told: Told,
    ) -> None:
        self._weights, self._draft = weights, draft
        self._begin_pass, self._told = begin_pass, told
        self._rows = torch.zeros(config.vocab_size, dtype=torch.bool)
        layers = len(weights.blocks)
        self._blocks = bytearray(layers + 1)
        self._experts = [bytearray(config.n_routed_experts) for _ in range(layers + 1)]
        self._output = False

    def begin_pass(self) -> None:
        """Raise ModelError where a file changed since it was opened."""
        self._begin_pass()

    def embedding(self, ids: torch.Tensor) -> None:
        """Look at the rows for these tokens, those not seen yet."""
        ids = ids.reshape(-1).cpu()
        new = ids[~self._rows[ids]]
        if not len(new):
            return
        bad = _bad_among(self._weights.embed, new)
        if bad is not None:
            raise _not_finite(self._told("embed.weight"), int(new[bad]))
        self._rows[new] = True

    def block(self, layer: int) -> None:
        """Look at a layer without its routed experts; the draft block is the layer after the last."""
        if self._blocks[layer]:
            return
        if layer < len(self._weights.blocks):
            prefix, block = f"layers.{layer}.", self._weights.blocks[layer]
        else:
            draft = self._drafter()
            prefix, block = DRAFT, draft.block
            self._look(f"{DRAFT}e_proj.weight", draft.e_proj)
            self._look(f"{DRAFT}h_proj.weight", draft.h_proj)
            self._look(f"{DRAFT}hc_head_fn", draft.hc_head.fn)
        for name, each in _dense(block, prefix):
            self._look(name, each)
        self._blocks[layer] = 1

    def experts(self, layer: int, chosen: Iterable[int]) -> None:
        """Look at those routed experts of a layer."""
        seen = self._experts[layer]
        for expert in chosen:
            if seen[expert]:
                continue
            own = layer < len(self._weights.blocks)
            block = self._weights.blocks[layer] if own else self._drafter().block
            prefix = f"layers.{layer}." if own else DRAFT
            for name, each in _three(f"{prefix}ffn.experts.{expert}.", block.moe.experts.matrices(expert)):
                self._look(name, each)
            seen[expert] = 1

    def output(self) -> None:
        """Look at the output head."""
        if not self._output:
            self._look("hc_head_fn", self._weights.hc_head.fn)
            self._look("head.weight", self._weights.head)
            self._output = True

    def _drafter(self) -> DraftWeights:
        if self._draft is None:
            raise ValueError("this model has no drafter")
        return self._draft

    def _look(self, name: str, each: Matrix | torch.Tensor) -> None:
        row = first_bad_row(each)
        if row is not None:
            raise _not_finite(self._told(name), row)


def check_loaded(
    weights: NetworkWeights,
    draft: DraftWeights | None,
    checks: FirstUse,
    config: NetworkConfig,
    told: Told,
) -> NetworkWeights:
    """The weights with their drafter and their checks, after everything small was looked at.

    Raises ModelError for a number that is not finite in a small tensor, and for a hash table that names an expert
    which does not exist.
    """
    for name, each in _small(weights, draft):
        if each.numel() <= _SMALL_ELEMENTS and (row := first_bad_row(each)) is not None:
            raise _not_finite(told(name), row)
    for layer, block in enumerate(weights.blocks):
        if block.moe.table is not None:
            _check_table(told(f"layers.{layer}.ffn.gate.tid2eid"), block.moe.table, config.n_routed_experts)
    return replace(weights, draft=draft, checks=checks)


def first_bad_row(each: Matrix | torch.Tensor) -> int | None:
    """The first row with a number that is not finite in F32; None where all are. A vector is one row.

    Of blocks only scales (and of FP8 the codes for NaN) are looked at; a row whose scale is so large that some
    number would be beyond F32 is decoded to see whether one is.
    """
    if isinstance(each, torch.Tensor):
        return _first_not_finite(each.reshape(-1, each.shape[-1]))
    if each.kind in PLAIN:
        return _first_not_finite(each.data)
    if each.kind == "fp8":
        return _first_bad_fp8(each)
    return next((row for row in _suspects(each) if not _decodes(each, row, row + 1)), None)


def _first_not_finite(rows: torch.Tensor) -> int | None:
    for start, band in _bands(rows):
        # The least and the greatest are NaN where any number is; far cheaper than to ask each.
        if not all(bool(torch.isfinite(each)) for each in torch.aminmax(band)):
            return start + _where(~torch.all(torch.isfinite(band), dim=1))[0]
    return None


def _first_bad_fp8(matrix: Matrix) -> int | None:
    """As `first_bad_row`, in tiles of 128 rows: a tile's scale is theirs together."""
    scale = matrix.data if matrix.scale is None else matrix.scale
    tiles = set(_where(scale.amax(dim=1) >= _E8M0_LARGE_FOR_E4M3) if scale.numel() else ())
    for start, band in _bands(matrix.data):
        # 0x7F is the largest as a signed byte, 0xFF as an unsigned one.
        bad = (band.amax(dim=1) == 0xFF) | (band.view(torch.int8).amax(dim=1) == 0x7F)
        if rows := _where(bad):
            tiles.add((start + rows[0]) // TILE)
            break
    for tile in sorted(tiles):
        start, end = tile * TILE, min((tile + 1) * TILE, matrix.rows)
        for row in range(start, end):
            if not _decodes_fp8(matrix, row, tile):
                return row
    return None


def _suspects(matrix: Matrix) -> Iterator[int]:
    """The rows of a matrix in blocks of 32 of which a scale may make a number that is not finite."""
    for start, band in _bands(matrix.data if matrix.scale is None else matrix.scale):
        if matrix.kind == "q8_0":
            # The upper byte of the F16 scale: all ones in the exponent is NaN or infinity.
            bad = torch.any((_bytes_of(band, 34, 1) & 0x7C) == 0x7C, dim=1)
        else:
            bad = (_bytes_of(band, 17, 0) if matrix.kind == "mxfp4" else band).amax(dim=1) >= _E8M0_LARGE
        yield from (start + row for row in _where(bad))


def _bands(data: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, rows) of `data` [rows, …], a few megabytes at a time."""
    if data.numel():
        step = max(1, _BAND_BYTES // data[0].nbytes)
        for start in range(0, len(data), step):
            yield start, data[start : start + step]


def _where(flags: torch.Tensor) -> list[int]:
    return [int(each) for each in torch.nonzero(flags).reshape(-1)] if bool(torch.any(flags)) else []


def _bytes_of(blocks: torch.Tensor, size: int, at: int) -> torch.Tensor:
    """One byte of each block of `size`: [rows, blocks]."""
    return blocks.view(len(blocks), -1, size)[:, :, at]


def _decodes(matrix: Matrix, start: int, end: int) -> bool:
    """Whether rows with a large scale are numbers: what `kernels.formats` refuses is not."""
    data = np.ascontiguousarray(matrix.data[start:end].cpu().numpy())
    try:
        if matrix.kind == "mxfp4":
            decode_mxfp4(data)
        elif matrix.scale is not None:
            decode_fp4(data, np.ascontiguousarray(matrix.scale[start:end].cpu().numpy()))
    except FormatError:
        return False
    return (
        matrix.kind != "q8_0"
    )  # its suspects have a scale that is NaN or infinite, so none of their numbers is one


def _decodes_fp8(matrix: Matrix, row: int, tile: int) -> bool:
    if matrix.scale is None:
        return True
    scale = matrix.scale[tile : tile + 1].cpu().numpy()
    try:
        decode_fp8_blocks(matrix.data[row : row + 1].cpu().numpy(), scale)
    except FormatError:
        return False
    return True


def _bad_among(matrix: Matrix, rows: torch.Tensor) -> int | None:
    """Which of some `rows` of a matrix, int64 [n], is the first that holds a number that is not finite."""
    if matrix.kind == "fp8":  # rows share scales
        bad = (at for at, row in enumerate(rows) if not _decodes_fp8(matrix, int(row), int(row) // TILE))
        return next(bad, None)
    scale = None if matrix.scale is None else matrix.scale[rows]
    return first_bad_row(Matrix(matrix.kind, len(rows), matrix.columns, matrix.data[rows], scale))


def _not_finite(name: str, row: int) -> ModelError:
    return ModelError(
        "This model cannot be used",
        f"its tensor {quoted(name)} holds a number in row {row:,} that is not finite",
        GET_AGAIN,
    )


def _check_table(name: str, table: torch.Tensor, experts: int) -> None:
    step = max(1, _BAND_BYTES // max(1, table[0].nbytes))
    for start in range(0, len(table), step):
        band = table[start : start + step]
        low, high = (int(each) for each in torch.aminmax(band))
        if low < 0 or high >= experts:
            bad = ((band < 0) | (band >= experts)).any(dim=1)
            row = int(bad.int().argmax())
            raise ModelError(
                "This model cannot be used",
                f"its tensor {quoted(name)} sends token {start + row:,} to expert {low if low < 0 else high:,}, "
                f"and there are {experts:,}",
                GET_AGAIN,
            )


# --- which tensors there are --------------------------------------------------------------------------


def _three(prefix: str, matrices: ExpertMatrices) -> Named:
    yield f"{prefix}w1.weight", matrices.gate
    yield f"{prefix}w2.weight", matrices.down
    yield f"{prefix}w3.weight", matrices.up


def _dense(block: BlockWeights, prefix: str) -> Named:
    """What of a block is looked at at first use."""
    yield f"{prefix}hc_attn_fn", block.hc_attn.fn
    yield f"{prefix}hc_ffn_fn", block.hc_ffn.fn
    attention = block.attention
    for part in ("wq_a", "wq_b", "wkv", "wo_a", "wo_b"):
        yield f"{prefix}attn.{part}.weight", getattr(attention, part)
    if attention.compressor is not None:
        yield f"{prefix}attn.compressor.wkv.weight", attention.compressor.wkv
        yield f"{prefix}attn.compressor.wgate.weight", attention.compressor.wgate
        yield f"{prefix}attn.compressor.ape", attention.compressor.ape
    if attention.indexer is not None:
        yield f"{prefix}attn.indexer.wq_b.weight", attention.indexer.wq_b
        yield f"{prefix}attn.indexer.weights_proj.weight", attention.indexer.weights_proj
        yield f"{prefix}attn.indexer.compressor.wkv.weight", attention.indexer.compressor.wkv
        yield f"{prefix}attn.indexer.compressor.wgate.weight", attention.indexer.compressor.wgate
        yield f"{prefix}attn.indexer.compressor.ape", attention.indexer.compressor.ape
    yield f"{prefix}ffn.gate.weight", block.moe.gate
    yield from _three(f"{prefix}ffn.shared_experts.", block.moe.shared)


_Vectors = Iterator[tuple[str, torch.Tensor]]


def _small(weights: NetworkWeights, draft: DraftWeights | None) -> _Vectors:
    """The tensors in F32, those of a size that varies with the model among them."""
    yield "norm.weight", weights.norm
    yield from _mixing("hc_head", weights.hc_head)
    for layer, block in enumerate(weights.blocks):
        yield from _vectors(block, f"layers.{layer}.")
    if draft is not None:
        yield f"{DRAFT}enorm.weight", draft.enorm
        yield f"{DRAFT}hnorm.weight", draft.hnorm
        yield f"{DRAFT}norm.weight", draft.norm
        yield from _mixing(f"{DRAFT}hc_head", draft.hc_head)
        yield from _vectors(draft.block, DRAFT)


def _mixing(name: str, each: HyperConnectionWeights) -> _Vectors:
    yield f"{name}_base", each.base
    yield f"{name}_scale", each.scale


def _vectors(block: BlockWeights, prefix: str) -> _Vectors:
    yield f"{prefix}attn_norm.weight", block.attn_norm
    yield f"{prefix}ffn_norm.weight", block.ffn_norm
    yield from _mixing(f"{prefix}hc_attn", block.hc_attn)
    yield from _mixing(f"{prefix}hc_ffn", block.hc_ffn)
    attention = block.attention
    yield f"{prefix}attn.q_norm.weight", attention.q_norm
    yield f"{prefix}attn.kv_norm.weight", attention.kv_norm
    yield f"{prefix}attn.attn_sink", attention.sinks
    if attention.compressor is not None:
        yield from _pooling(f"{prefix}attn.compressor.", attention.compressor)
    if attention.indexer is not None:
        yield from _pooling(f"{prefix}attn.indexer.compressor.", attention.indexer.compressor)
    if block.moe.bias is not None:
        yield f"{prefix}ffn.gate.bias", block.moe.bias


def _pooling(prefix: str, each: CompressorWeights) -> _Vectors:
    yield f"{prefix}ape", each.ape
    yield f"{prefix}norm.weight", each.norm
