"""The journals of one data folder: begun, synced together, read after a crash, made shorter.

Owns: where each session's journal lies, the thread that syncs, what is done with what a dead engine left, and when a
journal is made shorter. Does not know what a turn writes (`journal`), a file's insides (`journal_file`), or which
unfinished answers are gone on with (`engine.resuming`).

The bound: what a turn has told is synced within `sync_ms` of that, by one fsync for all that was told meanwhile; on a
disk that takes longer, as soon as the fsync before has returned. With 0 it is synced before it is told.
"""

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import fault_points
from engine.errors import SeamountError
from engine.protocol import Message, Sampling
from engine.store.journal import TurnJournal
from engine.store.journal_file import JournalFile, explaining, mend, read_journal, reseal, rewrite
from engine.store.journal_records import Kind
from engine.store.journal_turns import Begun, Ended, Turn, last_turn, needed, packed, turns_of
from engine.store.sealing import Cipher
from engine.store.sessions import SessionStore

_logger = logging.getLogger(__name__)
FILE_NAME = "journal"
COMPACTED_ABOVE_BYTES = 64 << 10
"""A longer one is made shorter when no turn writes to it any more; a shorter one when the engine ends or starts."""

_END_S = 10.0
"""How long the end of an engine waits for a disk that does not answer."""

_SESSION_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True)
class Unfinished:
    """An answer that the end of an engine cut off, and that nobody has gone on with."""

    session_id: str
    answer_id: str
    model_id: str
    resumes: int
    """How often it was gone on with without getting any further."""


@dataclass
class _Open:
    file: JournalFile
    turns: int = 0


