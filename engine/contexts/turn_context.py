"""One answer's way through a context: where it begins, its relays, and how it goes on after it was cut off.

Owns: the order of reading, writing and relays of one answer, what of it the journal is told, and whether it goes on
token for token as it would have. Does not know how a context is saved or from where it can begin (`keeper`), nor how
tokens are drawn (`generation`).

An answer goes on exactly if its context comes to be by the same way: from the same base or from a state that lies on
the way, prompt read as prompt, written tokens written one by one, relays at the same places. Every one of these is
noted in the journal or follows from what is (`schedule`).
"""

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from engine.backends.base import Cancelled, Logits, ModelFacts
from engine.contexts.context import Prepared
from engine.contexts.keeper import Base, ContextKeeper, Path
from engine.errors import GenerationError, SeamountError
from engine.store.journal import ids_digest

if TYPE_CHECKING:
    from engine.backends.base import ExpertCounts
    from engine.contexts.kept_states import StateFile
    from engine.store.journal_turns import Turn

_logger = logging.getLogger(__name__)

BASE_WAIT_S = 5.0
"""So long is waited for the base's file before the first token is drawn. Without it an answer that is cut off goes on,
but not exactly."""
MOST_TRIES = 4
"""So often it is tried in vain to go on exactly: where that ends the process every time, another way may not. More than
the engine tries by itself, since most deaths have nothing to do with the answer."""
REPLAY_TOLD_TOKENS = 16
"""While written tokens are evaluated again, progress is told after so many."""


Progress = Callable[[int, int, int], None]


class TurnJournal(Protocol):
    """What a turn's journal is told by its context. Each may raise a SeamountError."""

    def base(self, digest: str | None, tokens: int, schedule: int, read: int) -> None:
        """The context began with so many tokens of the state with that digest; None: with nothing. Up to `read` tokens
        are read as a prompt. With 0 as the schedule: relays are no longer as they should be."""
        ...

    def snapshot(self, position: int, digest: str) -> None:
        """The state at `position` is on the disk."""
        ...

    def relay(self, position: int) -> None:
        """The context was loaded from its own state at `position`."""
        ...


