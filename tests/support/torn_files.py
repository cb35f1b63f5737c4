"""Data folders whose files end where they should not, opened again.

    python -m tests.support.torn_files [--seed 1] [--cases 2000]

A scripted engine talks, is killed in the middle of an answer, and so leaves a data folder with the database's log not
yet copied, a journal with an unfinished turn, and snapshots. Of every file in it copies are made that end at every
boundary of its records, a byte before and a byte behind it: once cut off there, once filled up with zeros from there,
which is what a power cut leaves where the size was written before the content. Each copy of the folder is opened as
an engine does, and what comes out must be what went in:

    a journal        nothing that was shown is lost, since the database has it
    the database     refused with a sentence and left as it is; or opened, with every message that is there as it was or
    or its log       shorter, and with all that the journal has of the answer that was cut off, if that is there
    a snapshot       never gives other bytes; it is set aside
    all others       every message is there
"""

import argparse
import logging
import random
import shutil
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

from engine.errors import SeamountError, SnapshotDamaged
from engine.paths import DataFolder
from engine.settings import load_settings
from engine.store.journal_records import HEADER_BYTES, Reading
from engine.store.journals import Journals
from engine.store.sessions import SessionStore
from engine.store.snapshot_file import PREAMBLE, TRAILER, read_index, state_digest
from engine.store.snapshots import SnapshotStore
from tests.integration.live_engine import write_script
from tests.support.mortal_engine import Cut, Died, MortalEngine

QUESTION = "Talk at length"
SCRIPT: dict[str, Any] = {
    "name": "Talker",
    "context_tokens": 65_536,
    "replies": [
        {
            "match": "length",
            "text": "One word after the other, so that there is time to look. " * 40,
            "delay_s": 0.001,
        },
        {"text": "né 你好 👩‍👩‍👧 مرحبا! " * 30},
    ],
}
_WAL_HEADER_BYTES, _WAL_FRAME_HEADER_BYTES = 32, 24
_NOT_TORN = ("models", "logs")
"""Folders of files that no engine writes or that nothing is read from."""

Damage = Literal["cut", "zeroed"]


@dataclass(frozen=True)
class Case:
    """`file` ends at `offset`, or holds only zeros from there on."""

    file: str
    offset: int
    damage: Damage


@dataclass(frozen=True)
class Whole:
    """The folder as it was when its engine died, and what must come out of it."""

    root: Path
    messages: "Messages"
    """After nothing was damaged."""
    shown: dict[str, str]
    answer_id: str
    """The answer that was cut off."""
    digests: frozenset[str]
    """Of the snapshots."""


Messages = dict[str, tuple[Any, ...]]
"""By id: parent, role, reasoning and text."""


def build(root: Path) -> Whole:
    """Let an engine talk in `root` and kill it in the middle of an answer."""
    write_script(DataFolder(root), SCRIPT)
    DataFolder(root).settings.write_text('format = 1\ncontext_tokens = 65536\nresume = "offer"\n')
    engine = MortalEngine(root, "folder:talk.script.json")
    engine.start()
    answer_id = ""
    for text in ("Hello, " * 400, "And again, " * 300, QUESTION):
        sessions = engine.ask("GET", "/api/sessions")["sessions"]
        session_id = sessions[0]["id"] if sessions else engine.ask("POST", "/api/sessions", {})["id"]
        turn = engine.begin({"turn": {"kind": "ask", "session_id": session_id, "text": text}})
        answer_id = turn["answer"]["id"]
        try:
            engine.follow(turn["id"], session_id, answer_id, Cut("text", 25) if text == QUESTION else None)
        except Died:
            break
    shown = {id_: shown.text for id_, shown in engine.shown.items()}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "whole"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(*_NOT_TORN))
        messages = _opened(copy)
        digests = frozenset(read_index(path).digest for path in (root / "snapshots").glob("*.kv"))
    assert len(messages) == 6, messages
    assert digests, "the engine kept no snapshot"
    return Whole(root, messages, shown, answer_id, digests)


def cases(whole: Whole) -> Iterator[Case]:
    """Every file, at every boundary of its records and a byte to either side."""
    for path in sorted(whole.root.rglob("*")):
        relative = path.relative_to(whole.root)
        if not path.is_file() or relative.parts[0] in _NOT_TORN or path.suffix in (".lock", ".reserve"):
            continue
        size = path.stat().st_size
        around = {at + more for at in boundaries(path) for more in (-1, 0, 1)}
        for offset in sorted(at for at in around if 0 <= at <= size):
            for damage in ("cut", "zeroed"):
                yield Case(relative.as_posix(), offset, damage)


def boundaries(path: Path) -> list[int]:
    """Where the records of a file end, by what kind of file it is; its beginning and end too."""
    size = path.stat().st_size
    at = [0, size]
    if path.name == "journal":
        with path.open("rb") as file:
            reading = Reading(file, size, None)
            at += [HEADER_BYTES, *(reading.good_bytes for _ in reading)]
    elif path.suffix == ".kv":
        index = read_index(path)
        at += accumulate((block.stored_bytes for block in index.blocks), initial=PREAMBLE.size)
        at.append(size - TRAILER.size)
    elif path.name == "sessions.db":
        at += range(0, size, _page_bytes(path))
    elif path.name == "sessions.db-wal":
        frame = _WAL_FRAME_HEADER_BYTES + _page_bytes(path.with_name("sessions.db"))
        at += range(_WAL_HEADER_BYTES, size, frame)
    else:
        content = path.read_bytes()
        at += [number + 1 for number, byte in enumerate(content) if byte == ord("\n")]
    return at


