"""Experts in three tiers: slots of a device, copies in memory, the mapped file.

Owns: carrying out what a policy says, between passes and never in one; and computing a token's experts where they
are: those in slots on the device, all others by the processor, or on the device too where a long prompt makes it worth
uploading them. Does not know how a policy decides, nor the layout of slots.

What is computed with is always the file's bytes, so where an expert lies changes nothing but the time, as long as it
is on the same device. Between devices last bits differ: they sum in other orders.
"""

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch

from engine.model.expert_copies import PlainSlots, SlotMemory, copied, copy_bytes, forget_pinned
from engine.model.expert_ledger import ExpertLedger, Move
from engine.model.expert_policies import ExpertPolicy
from engine.model.expert_store import ExpertTraffic, Place, absent_bytes, choices_of, found_mapped
from engine.model.weights import ExpertBank
from kernels import ops
from kernels.few_rows import FEW_ROWS
from kernels.matrices import ExpertMatrices

STEP_BYTES = 64 << 20
"""Copied after one pass at most: some hundredths of a second."""
UPLOAD_TOKENS = 32
"""From so many tokens on, experts that are not on the device are uploaded and computed there."""


class TieredExperts:
    """See `ExpertStore`.

    banks: of each layer, the draft block's last, all with as many experts. slots: room on the device, of which the
    last `staging` are kept free for uploads; None: there is no device. ram_bytes: for copies in memory. step_bytes:
    copied after a pass at most. pinned: copies in memory are such that a GPU reads them by itself. apart: whether slots
    and memory are computed with separately (None: if the slots lie on a device that is not the processor).
    upload_tokens: from so many tokens on, experts without a slot are uploaded for the pass. Raises
    ValueError where a step could not copy one expert.
    """

    def __init__(
        self,
        banks: Sequence[ExpertBank],
        policy: ExpertPolicy,
        *,
        slots: SlotMemory | None = None,
        staging: int = 0,
        ram_bytes: int = 0,
        step_bytes: int = STEP_BYTES,
        pinned: bool = False,
        apart: bool | None = None,
        upload_tokens: int = UPLOAD_TOKENS,
    ) -> None:
        self._banks, self._policy = list(banks), policy
        self._slots = slots or PlainSlots(0, banks[0].matrices(0))
        self._apart, self._upload_tokens = apart, upload_tokens
        self._step_bytes, self._pinned = step_bytes, pinned
        sizes = [copy_bytes(bank.matrices(0), pinned=pinned) for bank in self._banks]
        if step_bytes < max(sizes):
            raise ValueError(f"an expert of {max(sizes)} bytes cannot move in steps of {step_bytes}")
        usable = max(0, self._slots.count - staging)
        slot_bytes = self._slots.size_bytes // max(1, self._slots.count)
        alike = [bank.matrices(0).size_bytes == slot_bytes for bank in self._banks]
        room = max((size for size, fits in zip(sizes, alike, strict=True) if fits), default=0)
        self._ledger = ExpertLedger(
            sizes,
            len(self._banks[0]),
            {"gpu": usable * room, "ram": ram_bytes},
            barred={"gpu": [layer for layer, fits in enumerate(alike) if not fits]},
        )
        self._ram_bytes = ram_bytes
        self._copies: dict[tuple[int, int], ExpertMatrices] = {}
        self._slot_of: dict[tuple[int, int], int] = {}
        self._free = list(range(usable))[::-1]
        self._staging = range(usable, self._slots.count)
        self._tables: dict[int, torch.Tensor] = {}
        self._lock = threading.RLock()
        self._passes = 0
        self._counts = ExpertTraffic()

    @property
    def counts(self) -> ExpertTraffic:
        """See `ExpertStore`."""
        return self._counts

    @property
    def ram_bytes(self) -> int:
        """What copies in memory take now. Any thread."""
        return self._ledger.held_bytes["ram"]

    @property
    def slots_bytes(self) -> int:
        """What all slots of the device take, whether there is an expert in them or not."""
        return self._slots.size_bytes

    def where(self, layer: int, expert: int) -> Place:
        """See `ExpertStore`."""
        with self._lock:
            tier = self._ledger.tier_of(layer, expert)
        return tier or ("disk" if absent_bytes(self._banks[layer].matrices(expert)) else "ram")

    def relieve(self, wanted_bytes: int) -> int:
        """Give back copies in memory, `wanted_bytes` of them if there is so much; at once, or after the running pass.

        Returns how many bytes that will be at least. Any thread.
        """
        with self._lock:
            held = self._ledger.held_bytes["ram"]
            budget = self._ledger.budget_bytes["ram"]
            self._ledger.budget_bytes["ram"] = min(budget, max(0, held - max(0, wanted_bytes)))
            given = self._ledger.over_bytes("ram")
            if not self._passes:
                self._carry_out(0)
            return max(0, given)

    def allow(self, more_bytes: int) -> int:
        """Copies in memory may take so many bytes again of what `relieve` took; returns how many it can use."""
        with self._lock:
            used = max(0, min(more_bytes, self._ram_bytes - self._ledger.budget_bytes["ram"]))
            self._ledger.budget_bytes["ram"] += used
            return used

    @contextmanager
    def passing(self) -> Generator[None]:
        """See `ExpertStore`. After a pass that failed, copies only go."""
        with self._lock:
            self._passes += 1
        failed = True
        try:
            yield
            failed = False
        finally:
            with self._lock:
                self._passes -= 1
                if not self._passes:
                    self._carry_out(0 if failed else self._step_bytes)

    def settle(self, most_bytes: int) -> None:
        """Carry out what the policy says now, copying so many bytes at most. For when a model was just opened.

        RuntimeError within a pass.
        """
        with self._lock:
            if self._passes:
                raise RuntimeError("experts do not move during a pass")
            self._carry_out(most_bytes)

    def product(
        self,
        layer: int,
        x: torch.Tensor,
        chosen: torch.Tensor,
        weights: torch.Tensor,
        limit: float,
        look: Callable[[], None] | None = None,
    ) -> torch.Tensor:
        """See `ExpertStore`."""
        with self.passing():
            apart = x.device.type != "cpu" if self._apart is None else self._apart
            if apart and self._all_in_slots(layer):
                self._counts += ExpertTraffic(gpu=chosen.numel())
                if look is not None:
                    look()
                return self._in_slots(layer, x, chosen, weights, limit)
            choices = choices_of(chosen)
            self._policy.note(layer, choices, chosen.shape[0])
            host = [each for each in choices if (layer, each[0]) not in self._slot_of]
            self._count(layer, choices)
            if look is not None:
                look()
            if not apart:
                return ops.experts(x, chosen, weights, _Placed(self, layer), limit)
            if not host:
                return self._in_slots(layer, x, chosen, weights, limit)
            absent = [expert for expert, _ in host]
            if len(absent) <= len(self._staging) and chosen.shape[0] >= self._upload_tokens:
                # One product over all of them: the very bits that there are when each has a slot.
                table = self._table(layer, x.device).clone()
                table[absent] = self._staged(layer, absent).to(x.device)
                return ops.experts(x, table[chosen], weights, self._slots, limit)
            return self._divided(layer, x, chosen, weights, limit, absent)

    def matrices(self, layer: int, expert: int) -> ExpertMatrices:
        """An expert where its copy is; the file's own where there is none."""
        slot = self._slot_of.get((layer, expert))
        if slot is not None:
            return self._slots.matrices(slot)
        return self._copies.get((layer, expert)) or self._banks[layer].matrices(expert)

    def _count(self, layer: int, choices: Sequence[tuple[int, int]]) -> None:
        for expert, times in choices:
            if (layer, expert) in self._slot_of:
                self._counts += ExpertTraffic(gpu=times)
            elif (layer, expert) in self._copies:
                self._counts += ExpertTraffic(ram=times)
            else:
                self._counts += found_mapped(self._banks[layer].matrices(expert), times)

    # Computing on a device

    def _all_in_slots(self, layer: int) -> bool:
        """Whether nobody needs to look at what is chosen: the device need not be waited for."""
        held = self._ledger.held("gpu")
        first = layer * self._ledger.experts
        return not self._policy.looks and bool(held[first : first + self._ledger.experts].all())

    def _in_slots(
        self, layer: int, x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, limit: float
    ) -> torch.Tensor:
        return ops.experts(x, self._table(layer, x.device)[chosen], weights, self._slots, limit)

    def _table(self, layer: int, device: torch.device) -> torch.Tensor:
        """The slot of each expert of a layer, -1: none; int64 [experts]."""
        if layer not in self._tables:
            numbers = [self._slot_of.get((layer, expert), -1) for expert in range(self._ledger.experts)]
            self._tables[layer] = torch.tensor(numbers, device=device)
        return self._tables[layer]

    def _divided(
        self,
        layer: int,
        x: torch.Tensor,
        chosen: torch.Tensor,
        weights: torch.Tensor,
        limit: float,
        host: Sequence[int],
    ) -> torch.Tensor:
        """Some on the device, some elsewhere: each choice's output by itself, then sums in the order of `chosen`."""
        outputs = x.new_zeros(*chosen.shape, x.shape[1], dtype=torch.float32)
        slots = self._table(layer, x.device)[chosen]
        uploads = chosen.shape[0] >= self._upload_tokens and len(self._staging) > 0
        here = None if uploads else (x.float().cpu(), chosen.cpu(), weights.cpu())
        self._add_slots(outputs, x, slots, weights, limit)
        if here is None:
            for first in range(0, len(host), len(self._staging)):
                batch = host[first : first + len(self._staging)]
                table = torch.full((self._ledger.experts,), -1)
                table[batch] = self._staged(layer, batch)
                self._add_slots(outputs, x, table.to(x.device)[chosen], weights, limit)
        else:
            wide, numbers, shares = here
            for expert in host:
                t, k = torch.where(numbers == expert)
                found = ops.expert(wide[t], self.matrices(layer, expert), limit, shares[t, k])
                outputs[t.to(x.device), k.to(x.device)] = found.to(x.device)
        total = outputs[:, 0]
        for k in range(1, chosen.shape[1]):
            total = total + outputs[:, k]
        return total.to(x.dtype)

    def _staged(self, layer: int, experts: Sequence[int]) -> torch.Tensor:
        """The slots, kept free for that, into which these were written."""
        slots = list(self._staging)[: len(experts)]
        for slot, expert in zip(slots, experts, strict=True):
            self._slots.write(slot, self.matrices(layer, expert))
        return torch.tensor(slots)

    def _add_slots(
        self,
        outputs: torch.Tensor,
        x: torch.Tensor,
        slots: torch.Tensor,
        weights: torch.Tensor,
        limit: float,
    ) -> None:
        """Outputs of the choices that lie in slots (others: -1); a few tokens one by one, as if each were alone."""
        tokens = slots.shape[0]
        step = 1 if tokens <= FEW_ROWS else tokens
        for first in range(0, tokens, step):
            t, k = torch.where(slots[first : first + step] >= 0)
            t = t + first
            if len(t):
                found = ops.experts(x[t], slots[t, k][:, None], weights[t, k][:, None], self._slots, limit)
                outputs[t, k] = found.float()

    # Moving

    def _carry_out(self, most_bytes: int) -> None:
        before = self._ledger.held_bytes["ram"]
        self._make_moves(most_bytes)
        if self._pinned and self._ledger.held_bytes["ram"] < before:
            forget_pinned()

    def _make_moves(self, most_bytes: int) -> None:
        for move in self._policy.moves(self._ledger, most_bytes):
            try:
                self._move(move)
            except (OSError, MemoryError, RuntimeError):
                # There is less room than was thought: with what is held, it goes on as well.
                if move.to is not None:
                    self._ledger.budget_bytes[move.to] = self._ledger.held_bytes[move.to]
                return

    def _move(self, move: Move) -> None:
        key = (move.layer, move.expert)
        source = self._banks[move.layer].matrices(move.expert)
        copy = copied(source, pinned=self._pinned) if move.to == "ram" else None
        slot: int | None = None
        if move.to == "gpu":
            slot = self._free[-1]
            self._slots.write(slot, self._copies.get(key, source))
            self._free.pop()
        self._ledger.apply(move)
        self._copies.pop(key, None)
        if (left := self._slot_of.pop(key, None)) is not None:
            self._free.append(left)
        if copy is not None:
            self._copies[key] = copy
        if slot is not None:
            self._slot_of[key] = slot
        self._tables.pop(move.layer, None)


class _Placed:
    """One layer's experts, each where it is."""

    def __init__(self, store: TieredExperts, layer: int) -> None:
        self._store, self._layer = store, layer

    def matrices(self, expert: int) -> ExpertMatrices:
        """See `TieredExperts.matrices`."""
        return self._store.matrices(self._layer, expert)
