"""What was found on this machine, for the welcome and for judging what fits.

Owns: asking once, and for GPUs in the background: that starts llama.cpp in a process of its own, which takes a
second or more. Does not know how anything is found (`placement/hardware`).
"""

import threading
from collections.abc import Callable

from engine.model_table import size_text
from engine.placement import hardware
from engine.placement.nvidia import refreshed
from engine.protocol_library import MachineSummary

SEEN_S = 15.0
"""A driver that hangs is not waited for longer by who asks."""


class Machine:
    """This machine. `found` is called, from a thread, once its GPUs are known and there are any."""

    def __init__(self, found: Callable[[], None] = lambda: None) -> None:
        self.found = found
        self._lock = threading.Lock()
        self._begun = False
        self._ended = threading.Event()
        self._gpus: tuple[hardware.Gpu, ...] = ()

    def summary(self) -> MachineSummary:
        """What is known by now; GPUs are looked for from the first call on."""
        self._look_for_gpus()
        processor = hardware.processor()
        return MachineSummary(
            processor=processor.name,
            cores=processor.physical,
            memory_bytes=hardware.memory().total_bytes,
            gpus=[f"{gpu.name}, {size_text(gpu.total_bytes)}" for gpu in self._gpus],
        )

    @property
    def gpus(self) -> tuple[hardware.Gpu, ...]:
        """Those that are known by now."""
        return self._gpus

    def seen(self) -> tuple[hardware.Gpu, ...]:
        """The GPUs, with what is free of NVIDIA's at this moment; waits the first time for them to be looked for,
        SEEN_S at most."""
        self._look_for_gpus()
        self._ended.wait(SEEN_S)
        return refreshed(self._gpus)

    @property
    def gpu_bytes(self) -> int:
        """The memory of all GPUs together that are known by now."""
        return sum(gpu.total_bytes for gpu in self._gpus)

    def _look_for_gpus(self) -> None:
        with self._lock:
            if self._begun:
                return
            self._begun = True
        threading.Thread(target=self._look, name="gpus", daemon=True).start()

    def _look(self) -> None:
        try:
            built = hardware.llama_cpp()
            if not isinstance(built, str):
                self._gpus = built.gpus
        finally:
            self._ended.set()
        if self._gpus:
            self.found()
