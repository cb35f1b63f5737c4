"""Experts on a processor: as the reference, with the products of `kernels.product.cpu`.

Owns: nothing but which product is taken for each matrix. An expert is decoded once for all tokens that go to it.
"""

import torch

from kernels.experts.reference import SLICE_NUMBERS, Bank, swiglu
from kernels.matrices import ExpertMatrices, Matrix
from kernels.product import cpu, reference


def accepts_expert(x: torch.Tensor, m: ExpertMatrices, *_: object, **__: object) -> bool:
    """Any expert in the processor's memory."""
    return m.gate.data.device.type == "cpu" and x.dtype != torch.float64


def expert(
    x: torch.Tensor, m: ExpertMatrices, limit: float, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """x [T, D] → [T, D] by one expert; times `weights` [T] where given."""
    wide = x.float()
    hidden = swiglu(_product(wide, m.gate), _product(wide, m.up), limit)
    if weights is not None:
        hidden = hidden * weights[:, None]
    return _product(hidden, m.down).to(x.dtype)


def accepts_experts(x: torch.Tensor, _chosen: torch.Tensor, weights: torch.Tensor, *_: object) -> bool:
    """Any experts."""
    return x.dtype != torch.float64 and weights.dtype == torch.float32


def experts(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, bank: Bank, limit: float
) -> torch.Tensor:
    """x [T, D], chosen and weights [T, K] → [T, D]: the sum over a token's experts, in the order of `chosen`."""
    tokens, used = chosen.shape
    total = torch.zeros(x.shape, dtype=torch.float32)
    step = max(1, SLICE_NUMBERS // max(1, used * x.shape[1]))
    for first in range(0, tokens, step):
        part = slice(first, first + step)
        total[part] = _at_once(x[part].float(), chosen[part], weights[part], bank, limit)
    return total.to(x.dtype)


def _at_once(
    x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, bank: Bank, limit: float
) -> torch.Tensor:
    outputs = torch.zeros(*chosen.shape, x.shape[1])
    numbers: list[int] = sorted(set(chosen.reshape(-1).numpy().tolist()))
    for number in numbers:
        t, k = torch.where(chosen == number)
        outputs[t, k] = expert(x[t], bank.matrices(number), limit, weights[t, k])
    total = outputs[:, 0] if chosen.shape[1] else torch.zeros_like(x)
    for k in range(1, chosen.shape[1]):
        total = total + outputs[:, k]
    return total


def _product(x: torch.Tensor, m: Matrix) -> torch.Tensor:
    return cpu.product(x, m) if cpu.accepts_product(x, m) else reference.product(x, m)