class Journals:
    """All journals in `folder`. Any thread. `sync_ms()`: the bound in force.

    `recover` is to be called once, before the first turn.
    """

    def __init__(self, folder: Path, sync_ms: Callable[[], int], cipher: Cipher | None = None) -> None:
        self._folder = folder
        self._cipher = cipher
        self._lock = threading.RLock()
        self._open: dict[str, _Open] = {}
        self._held: dict[str, set[str]] = {}
        """Answers of which the store lacks something, by session: nothing of them leaves the journal."""
        self._store: SessionStore | None = None
        self._syncing = _Syncing(sync_ms, self._sync_store, self._retire)

    # --- turns --------------------------------------------------------------------------------------

    def turn(
        self,
        session_id: str,
        answer: Message,
        *,
        model_id: str,
        sampling: Sampling,
        already: int = 0,
        most_tokens: int | None = None,
        thinking_tokens: int | None = None,
    ) -> TurnJournal:
        """Begin the journal of a turn that is about to write `answer`, which has `already` tokens. For the rest see
        `journal_turns.Begun`.

        Raises DiskFull, DataFolderError.
        """
        with self._lock:
            held = self._open.get(session_id)
            if held is None:
                held = self._open[session_id] = _Open(JournalFile(self._path(session_id), self._cipher))
            try:
                before = last_turn(self._turns(session_id), answer.id)
                begun = Begun(
                    answer_id=answer.id,
                    parent_id=answer.parent_id,
                    model_id=model_id,
                    mode=answer.mode,
                    sampling=sampling,
                    already=already,
                    resumes=0 if before is None else before.resumes + 1,
                    most_tokens=most_tokens,
                    thinking_tokens=thinking_tokens,
                    characters={"text": len(answer.text), "reasoning": len(answer.reasoning)},
                )
                file = held.file
                journal = TurnJournal(
                    file,
                    answer,
                    begun,
                    before,
                    lambda store_too: self._syncing.wrote(file, store_too=store_too),
                    lambda first, settled: self._ended(session_id, answer.id, first=first, settled=settled),
                )
            except BaseException:
                self._close_unused(session_id)
                raise
            held.turns += 1
            return journal

    def last(self, session_id: str, answer_id: str) -> Turn | None:
        """What is known of how an answer came about, for going on with it; None: nothing. Raises DataFolderError."""
        with self._lock:
            return last_turn(self._turns(session_id), answer_id)

    # --- after a crash ------------------------------------------------------------------------------

    def recover(self, store: SessionStore, *, strict: bool = False) -> list[Unfinished]:
        """Put back what the store lacks, and say which answers were cut off, the newest first.

        A journal that cannot be read, or a store that has no room, is logged, and tried again at the next start;
        `strict`: it raises DiskFull or DataFolderError. Journals of sessions that are not there any more are removed.
        """
        self._store = store
        found: dict[str, Unfinished] = {}
        known: set[str] = set()
        for session_id in self._sessions():
            try:
                for each in self._recover(session_id, store, known, strict=strict):
                    found[each.answer_id] = each
            except SeamountError as error:
                if strict:
                    raise
                _logger.error("%s", error.text)
        for cut in store.cut_off:
            if cut.model_id is not None and cut.answer_id not in known:
                # Its engine died before the journal knew of it.
                found[cut.answer_id] = Unfinished(cut.session_id, cut.answer_id, cut.model_id, 0)
        return sorted(found.values(), key=lambda each: each.answer_id, reverse=True)

    # --- housekeeping -------------------------------------------------------------------------------

    def compact(self, session_id: str, gone: frozenset[str] = frozenset()) -> None:
        """Leave out of a session's journal what the store has for certain, and the answers that are `gone`; not while a
        turn writes to it.

        Raises DiskFull, DataFolderError; the journal is then as it was.
        """
        with self._lock:
            if session_id in self._open or self._store is None or not self._path(session_id).exists():
                return
            self._store.make_durable()
            held = frozenset(self._held.get(session_id, ()))
            rewrite(self._path(session_id), self._cipher, lambda records: needed(records, held, gone))
            if not self._path(session_id).exists():
                self._remove_folder(session_id)

    def compact_all(self) -> None:
        """`compact` each; what cannot be written is logged."""
        for session_id in self._sessions():
            try:
                self.compact(session_id)
            except SeamountError as error:
                _logger.warning("%s", error.text)

    def reseal(self, cipher: Cipher, *, on: bool) -> None:
        """Have every journal sealed with `cipher`, or not any more; while nothing else has the folder open.

        A crash leaves some in the old form and some in the new; called again, it does the rest. Raises DiskFull,
        DataFolderError.
        """
        for session_id in self._sessions():
            reseal(self._path(session_id), cipher, cipher if on else None)

    def verify(self) -> list[str]:
        """Read every journal whole: a sentence for each thing that is wrong. Changes nothing."""
        problems: list[str] = []
        for session_id in self._sessions():
            path = self._path(session_id)
            try:
                contents = read_journal(path, self._cipher)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                problems.append(f"The journal {path} cannot be read: {error}.")
                continue
            if contents.good_bytes < contents.size_bytes:
                what = "is damaged" if contents.is_damaged else "ends in a record that was not written whole"
                problems.append(
                    f"The journal {path} {what}: {contents.size_bytes - contents.good_bytes:,} of its "
                    f"{contents.size_bytes:,} bytes cannot be used."
                )
        return problems

    def purge(self, session_id: str) -> None:
        """Remove a session's journal with all that lies beside it. Raises DataFolderError."""
        with self._lock:
            held = self._open.pop(session_id, None)
            if held is not None:
                held.file.close()
            self._held.pop(session_id, None)
            self._remove_folder(session_id)

    def close(self) -> None:
        """Sync everything, make all journals shorter and stop. Raises nothing; twice does nothing."""
        self._syncing.close()
        with self._lock:
            for session_id in list(self._open):
                if self._open[session_id].turns == 0:
                    self._close_unused(session_id)
        self.compact_all()

    # --- inside -------------------------------------------------------------------------------------

    def _path(self, session_id: str) -> Path:
        if not _SESSION_ID.fullmatch(session_id):
            raise ValueError(f"no session has the id {session_id[:80]!r}")
        return self._folder / session_id / FILE_NAME

    def _sessions(self) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted(self._folder.iterdir()):
                if _SESSION_ID.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                    yield folder.name

    def _turns(self, session_id: str) -> list[Turn]:
        path = self._path(session_id)
        with explaining(path):
            if not path.exists():
                return []
            return list(turns_of(read_journal(path, self._cipher).records).values())

    def _recover(
        self, session_id: str, store: SessionStore, known: set[str], *, strict: bool
    ) -> Iterator[Unfinished]:
        """Of one session. Every answer that its journal tells of comes to `known`."""
        path = self._path(session_id)
        if not store.has_session(session_id):
            self._remove_folder(session_id)
            return
        with explaining(path):
            mend(path, self._cipher)
            turns = turns_of(read_journal(path, self._cipher).records) if path.exists() else {}
        ends: dict[int, Ended] = {}
        gone: set[str] = set()
        for answer_id in dict.fromkeys(turn.begun.answer_id for turn in turns.values()):
            own = {number: turn for number, turn in turns.items() if turn.begun.answer_id == answer_id}
            last = list(own.values())[-1]
            known.add(answer_id)
            if last.ended is None:
                fault_points.at("recovery")
            try:
                restored = store.restore(session_id, answer_id, list(own.values()))
            except SeamountError as error:
                if strict:
                    raise
                _logger.error("%s", error.text)
                self._held.setdefault(session_id, set()).add(answer_id)
                continue
            if restored is None:
                _logger.error("a journal tells of an answer that the store does not have; it is left out")
                gone.add(answer_id)
                continue
            if restored.pieces:
                _logger.warning("%d pieces of an answer were put back from its journal", restored.pieces)
            reason = restored.finish_reason or "interrupted"
            for number, turn in own.items():
                if turn.ended is None:
                    ends[number] = Ended(status=restored.status, reason=reason, tokens=turn.tokens)
            if restored.status == "interrupted" and (last.ended is None or last.was_cut_off):
                yield Unfinished(session_id, answer_id, last.begun.model_id, last.resumes)
        if ends:
            with contextlib.closing(JournalFile(path, self._cipher)) as file:
                for number, ended in ends.items():
                    file.append(Kind.ENDED, number, packed(ended))
                file.sync()
        self.compact(session_id, frozenset(gone))

    def _ended(self, session_id: str, answer_id: str, *, first: bool, settled: bool) -> None:
        with self._lock:
            held = self._held.setdefault(session_id, set())
            if settled:
                held.discard(answer_id)
            else:
                held.add(answer_id)
            if not held:
                del self._held[session_id]
            opened = self._open.get(session_id)
            if opened is None or not first:
                return
            opened.turns -= 1
            if opened.turns > 0:
                return
        self._syncing.retire(session_id)

    def _retire(self, session_id: str) -> None:
        """Close a journal that no turn writes to."""
        with self._lock:
            opened = self._open.get(session_id)
            if opened is None or opened.turns > 0:
                return
            size_bytes = opened.file.size_bytes
            self._close_unused(session_id)
            if size_bytes > COMPACTED_ABOVE_BYTES:
                self.compact(session_id)

    def _close_unused(self, session_id: str) -> None:
        opened = self._open[session_id]
        if opened.turns == 0:
            del self._open[session_id]
            try:
                opened.file.sync()
            except SeamountError as error:
                _logger.error("%s", error.text)
            opened.file.close()

    def _sync_store(self) -> None:
        if self._store is not None:
            self._store.make_durable()

    def _remove_folder(self, session_id: str) -> None:
        """Remove what this module and `journal_file` put there, and the folder unless something else is in it."""
        folder = self._path(session_id).parent
        with explaining(folder):
            for file in folder.glob(f"{FILE_NAME}*") if folder.exists() else ():
                file.unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()


