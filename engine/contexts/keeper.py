"""The context of a loaded model: from where it begins, when it is saved, and what of it goes on exactly.

Owns: the choice between what is in memory, what is on the disk and reading anew; relays (the context is saved and
loaded again from what was saved, so that this run and any that loads the same bytes later compute the same); states
handed to the store with a probe, and probed before a state from a file is trusted. Does not know how one answer passes
through it (`turn_context`), when relays are due (`schedule`), the form of a file (`store.snapshots`) or a backend's
bytes.

What the store cannot do never ends an answer: a state that is not written makes more be read again, no more.
For the generation thread alone, but for `relieve`.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine import fault_points
from engine.backends.base import ContextState, Logits
from engine.contexts.costs import Cost, Pace, Speeds
from engine.contexts.kept_states import KeptState, KeptStates, StateFile, common_length, thinned, usable
from engine.contexts.owners import Note, Owners
from engine.contexts.schedule import Schedule
from engine.errors import GenerationError, SeamountError
from engine.store.snapshot_index import About, Probe

if TYPE_CHECKING:
    from engine.backends.base import Backend
    from engine.contexts.turn_context import TurnContext, TurnJournal
    from engine.store.journal_turns import Turn
    from engine.store.snapshot_catalogue import Found
    from engine.store.snapshots import SnapshotStore

_logger = logging.getLogger(__name__)

SMALL_STATE_BYTES = 16 * 2**20
"""A state of that size is kept for any few tokens: it costs less than they do."""
PROBE_BOUND = 0.15
"""By how much logits of a probe may differ from the recorded ones (root mean square, in parts of these ones' standard
deviation) where they were computed on another build or with other threads (`exact_key`). With an equal key they are the
same bits. docs/continuing.md has what was seen."""


@dataclass(frozen=True)
class Start:
    """Where a context can begin: `tokens` of a state in memory (`kept`) or in a file (`found`), or from nothing."""

    tokens: int = 0
    kept: KeptState | None = None
    found: "Found | None" = None


@dataclass(frozen=True)
class Base:
    """From which state a turn's context was begun: so many of its `tokens`, none: from nothing. Its file is being
    written, or its digest is `known`."""

    tokens: int = 0
    file: StateFile | None = None
    known: str | None = None

    @property
    def digest(self) -> str | None:
        """The state's; None from nothing, and while the state is not on the disk."""
        return self.known or (None if self.file is None else self.file.digest)

    @property
    def state_bytes(self) -> int:
        """The size of the whole state."""
        return 0 if self.file is None else self.file.state_bytes

    def is_(self, other: "Base") -> bool:
        """Whether both are the same state's beginning, as far as is known."""
        return self.tokens == other.tokens and (not self.tokens or self.digest == other.digest is not None)


@dataclass
class Path:
    """How what the context holds came to be, so that it could come to be again: behind the base, up to `read` tokens
    were read as a prompt, the others written one by one, with relays as scheduled; the last one (or the base) at
    `relay`, where the state had `state_bytes`."""

    base: Base
    read: int
    relay: int
    state_bytes: int

    @classmethod
    def behind(cls, base: Base, read: int) -> "Path":
        """One that has not gone further than its base."""
        return cls(base, read, base.tokens, base.state_bytes)


