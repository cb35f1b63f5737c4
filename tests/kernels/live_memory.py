"""How much memory an operator's tensors take at once, by watching every operation of torch. Needs torch."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class LiveMemory(TorchDispatchMode):
    """While it is entered: `peak_bytes`, the most that tensors made meanwhile took together, each storage once.

    What an operation of torch allocates and frees within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._live: dict[int, tuple[int, int]] = {}  # address of a storage: how many tensors, bytes

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        known = {value.untyped_storage().data_ptr() for value in args if isinstance(value, torch.Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                address = storage.data_ptr()
                if storage.nbytes() and (address not in known or address in self._live):
                    count, size = self._live.get(address, (0, storage.nbytes()))
                    self._live[address] = count + 1, size
                    weakref.finalize(tensor, self._gone, address)
        self.peak_bytes = max(self.peak_bytes, sum(size for _, size in self._live.values()))
        return made

    def _gone(self, address: int) -> None:
        count, size = self._live[address]
        if count == 1:
            del self._live[address]
        else:
            self._live[address] = count - 1, size