class TurnContext:
    """The context of one answer (`context.Context`); `ContextKeeper.turn` makes it.

    `journal` is told what the turn rests on, `before` is what it told of the same answer earlier. `forks`: lengths of
    the prompt where other prompts will part from it; there a state is kept, where a context cannot be cut back. No
    answer that is gone on with exactly has any, since where they stand is not noted.
    """

    def __init__(
        self,
        keeper: ContextKeeper,
        journal: TurnJournal | None,
        before: "Turn | None",
        session_id: str | None = None,
        forks: Sequence[int] = (),
    ) -> None:
        self._keeper = keeper
        self._forks = () if keeper.backend.facts.states_rewind else forks
        self._session_id = session_id
        self._backend = keeper.backend
        self._journal = journal
        self._before = before
        self.exact: bool | None = None
        """Whether an answer that was cut off goes on exactly, as `prepare` found; see `Prepared`."""
        self._again = False
        self._base_told = False
        self._read_tokens = 0
        self._reading_s = 0.0
        self._next_relay: int | None = None
        self._last_relay: int | None = None
        self._unwritten: list[tuple[int, StateFile]] = []
        self.facts: ModelFacts = keeper.backend.facts
        self.token_bytes = keeper.backend.token_bytes
        self.logits = keeper.backend.logits

    @property
    def expert_counts(self) -> "ExpertCounts | None":
        """What its experts cost so far."""
        return self._backend.expert_counts

    def prepare(
        self,
        prompt: Sequence[int],
        already: Sequence[int],
        on_progress: Progress,
        cancelled: Callable[[], bool],
    ) -> Prepared:
        """See `Context.prepare`. What was `already` written is evaluated token by token where that makes it exact."""
        prefix = (*prompt, *already)
        if not self._keeper.keeps:
            prepared = self._prepare_plainly(prefix, len(prompt), on_progress, cancelled)
            self.exact = prepared.exact
            return prepared
        self._again = bool(already)
        path = self._way_back(prefix, len(prompt))
        repeated = False
        if path is not None:
            try:
                repeated = self._go(path, prefix, on_progress, cancelled)
            except GenerationError as error:
                # What failed once may fail there every time; read as a prompt it may not.
                _logger.warning("an answer does not go on as it came: %s", error.text)
                path = None
                self._tell_departed()
                self._base_told = False
        if path is None:
            self._go(Path.behind(self._keeper.begin(prefix), len(prefix)), prefix, on_progress, cancelled)
        self.exact = repeated if already else None
        return Prepared(self._read_tokens, self._reading_s, self.exact)

    def step(self, token_id: int) -> Logits:
        """Append a token that was generated, and have a relay where one is due; see `Context.step`."""
        self._keeper.touched()
        logits = self._backend.step(token_id)
        self._keeper.proved_by(token_id, logits)
        if self._unwritten:
            self._note_written()
        if len(self._backend.held) == self._next_relay:
            self._relay()
            self._plan_next()
            return self._backend.logits()
        return logits

    def ended(self) -> None:
        """The answer has ended: note what was written of it meanwhile, while the journal is open."""
        self._note_written()

    def _go(
        self, path: Path, prefix: Sequence[int], on_progress: Progress, cancelled: Callable[[], bool]
    ) -> bool:
        """Go a way up to all of `prefix`, and note its base; as `_evaluate`."""
        base, self._keeper.path, self._keeper.owner = path.base, path, self._session_id
        if base.file is not None and base.tokens == base.file.tokens:
            # Of a longer one this conversation has the beginning alone, and the rest is not kept for its sake.
            self._keeper.owners.add(base.file, self._session_id)
        self._tell_base(path, wait_s=0.0)
        try:
            repeated = self._evaluate(path, prefix, len(self._backend.held), on_progress, cancelled)
        except BaseException:
            self._keeper.path = None
            raise
        self._tell_base(path, wait_s=BASE_WAIT_S)
        return repeated

    # --- before the first token ---------------------------------------------------------------------------

    def _prepare_plainly(
        self, prefix: Sequence[int], prompt: int, on_progress: Progress, cancelled: Callable[[], bool]
    ) -> Prepared:
        """Where nothing is kept, an answer goes on exactly only if the context still stands where it was left."""
        keeper, again = self._keeper, len(prefix) > prompt
        path = keeper.path
        if again and path is not None and path.read >= prompt and keeper.stands_on(prefix):
            start = len(self._backend.held)
            on_progress(start, len(prefix), start)
            self._write_again(prefix, start, start, on_progress, cancelled)
            return Prepared(0, 0.0, True)
        keeper.forget()
        keeper.owner = self._session_id
        began_s = keeper.speeds.clock()
        report = self._backend.sync(prefix, on_progress, cancelled)
        took_s = keeper.speeds.clock() - began_s
        keeper.speeds.read(report.read_tokens, took_s)
        keeper.path = Path.behind(Base(report.reused_tokens), len(prefix))
        return Prepared(report.read_tokens, took_s, False if again else None)

    def _way_back(self, prefix: Sequence[int], prompt: int) -> Path | None:
        """Bring the context onto the way by which the answer came to be, as far along as can be; None where it is not
        known or not to be had."""
        before, keeper = self._before, self._keeper
        if before is None or before.prompt is None or before.base is None:
            return self._no_way("its journal does not tell how it began")
        if before.resumes >= MOST_TRIES:
            return self._no_way(f"it was tried {before.resumes} times in vain")
        told, base = before.prompt, Base(before.base.tokens, known=before.base.digest)
        if told.exact_key != self.facts.exact_key or before.base.schedule != keeper.schedule.key:
            return self._no_way("the model was loaded in another way")
        if not prompt <= told.tokens <= len(prefix) or ids_digest(prefix[: told.tokens]) != told.digest:
            return self._no_way("its prompt is not the same")
        path = keeper.path
        if path is not None and path.read == told.tokens and path.base.is_(base) and keeper.stands_on(prefix):
            return path
        for each in sorted(before.snapshots, key=lambda each: -each.position):
            if base.tokens < each.position <= len(prefix):
                on_way = keeper.begin_with(each.digest, each.position, prefix)
                if on_way is not None:
                    return Path(base, told.tokens, each.position, on_way.state_bytes)
        begun = keeper.begin_with(base.digest, base.tokens, prefix)
        if begun is None:
            return self._no_way(f"the state of {base.tokens:,} tokens that it began with is gone")
        return Path.behind(begun, told.tokens)

    def _no_way(self, why: str) -> None:
        if self._again:
            _logger.info("an answer goes on, but not exactly: %s", why)

    def _evaluate(
        self,
        path: Path,
        prefix: Sequence[int],
        start: int,
        on_progress: Progress,
        cancelled: Callable[[], bool],
    ) -> bool:
        """From the `start` tokens held to all of `prefix`, with the relays that are due on the way; whether all of them
        that lie before its end were there the first time too."""
        keeper, read, total = self._keeper, path.read, len(prefix)
        known = self._known_relays()
        repeated = True

        def reading(done: int, _total: int, _reused: int) -> None:
            on_progress(done, total, start)

        on_progress(start, total, start)
        for stop in self._stops(path, start):
            began_s, held = keeper.speeds.clock(), len(self._backend.held)
            if held < stop:
                keeper.touched()
            # Where all is held this reads nothing, or the last token again if its logits are not there.
            read_tokens = self._backend.sync(prefix[:stop], reading, cancelled).read_tokens
            took_s = keeper.speeds.clock() - began_s
            keeper.speeds.read(read_tokens, took_s)
            self._read_tokens += read_tokens
            self._reading_s += took_s
            due = stop < read or (start < read and keeper.schedule.at_prompt_end(path.relay, read))
            if due and keeper.path is not None:  # one that failed is not tried again and again
                self._relay(following=prefix[stop] if stop < read else None)
                repeated &= self._is_repeated(stop, total, known)
        self._plan_next()
        return self._write_again(prefix, max(start, read), start, on_progress, cancelled) and repeated

    def _stops(self, path: Path, start: int) -> Sequence[int]:
        """Where reading from `start` is interrupted by a relay, and where it ends."""
        schedule, read = self._keeper.schedule, path.read
        stops = set(schedule.prefill_stops(start, read))
        # Only so much behind what was there before is worth a state; nearer to another stop that one does.
        for fork in self._forks:
            if start + schedule.prompt_tokens <= fork < read and all(
                abs(fork - stop) >= schedule.prompt_tokens for stop in stops
            ):
                stops.add(fork)
        return [*sorted(stops), max(start, read)]

    def _write_again(
        self,
        prefix: Sequence[int],
        at: int,
        start: int,
        on_progress: Progress,
        cancelled: Callable[[], bool],
    ) -> bool:
        """Evaluate what was written, from position `at` on, token by token; as `_evaluate`."""
        total, known, repeated = len(prefix), self._known_relays(), True
        for position in range(at, total):
            if cancelled():
                raise Cancelled
            due = self._next_relay == position + 1
            self.step(prefix[position])
            if due:
                repeated &= self._is_repeated(position + 1, total, known)
            if (position + 1 - at) % REPLAY_TOLD_TOKENS == 0 or position + 1 == total:
                on_progress(position + 1, total, start)
        return repeated

    def _is_repeated(self, position: int, total: int, known: set[int] | None) -> bool:
        """Whether there was a relay now where there was one the first time, and none where that had failed. At the very
        end the engine may have died before it was noted."""
        return (self._last_relay == position) == (position == total or known is None or position in known)

    def _known_relays(self) -> set[int] | None:
        before = self._before
        if before is None:
            return None
        return {each.position for each in before.relays} | {each.position for each in before.snapshots}

    # --- relays -------------------------------------------------------------------------------------------

    def _relay(self, following: int | None = None) -> None:
        keeper, held = self._keeper, tuple(self._backend.held)
        position = len(held)
        try:
            file = keeper.relay(following)
        except GenerationError as error:
            _logger.warning("the context did not take its own state, and is read again: %s", error.text)
            self._read_again(held)
            return
        if file is None:
            return
        self._last_relay = position
        self._unwritten.append((position, file))
        self._tell(lambda journal: journal.relay(position))

    def _read_again(self, held: Sequence[int]) -> None:
        """Have in the context what it lost. The answer goes on, and can no longer be repeated."""
        keeper = self._keeper
        self._tell_departed()
        keeper.begin(held)
        keeper.touched()
        self._backend.sync(held, lambda _done, _total, _reused: None, lambda: False)
        keeper.path = None

    def _plan_next(self) -> None:
        """Where the next relay is due. Without a journal nobody will ever repeat the way."""
        path, schedule = self._keeper.path, self._keeper.schedule
        self._next_relay = None
        if path is not None and self._journal is not None and self._keeper.keeps:
            here = max(path.read, len(self._backend.held))
            last = max(path.read, path.relay)
            gap = schedule.gap(path.state_bytes)
            self._next_relay = last + gap * ((here - last) // gap + 1)

    def _note_written(self) -> None:
        for each in list(self._unwritten):
            position, file = each
            if file.settled.is_set():
                self._unwritten.remove(each)
                if file.digest is not None:
                    digest = file.digest
                    self._tell(lambda journal, at=position, digest=digest: journal.snapshot(at, digest))

    # --- the journal --------------------------------------------------------------------------------------

    def _tell_base(self, path: Path, *, wait_s: float) -> None:
        """Name the base, once, when it is on the disk; one that will never be is not named."""
        base = path.base
        if self._journal is None or self._base_told:
            return
        if base.tokens and base.digest is None and base.file is not None and wait_s:
            base.file.settled.wait(wait_s)
        if base.tokens and base.digest is None:
            if wait_s:
                _logger.info("the state that an answer begins with is not on the disk")
            return
        self._base_told = True
        digest, key = base.digest if base.tokens else None, self._keeper.schedule.key
        self._tell(lambda journal: journal.base(digest, base.tokens, key, path.read))

    def _tell_departed(self) -> None:
        """What comes now does not come by the way that was named."""
        self._base_told = True
        self._tell(lambda journal: journal.base(None, 0, 0, 0))

    def _tell(self, what: Callable[[TurnJournal], None]) -> None:
        """Without its journal the answer goes on; only that it is gone on with exactly cannot be promised any more."""
        if self._journal is None:
            return
        try:
            what(self._journal)
        except SeamountError as error:
            _logger.warning("what a turn rests on is not noted: %s", error.text)