class ContextKeeper:
    """One for each loaded backend. `snapshots` None, or a backend that cannot tell its state: nothing is kept.

    `pace`: what is foretold of reading. `wanted`: whether states are to be kept now. `waits`: whether somebody waits
    for the next answer. `note`: see `owners`.
    """

    def __init__(
        self,
        backend: "Backend",
        snapshots: "SnapshotStore | None" = None,
        *,
        pace: Pace | None = None,
        schedule: Schedule | None = None,
        wanted: Callable[[], bool] = lambda: True,
        waits: Callable[[], bool] = lambda: False,
        note: Note | None = None,
    ) -> None:
        self.backend = backend
        self.schedule = schedule or Schedule()
        self.speeds = Speeds(pace)
        self.path: Path | None = None
        """How what is held now came to be; None: it could not come to be again."""
        self._snapshots = snapshots
        self._wanted = wanted
        self._waits = waits
        self.owner: str | None = None
        """The conversation whose tokens are held, if one's are."""
        self.owners = Owners(snapshots, note)
        self._states = KeptStates()
        self._at: tuple[KeptState, int] | None = None
        self._saved_tokens = 0
        self._unproved: KeptState | None = None
        self._proved: set[str] = set()
        self._cuts = backend.facts.states_rewind
        self._needed: list[StateFile] = []
        self._asked_digest: str | None = None

    @property
    def keeps(self) -> bool:
        """Whether states are kept: relays are done then, whether or not what they save can be written."""
        return self._snapshots is not None and bool(self.backend.facts.state_key) and self._wanted()

    def turn(
        self,
        journal: "TurnJournal | None" = None,
        before: "Turn | None" = None,
        session_id: str | None = None,
        forks: Sequence[int] = (),
    ) -> "TurnContext":
        """The context of one answer; see `TurnContext`."""
        from engine.contexts.turn_context import TurnContext

        return TurnContext(self, journal, before, session_id, forks)

    def finish(self, *, whole: bool, aside: Callable[[], None] | None = None) -> None:
        """An answer has ended: its state is kept, and `aside` may use the backend meanwhile. Raises nothing.

        `whole`: the answer came to its own end. One that was cut off may go on from where the context stands, so that
        is left alone, and kept when something else takes its place.
        """
        try:
            kept = self._save(self._least_tokens) if whole and self.keeps else None
            proves = kept or self._unproved
            if aside is not None:
                self.path = self._at = None
                aside()
            if proves is not None and (whole or aside is not None):
                self._unproved = proves
                self.prove()
        except SeamountError as error:
            _logger.warning("what the context holds is not kept: %s", error.text)
        except Exception:  # the answer is there, and nothing that comes after it may seem to be its failure
            _logger.exception("what the context holds is not kept")

    def release(self) -> None:
        """Keep what is not kept yet: the model is about to be freed, or will answer something else. Raises nothing."""
        try:
            self._keep_held(self.schedule.end_tokens)
        except Exception:
            _logger.exception("what the context holds is not kept")

    def relieve(self) -> None:
        """Let go of the states in memory that are on the disk too. Any thread."""
        self._states.relieve()

    def cost(self, tokens: Sequence[int], *, more: bool = True) -> Cost:
        """What it would take to have `tokens` in the context, as things stand. `more`: with others behind them."""
        total = len(tokens)
        best = self.starts(tokens, total if more else total - 1)[0] if self.keeps and total else Start()
        live = self._live(tokens, total if more else total - 1)
        if live > best.tokens and (not self.keeps or self._would_save(live - best.tokens)):
            best = Start(live)
        # Who asks has that conversation open.
        self._asked_digest = _digest_of(best)
        self._protect()
        load_s = 0.0 if best.found is None else self.speeds.loading_s(best.found.bytes)
        reading_s = self.speeds.reading_s(total - best.tokens, best.tokens)
        return Cost(
            total,
            best.tokens,
            best.tokens if best.found is not None else 0,
            None if reading_s is None else reading_s + load_s,
        )

    # --- beginning ----------------------------------------------------------------------------------------

    def starts(self, tokens: Sequence[int], most: int) -> list[Start]:
        """Where a context of `tokens` can begin, the best first.

        At most `most` tokens are had from a state, unless it is one of exactly these, with its logits.
        """
        facts = self.backend.facts
        found: list[Start] = []
        for kept in self._states.all:
            reach = usable(kept.state, tokens, most, cuttable=self._cuts)
            if reach:
                found.append(Start(reach, kept))
        if self._snapshots is not None:
            for each in self._snapshots.find(facts.state_key, tokens, any_prefix=self._cuts):
                reach = each.tokens
                if reach > most and not reach == len(tokens) == each.whole_tokens:
                    reach = most if self._cuts else 0
                if reach and self._states.of(each.digest) is None:
                    found.append(Start(reach, None, each))
        return sorted([*found, Start()], key=self._delay_s(len(tokens)))

    def _delay_s(self, total: int) -> Callable[[Start], tuple[float, int, bool]]:
        """By which beginnings are sorted: how long each takes; where that is not known, the longest first; of equals
        what is in memory."""

        def delay(start: Start) -> tuple[float, int, bool]:
            load_s = 0.0 if start.found is None else self.speeds.loading_s(start.found.bytes)
            reading_s = self.speeds.reading_s(total - start.tokens, start.tokens)
            seconds = load_s + reading_s if reading_s is not None else 0.0
            return seconds, -start.tokens, start.kept is None

        return delay

    def begin(self, tokens: Sequence[int]) -> Base:
        """Bring the context to the best beginning of `tokens` there is, and say which."""
        most = len(tokens) - 1
        gain = self._live(tokens, most) - self.starts(tokens, most)[0].tokens
        self._keep_held(1 if gain > 0 and self._would_save(gain) else self.schedule.waited_for_tokens)
        for start in self.starts(tokens, most):
            if (base := self._begin_at(start)) is not None:
                return base
        raise AssertionError("a context can begin with nothing")

    def begin_with(self, digest: str | None, tokens: int, prefix: Sequence[int]) -> Base | None:
        """Bring the context to the first `tokens` of the state with that digest (none: to nothing); None where it is
        not to be had, or is not of `prefix`."""
        self._keep_held(self.schedule.waited_for_tokens)
        if not tokens:
            return self._begin_at(Start())
        kept = self._states.of(digest) if digest else None
        found = self._snapshots.by_digest(digest) if digest and kept is None and self._snapshots else None
        if kept is None and found is None:
            return None
        base = self._begin_at(Start(tokens, kept, found))
        if base is None or common_length(self.backend.held, prefix) != tokens:
            return None
        return base

    def stands_on(self, prefix: Sequence[int]) -> bool:
        """Whether what is held are the first tokens of `prefix`, its prompt read whole, by a way that is known."""
        path, held = self.path, self.backend.held
        return (
            path is not None
            and path.read <= len(held) <= len(prefix)
            and common_length(held, prefix) == len(held)
        )

    def _begin_at(self, start: Start) -> Base | None:
        """Bring the context there; None where that cannot be done."""
        if start.kept is None and start.found is None:
            self._empty()
            return Base()
        kept = start.kept if start.found is None else self._read(start.found)
        if kept is None or not 0 < start.tokens <= kept.tokens:
            return None
        try:
            if self._at != (kept, start.tokens):
                self._load(kept, start.tokens)
        except GenerationError as error:
            _logger.warning("%s", error.text)
            self._states.drop(kept)
            if start.found is not None and self._snapshots is not None:
                self._snapshots.quarantine(start.found.id, error.text)
            return None
        self._states.add(kept)
        self._needed = [kept.file]
        self._protect()
        return Base(start.tokens, kept.file)

    def _empty(self) -> None:
        self.backend.load(ContextState((), np.zeros(0, np.uint8)))
        self.path = self._at = None
        self._saved_tokens = 0

    def _load(self, kept: KeptState, tokens: int) -> None:
        """Raises GenerationError; the context is then empty."""
        self.path = self._at = None
        self._saved_tokens = 0
        self.backend.load(kept.state, None if tokens == kept.tokens else tokens)
        self._at, self._saved_tokens = (kept, tokens), tokens

    def _read(self, found: "Found") -> KeptState | None:
        """A state from its file, probed once; None where it cannot be had or is not to be trusted."""
        store = self._snapshots
        if store is None:
            return None
        began_s = self.speeds.clock()
        try:
            state, probe = store.load(found.id)
        except (SeamountError, OSError, MemoryError) as error:
            _logger.warning("a kept state is not used: %s", error)
            return None
        self.speeds.loaded(found.bytes, self.speeds.clock() - began_s)
        kept = KeptState.of(state)
        kept.file.digest = found.digest
        kept.file.settled.set()
        facts = self.backend.facts
        if probe is not None and found.digest not in self._proved and kept.tokens < facts.context_tokens:
            try:
                why = self._differs(kept, probe, exactly=found.exact_key == facts.exact_key)
            except GenerationError as error:
                why = error.text
            if why is not None:
                _logger.warning("a kept state is not used: %s", why)
                store.quarantine(found.id, why)
                return None
        self._proved.add(found.digest)
        return kept

    def _differs(self, kept: KeptState, probe: Probe, *, exactly: bool) -> str | None:
        """Why a state is not what it was recorded as; None: it is."""
        self._load(kept, kept.tokens)
        if not 0 <= probe.token < self.backend.facts.vocabulary_size:
            return "its probe is no token of this model"
        self._at = None
        logits = self.backend.step(probe.token)
        if exactly:
            same = bool(np.array_equal(logits, probe.logits))
            return None if same else "what the model computes with it differs from what was recorded"
        spread = float(np.std(probe.logits)) or 1.0
        difference = float(np.sqrt(np.mean(np.square(logits - probe.logits))))
        if difference <= PROBE_BOUND * spread:  # false for what is no number, too
            return None
        return f"what the model computes with it differs by {difference:.3g} from what was recorded"

    # --- keeping ------------------------------------------------------------------------------------------

    def relay(self, following: int | None = None) -> StateFile | None:
        """Save the context and load it from what was saved. None where it cannot be saved; it is then as it was.

        `following`: a token to probe with at once, where none is going to be written. Raises GenerationError when the
        context did not take its own state; it is then empty.
        """
        path, kept = self.path, self._save(0)
        if kept is None:
            return None
        self._load(kept, kept.tokens)
        fault_points.at("relay-loaded")
        self._unproved = kept
        if following is not None:
            self.prove(following)
            self._load(kept, kept.tokens)
        if path is not None:
            path.relay, path.state_bytes = kept.tokens, kept.file.state_bytes
        self.path = path
        return kept.file

    def proved_by(self, token: int, logits: Logits) -> None:
        """`logits` came after `token`, written as the first behind the state that was loaded last."""
        kept, self._unproved = self._unproved, None
        if kept is not None:
            self._put(kept, Probe(token, logits.copy()))

    def prove(self, token: int | None = None) -> None:
        """Evaluate a token behind the state that has no probe yet, if there is one. The context is off its way then.

        Raises GenerationError.
        """
        kept = self._unproved
        if kept is None:
            return
        if kept.tokens >= self.backend.facts.context_tokens:
            self._unproved = None
            self._put(kept, None)
            return
        if self._at != (kept, kept.tokens):
            self._load(kept, kept.tokens)
        if token is None:
            token = min(self.backend.facts.end_token_ids, default=0)
        self.path = self._at = None
        self.proved_by(token, self.backend.step(token))
        self._saved_tokens = len(self.backend.held)  # the token that was tried is worth nothing

    def forget(self) -> None:
        """Nothing is known of how the context came to be, nor that anything of it is kept."""
        self.path = self._at = self._unproved = None
        self._saved_tokens = 0

    def touched(self) -> None:
        """The context is about to be no longer what was loaded."""
        self._at = None

    @property
    def _least_tokens(self) -> int:
        return self.schedule.waited_for_tokens if self._waits() else self.schedule.end_tokens

    def _live(self, tokens: Sequence[int], most: int) -> int:
        """How many of the first `most` of `tokens` are held and could be gone back to; all of them if no more are."""
        live = self.backend.reusable(tokens)
        return live if live == len(tokens) == len(self.backend.held) else min(live, most)

    def _would_save(self, gain: int) -> bool:
        return gain >= self.schedule.end_tokens or self.backend.state_bytes() <= SMALL_STATE_BYTES

    def _keep_held(self, least: int) -> None:
        """What is held is about to be given up: keep it, if `least` tokens of it are kept nowhere."""
        if not self.keeps:
            return
        try:
            self.prove()
            kept = self._save(least)
            if kept is not None:
                self._unproved = kept
                self.prove()
        except GenerationError as error:
            # The context is empty then, and something else takes its place anyway.
            _logger.warning("what the context held is not kept: %s", error.text)
            self.forget()

    def _save(self, least: int) -> KeptState | None:
        """The context's state, if it holds `least` tokens more than the last one that was kept of it."""
        held = len(self.backend.held)
        if not held or held - self._saved_tokens < least:
            return None
        try:
            state = self.backend.save(self._room)
        except (MemoryError, OSError, SeamountError) as error:
            _logger.warning("the context's state is not kept: %s", error)
            return None
        if state is None:
            return None
        fault_points.at("relay-saved")
        kept = KeptState.of(thinned(state))
        self.owners.add(kept.file, self.owner)
        self._states.add(kept)
        self._saved_tokens = held
        return kept

    def _room(self, size_bytes: int) -> NDArray[np.uint8]:
        """Memory for a state: pages of a file where the store has them. A relay does not depend on the disk."""
        if self._snapshots is not None:
            try:
                return self._snapshots.room(size_bytes)
            except (OSError, SeamountError):
                _logger.warning("there is no room on the disk for a state of %d bytes", size_bytes)
        return np.empty(size_bytes, np.uint8)

    def _put(self, kept: KeptState, probe: Probe | None) -> None:
        store = self._snapshots
        file = kept.file
        if store is None:
            file.settled.set()
            return
        facts = self.backend.facts
        cost_s = self.speeds.reading_s(kept.tokens, 0) or 0.0

        def done(digest: str | None, error: Exception | None) -> None:
            if digest is None:
                _logger.warning("a state of the context is not on the disk: %s", error)
            file.digest = digest
            if digest is not None:
                self._proved.add(digest)
                self.owners.written(file)
                self._protect()
            file.settled.set()

        # What the running turn began with, and the last two states of it.
        self._needed = [*self._needed[:1], *self._needed[1:][-1:], file]
        about = About(facts.state_key, facts.exact_key, cost_s, facts.states_rewind)
        try:
            store.put(kept.state, probe, about, done)
        except (SeamountError, OSError, MemoryError) as error:
            _logger.warning("a state of the context is not on the disk: %s", error)
            file.settled.set()

    def _protect(self) -> None:
        """What the turn rests on, and the conversation goes on from, is not deleted to make room. Any thread."""
        store = self._snapshots
        if store is not None:
            digests = {self._asked_digest, *(file.digest for file in list(self._needed))} - {None}
            known = [store.by_digest(digest) for digest in digests if digest is not None]
            store.protect([found.id for found in known if found is not None])


def _digest_of(start: Start) -> str | None:
    if start.found is not None:
        return start.found.digest
    return None if start.kept is None else start.kept.file.digest
