"""Which implementation of an operator computes: the reference, or a fast path where there is one for the operands.

Owns: the table of fast paths, the rule that chooses, and the environment variable `SEAMOUNT_KERNELS`: `reference`
keeps to the reference everywhere, `fast` (or nothing) takes fast paths. A fast path lies beside its reference as a
module of its own, and is imported when operands on its device first come. It has two functions: one of the
operator's name and signature, and `accepts_<name>` of the same signature, which says whether it takes these
operands. Fast paths have no gradients: where one is wanted, the reference computes.
"""

import os
from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any, ParamSpec, TypeVar, cast

import torch

from kernels.matrices import Matrix

VARIABLE = "SEAMOUNT_KERNELS"
FAST_PATHS: dict[tuple[str, str], tuple[str, ...]] = {
    ("dequantised", "cuda"): ("kernels.product.triton_products",),
    ("product", "cuda"): ("kernels.product.triton_products",),
    ("linear", "cuda"): ("kernels.product.triton_products",),
    ("grouped_projection", "cuda"): ("kernels.product.triton_products",),
    ("rms_norm", "cuda"): ("kernels.norm.triton_norm",),
    ("rotate", "cuda"): ("kernels.rotary.triton_rotary",),
    ("hadamard", "cuda"): ("kernels.indexer.triton_indexer",),
    ("index_scores", "cuda"): ("kernels.indexer.triton_indexer",),
    ("attend", "cuda"): ("kernels.attention.triton_attention",),
    ("mix_streams", "cuda"): ("kernels.hyper_connections.triton_streams",),
    ("merge_streams", "cuda"): ("kernels.hyper_connections.triton_streams",),
    ("collapse_streams", "cuda"): ("kernels.hyper_connections.triton_streams",),
    ("route", "cuda"): ("kernels.router.triton_router",),
    ("expert", "cuda"): ("kernels.experts.triton_expert",),
    ("experts", "cuda"): ("kernels.experts.triton_mxfp4",),
    ("expert", "cpu"): ("kernels.experts.cpu",),
    ("experts", "cpu"): ("kernels.experts.cpu",),
    ("grouped_projection", "cpu"): ("kernels.product.cpu",),
    ("product", "cpu"): ("kernels.product.cpu",),
}
"""(operator, type of device) → modules, the first that accepts is taken."""

P = ParamSpec("P")
R = TypeVar("R")


def run(operator: str, reference: Callable[P, R], *operands: P.args, **named: P.kwargs) -> R:
    """The operator's result, by a fast path that accepts the operands, or by the reference."""
    fast = fast_path(operator, *operands, **named)
    return reference(*operands, **named) if fast is None else fast(*operands, **named)


def fast_path(operator: str, *operands: Any, **named: Any) -> Callable[..., Any] | None:
    """The fast path that `run` takes; None: the reference. ValueError for a setting that is not known."""
    if not fast_paths_are_wanted():
        return None
    tensors = tensors_in((*operands, *named.values()))
    if not tensors or (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)):
        return None
    for module in FAST_PATHS.get((operator, tensors[0].device.type), ()):
        found = loaded(module, operator)
        if found is not None and found[1](*operands, **named):
            return found[0]
    return None


def fast_paths_are_wanted() -> bool:
    """What the environment variable says now."""
    setting = os.environ.get(VARIABLE, "")
    if setting not in ("", "fast", "reference"):
        raise ValueError(f"{VARIABLE} is {setting!r}: it can be 'reference' or 'fast'")
    return setting != "reference"


def tensors_in(operands: Iterable[Any]) -> list[torch.Tensor]:
    """Those given directly, in a tuple, or as a matrix."""
    found: list[torch.Tensor] = []
    for value in operands:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, Matrix):
            found.append(value.data)
        elif isinstance(value, tuple):
            found += tensors_in(cast(tuple[Any, ...], value))
    return found


@cache
def loaded(module: str, operator: str) -> tuple[Callable[..., Any], Callable[..., bool]] | None:
    """A fast path and what it accepts; None where something that it imports is not installed here."""
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "kernels":
            raise
        return None
    return getattr(found, operator), getattr(found, f"accepts_{operator}")