def _page_bytes(path: Path) -> int:
    (size,) = struct.unpack(">H", path.read_bytes()[16:18])
    return 65_536 if size == 1 else size


def attempt(whole: Whole, case: Case, folder: Path) -> str:
    """Damage a copy and open it; what came of it, in a word. Raises AssertionError for what must not be."""
    copy = folder / "torn"
    shutil.copytree(whole.root, copy, ignore=shutil.ignore_patterns(*_NOT_TORN))
    try:
        path = copy / case.file
        with path.open("rb+") as file:
            size = file.seek(0, 2)
            file.truncate(case.offset)
            if case.damage == "zeroed":
                file.truncate(size)
        torn = path.read_bytes()
        try:
            messages = _opened(copy)
        except SeamountError as error:
            assert case.file.startswith("sessions.db"), f"{case}: {error.text}"
            assert path.read_bytes() == torn, f"{case}: what was refused has been changed"
            return "refused"
        _compare(whole, case, messages)
        return _snapshots(whole, case, copy)
    finally:
        shutil.rmtree(copy)


def _opened(root: Path) -> Messages:
    """Open the folder as an engine does. Raises SeamountError."""
    folder = DataFolder(root)
    load_settings(folder.settings)
    store = SessionStore.open(folder.sessions_db)
    journals = Journals(folder.journals, lambda: 100)
    try:
        journals.recover(store)
        messages: Messages = {}
        for summary in store.list_sessions():
            for each in store.session(summary.id).messages:
                messages[each.id] = (each.parent_id, each.role, each.reasoning, each.text)
                assert each.status != "running", each
        assert journals.verify() == []
        return messages
    finally:
        journals.close()
        store.close()


def _compare(whole: Whole, case: Case, messages: Messages) -> None:
    if not case.file.startswith("sessions.db"):
        assert messages.keys() == whole.messages.keys(), f"{case}: messages are missing"
        for id_, shown in whole.shown.items():
            assert messages[id_][3].startswith(shown), f"{case}: what was shown is lost"
            assert whole.messages[id_][3].startswith(messages[id_][3]), f"{case}: other text"
        return
    for id_, (*place, text) in messages.items():
        (*wanted_place, wanted) = whole.messages[id_]
        assert place == wanted_place, f"{case}: a message has moved"
        assert wanted.startswith(text), f"{case}: other text"
    if whole.answer_id in messages:
        assert messages[whole.answer_id] == whole.messages[whole.answer_id], f"{case}: the journal has more"


def _snapshots(whole: Whole, case: Case, root: Path) -> str:
    """Whether every snapshot is whole ("whole") or one was set aside ("set aside")."""
    store = SnapshotStore(DataFolder(root).snapshots, lambda: 1 << 30)
    try:
        for digest in whole.digests:
            found = store.by_digest(digest)
            if found is None:
                continue
            try:
                state, _ = store.load(found.id)
            except SnapshotDamaged:
                assert store.by_digest(digest) is None, f"{case}: a damaged snapshot is still offered"
            else:
                assert state_digest(state) == digest, f"{case}: a snapshot gave other bytes"
        assert store.verify() == [], f"{case}: something damaged was left"
        left = sum(store.by_digest(digest) is not None for digest in whole.digests)
    finally:
        store.close()
    assert left == len(whole.digests) or case.file.endswith(".kv"), f"{case}: snapshots are gone"
    return "whole" if left == len(whole.digests) else "set aside"


def run(
    folder: Path, *, seed: int, most: int | None, told: Callable[[str], None] = lambda _: None
) -> Counter[str]:
    """Try `most` of the cases, drawn from the seed (None: all of them): how many came out how, by kind of file."""
    whole = build(folder / "data")
    all_cases = list(cases(whole))
    chance = random.Random(seed)
    if most is not None and most < len(all_cases):
        # Every kind of file has its share: a long one would else leave nothing to the others.
        by_kind: dict[str, list[Case]] = {}
        for case in chance.sample(all_cases, len(all_cases)):
            by_kind.setdefault(_kind(case), []).append(case)
        share = -(-most // len(by_kind))
        all_cases = [case for each in by_kind.values() for case in each[:share]]
    count: Counter[str] = Counter()
    told(f"{len(all_cases)} cases")
    for number, case in enumerate(all_cases):
        count[f"{_kind(case)}: {attempt(whole, case, folder)}"] += 1
        if number % 200 == 199:
            told(f"{number + 1} of {len(all_cases)}")
    return count


def _kind(case: Case) -> str:
    return Path(case.file).suffix or Path(case.file).name


def main() -> int:
    logging.disable()  # what is damaged is told there, each time
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, help="default: all")
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        count = run(
            Path(folder), seed=options.seed, most=options.cases, told=lambda text: print(text, flush=True)
        )
    print(f"{sum(count.values())} torn folders opened in {time.monotonic() - began_s:.0f} s:")
    for kind, number in sorted(count.items()):
        print(f"  {number:5} {kind}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
