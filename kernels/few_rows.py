"""Few rows are computed as if alone: a few tokens in one pass have the very bits of single steps.

Owns: what "few" is, and the decorator that makes an operator keep the rule by doing what it says: each row by
itself, from memory that begins as an allocation does. A matrix product, a sum, even an exponential may give other
last bits for other shapes or places in memory: they are cut into vectors differently. With the rule, drafted tokens
can be verified together, and the text is what it would be without drafts.
"""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import torch

FEW_ROWS = 8
_ALIGNMENT_BYTES = 64
P = ParamSpec("P")
R = TypeVar("R")


def few_rows_alone(*by_row: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates an operator whose parameters `by_row` (and whose results) have a row for each token as first axis.

    From 2 to `FEW_ROWS` rows, it is called for each of them and the results are joined; where there are more, or
    none, for all at once.
    """

    def decorated(operator: Callable[P, R]) -> Callable[P, R]:
        names = list(signature(operator).parameters)
        places = [(names.index(name), name) for name in by_row]

        @wraps(operator)
        def alone(*operands: P.args, **named: P.kwargs) -> R:
            call: Callable[..., R] = operator
            positional: list[Any] = list(operands)
            rows = {name: positional[at] if at < len(positional) else named.get(name) for at, name in places}
            rows = {name: value for name, value in rows.items() if isinstance(value, torch.Tensor)}
            count = next(iter(rows.values())).shape[0]
            if count == 0 or count > FEW_ROWS:
                return call(*operands, **named)
            rest = dict(zip(names, positional, strict=False)) | named
            parts = [
                call(**rest | {name: own_row(value, t) for name, value in rows.items()}) for t in range(count)
            ]
            return joined(parts)

        return alone

    return decorated


def own_row(rows: torch.Tensor, row: int) -> torch.Tensor:
    """[T, …] → [1, …], contiguous and aligned as a new tensor is; itself where T = 1 and it is so already."""
    if rows.shape[0] == 1 and rows.is_contiguous() and rows.data_ptr() % _ALIGNMENT_BYTES == 0:
        return rows
    return rows[row : row + 1].clone(memory_format=torch.contiguous_format)


def joined(parts: list[Any]) -> Any:
    """Results of consecutive rows as one: tensors, or tuples of them."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))