class _Syncing:
    """The thread that syncs what was written meanwhile, all of it at once, and closes what is not used any more."""

    def __init__(
        self, sync_ms: Callable[[], int], sync_store: Callable[[], None], retire: Callable[[str], None]
    ) -> None:
        self._sync_ms = sync_ms
        self._sync_store = sync_store
        self._retire = retire
        self._condition = threading.Condition()
        self._files: set[JournalFile] = set()
        self._store_too = False
        self._retiring: list[str] = []
        self._since_s = 0.0
        self._took_s = 0.0
        self._closing = False
        self._thread: threading.Thread | None = None

    def wrote(self, file: JournalFile, *, store_too: bool) -> None:
        """`file` was written to. Raises what syncing raises, where that is done at once."""
        if self._sync_ms() == 0 or self._closing:
            if store_too:
                self._sync_store()
            file.sync()
            return
        with self._condition:
            self._store_too |= store_too
            if not self._files:
                self._since_s = time.monotonic()
                self._wake()
            self._files.add(file)

    def retire(self, session_id: str) -> None:
        """Its journal may be closed."""
        with self._condition:
            if not self._closing:
                self._retiring.append(session_id)
                self._wake()

    def close(self) -> None:
        """Sync what is left, and end."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(_END_S)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
            self._thread.start()
        self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._files or self._retiring or self._closing)
                if self._files:
                    # Begun so early that it is done in time, if it takes as long as the last one.
                    due_s = self._since_s + self._sync_ms() / 1000 - self._took_s
                    self._condition.wait_for(lambda: self._closing, max(0.0, due_s - time.monotonic()))
                files, self._files = self._files, set[JournalFile]()
                store_too, self._store_too = self._store_too, False
                retiring, self._retiring = self._retiring, list[str]()
                if not files and not retiring:
                    return
            began_s = time.monotonic()
            # The store first: a journal tells of an answer that the store then has.
            self._try(self._sync_store if store_too else None, *(file.sync for file in files))
            if files:
                self._took_s = time.monotonic() - began_s
            for session_id in retiring:
                self._try(lambda session_id=session_id: self._retire(session_id))

    def _try(self, *steps: Callable[[], None] | None) -> None:
        for step in steps:
            try:
                if step is not None:
                    step()
            except SeamountError as error:
                _logger.error("%s", error.text)
