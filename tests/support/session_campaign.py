"""Conversations that are killed at random moments, over and over, beside the same ones that nobody disturbs.

    python -m tests.support.session_campaign --kills 300 --seed 1 [--model v4|starter] [--backend llamacpp|native]

A conversation is held over HTTP with the real engine process and a real model: a seeded V4 that was converted, or the
starter, computed by llama.cpp or (the V4) by the native engine. In episodes of some turns (questions, edits, retries,
switches of branch and mode, new conversations, deleted and restored ones) the engine dies by SIGKILL: at a time drawn
from the seed, at a drawn event of a reading or an answer, or at a fault point between two writes that belong together.
It is started again, and what was cut off goes on by itself or when it is asked for, as the data folder's settings say.

The same turns are held on a copy of the data folder, made before the episode, by an engine that nobody kills. After
each death everything that was shown must be stored; after each episode every file must be in order; and an answer that
was continued and is said to be identical must be so, token for token. Those that are not said to be must be few.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from convert.conversion import convert
from engine.paths import DataFolder
from engine.store.database import Database
from engine.store.inspection import Inspection
from engine.store.journals import Journals
from engine.store.sessions import SessionStore
from engine.store.snapshots import SnapshotStore
from tests.convert.conversions import checkpoint, job
from tests.support.mortal_engine import Cut, Died, Json, MortalEngine, placed_points

LEAST_IDENTICAL = 0.95
"""Of the answers that were continued, so many at least must be said to be identical; not counted are those that the
engine was killed over until it took another way (`Told.in_vain`)."""
ANOTHER_BASE = "different, from another base"
"""Said of an answer of which nothing had been shown when the engine died, or that was asked for after that. Where the
answer before had left its context in memory alone (it was stopped, or reached its length), the kill took that, and the
answer begins behind fewer tokens, from a state on the disk: its last bits are another base's."""
FOLDER_EPISODES = 8
"""Then a new data folder is begun, with other settings."""
V4_FILE = "DeepSeek-V4-Flash-0731.gguf"
CONTEXT_TOKENS = {"v4": 16_384, "starter": 2048}
LONG_CHARACTERS = {"v4": 17_500, "starter": 3000}
"""Of V4's some 8,800 tokens: more than what is read between two kept states."""
FULL_CHARACTERS = {"v4": 22_000, "starter": 4500}
"""A prompt of more is put into a new conversation instead, so that none gets too long."""
WORDS = (
    "sea",
    "ship",
    "wind",
    "deep",
    "light",
    "dark",
    "land",
    "stone",
    "cold",
    "north",
    "whale",
    "the",
    "of",
    "and",
)
Kind = Literal["ask", "retry", "edit", "switch", "new", "delete"]
KINDS: tuple[tuple[Kind, int], ...] = (
    ("ask", 5), ("retry", 3), ("edit", 3), ("switch", 2), ("new", 1), ("delete", 1)
)  # fmt: skip
"""And how often each is drawn."""


@dataclass(frozen=True)
class Act:
    """What is done, whatever the ids are: places are shares of what there is to choose from."""

    kind: Kind
    session: float
    place: float
    text: str
    how: Json


@dataclass
class Count:
    """What a campaign has seen."""

    kills: Counter[str] = field(default_factory=Counter[str])
    episodes: int = 0
    turns: int = 0
    tokens: int = 0
    cut_turns: int = 0
    continued: Counter[str] = field(default_factory=Counter[str])
    """Answers that were cut off and went on, by what is said of them. Those that had no token yet, or all of them, say
    nothing."""
    not_alike: Counter[str] = field(default_factory=Counter[str])
    """Answers that were not those of the undisturbed engine, by what was said of them."""
    compared: int = 0
    apart: int = 0
    """Answers not compared: they came after one that a kill had parted from its kept state, or that was not alike."""
    wrong: list[str] = field(default_factory=list[str])
    left_to_a_person: int = 0
    """Answers that no engine went on with by itself any more, because three were killed over them in a row."""


@dataclass
class Told:
    """How an act came out. `parted`: a kill came after the answer's end, before its state was surely kept."""

    message: Json | None = None
    cuts: int = 0
    deaths: int = 0
    """The engine's, up to here."""
    in_vain: bool = False
    """Two lives in a row that went on with it were killed before they got any further. The engine then takes another
    way, which is not the same token for token, lest it be the way that kills it."""
    parted: bool = False


class Course:
    """One engine's way through the acts."""

    def __init__(
        self, engine: MortalEngine, sessions: Sequence[str], which: str, chance: random.Random
    ) -> None:
        self.engine, self.sessions, self._which, self._chance = engine, list(sessions), which, chance
        self.by_itself = "continue" in (engine.root / "settings.toml").read_text("utf-8")
        self.deaths = 0
        self.faults = False
        """Whether new lives get a fault point to die at."""

    def fault(self) -> str:
        """What the next life is started with."""
        points = placed_points()
        if not self.faults or not points or self._chance.random() < 0.4:
            return ""
        return f"{self._chance.choice(points)}:{1 + int(self._chance.expovariate(0.3))}"

    def do(self, act: Act, cuts: list[Cut]) -> Told:
        """Carry it out, through as many deaths as come."""
        if not self.sessions or act.kind == "new":
            self._new_session()
        session_id = _at(self.sessions, act.session)
        session = self._again(lambda: self.engine.ask("GET", f"/api/sessions/{session_id}"))
        if act.kind == "delete":
            self._again(lambda: self.engine.ask("DELETE", f"/api/sessions/{session_id}"))
            self._again(lambda: self.engine.ask("POST", f"/api/sessions/{session_id}/restore"))
            return Told()
        if act.kind == "switch":
            parents = {message["parent_id"] for message in session["messages"]}
            leaves = [m["id"] for m in session["messages"] if m["id"] not in parents]
            if leaves:
                change = {"leaf_id": _at(leaves, act.place)}
                self._again(lambda: self.engine.ask("PATCH", f"/api/sessions/{session_id}", change))
            return Told()
        branch = _shown(session)
        turn, before = _turn(act, session_id, branch)
        characters = sum(len(m["text"]) + len(m["reasoning"]) for m in before) + len(turn.get("text", ""))
        if characters > FULL_CHARACTERS[self._which]:
            turn = {"kind": "ask", "session_id": self._new_session(), "text": act.text}
        return self._turn(turn["session_id"], turn, act, cuts)

    def _turn(self, session_id: str, turn: Json, act: Act, cuts: list[Cut]) -> Told:
        engine, told, answer_id = self.engine, Told(), ""
        length, vain = -1, 0
        while True:
            cut = cuts.pop() if cuts else None
            try:
                with engine.cutting(cut):
                    if told.message is None and not answer_id:
                        begun = engine.begin({"turn": turn, **act.how})
                        answer_id = begun["answer"]["id"]
                        told.message = engine.follow(begun["id"], session_id, answer_id, cut)
                    elif told.message is None:
                        told.message = engine.go_on(session_id, answer_id, by_itself=self.by_itself, cut=cut)
                return told
            except Died:
                told.cuts += 1
                self._revive()
                if not answer_id:
                    answer_id = self._left_behind(session_id, turn)
                if answer_id:
                    stored = self._again(lambda at=answer_id: engine.stored(session_id, at))
                    before, length = length, len(stored["text"]) + len(stored["reasoning"])
                    vain = vain + 1 if length == before else 0
                    told.in_vain |= vain >= 2
                    if stored["status"] == "complete":
                        engine.note(session_id, stored)
                        told.message, told.parted = stored, True

    def _left_behind(self, session_id: str, turn: Json) -> str:
        """The answer that a request recorded before its reply was lost; "" where it recorded nothing."""
        left = self._again(lambda: self.engine.unknown(session_id))
        if not left:
            return ""
        wanted = ["user", "assistant"] if turn["kind"] in ("ask", "edit") else ["assistant"]
        assert [message["role"] for message in left] == wanted, f"half a turn was recorded: {left}"
        if wanted[0] == "user":
            assert left[0]["text"] == turn["text"], left
        for message in left:
            self.engine.note(session_id, message)
        return left[-1]["id"]

    def _new_session(self) -> str:
        while True:
            try:
                session_id = self.engine.ask("POST", "/api/sessions", {})["id"]
                break
            except Died:
                self._revive()
                listed = self._again(lambda: self.engine.ask("GET", "/api/sessions"))["sessions"]
                if new := [each["id"] for each in listed if each["id"] not in self.sessions]:
                    (session_id,) = new
                    break
        self.sessions.append(session_id)
        return session_id

    def _again(self, act: Any) -> Any:
        while True:
            try:
                return act()
            except Died:
                self._revive()

    def _revive(self) -> None:
        self.deaths += 1
        while True:
            try:
                self.engine.revive(self.fault())
                return
            except Died:
                continue


def _at(those: Sequence[Any], share: float) -> Any:
    return those[int(share * len(those))]


def _shown(session: Json) -> list[Json]:
    by_id = {message["id"]: message for message in session["messages"]}
    branch: list[Json] = []
    at = session["leaf_id"]
    while at is not None:
        branch.append(by_id[at])
        at = by_id[at]["parent_id"]
    return branch[::-1]


def _turn(act: Act, session_id: str, branch: list[Json]) -> tuple[Json, list[Json]]:
    """The turn that an act is, and the messages that stand before it; a question where there is nothing to change."""
    wanted = {"retry": "assistant", "edit": "user"}.get(act.kind)
    there = [message for message in branch if message["role"] == wanted]
    turn = {"kind": "ask", "session_id": session_id, "text": act.text}
    if not there:
        return turn, branch
    chosen = _at(there, act.place)
    turn |= {"kind": act.kind, "message_id": chosen["id"]}
    if act.kind == "retry":
        del turn["text"]
    return turn, branch[: branch.index(chosen)]


def drawn_acts(chance: random.Random, which: str, count: int) -> list[Act]:
    """What is done in an episode."""
    acts: list[Act] = []
    kinds: list[Kind] = [kind for kind, _ in KINDS]
    weights = [weight for _, weight in KINDS]
    for _ in range(count):
        long = chance.random() < 0.03
        characters = LONG_CHARACTERS[which] if long else 30 + int(chance.expovariate(1 / 150))
        words = " ".join(chance.choice(WORDS) for _ in range(characters // 5))
        how: Json = {
            "sampling": {
                "temperature": chance.choice((0.0, 1.0)),
                "top_p": 1.0,
                "min_p": 0.0,
                "seed": chance.randrange(2**32),
            },
            "mode": chance.choice(("high", "high", "non-think")) if which == "v4" else None,
        }
        kind = chance.choices(kinds, weights)[0]
        acts.append(Act(kind, chance.random(), chance.random(), words, how))
    return acts


def _cuts(chance: random.Random, told: Told, seconds: float) -> list[Cut]:
    """When to kill during an act that took the undisturbed engine so long; the last stands first."""
    if told.message is None:
        return []
    cuts: list[Cut] = []
    while chance.random() < (0.9 if not cuts else 0.6):
        kind = chance.choice(("timer", "timer", "text", "prefill"))
        if kind == "timer":
            cuts.append(Cut("timer", chance.uniform(0, seconds * 1.2)))
        elif kind == "text":
            cuts.append(Cut("text", 1 + chance.randrange(told.message["usage"]["generated_tokens"] or 1)))
        else:
            cuts.append(Cut("prefill", 1 + int(chance.expovariate(0.3))))
    return cuts


def run(
    folder: Path,
    *,
    kills: int,
    seed: int,
    which: str = "v4",
    backend: str = "llamacpp",
    log: bool = False,
) -> Count:
    """Kill that many times. What is lost raises AssertionError; what is not alike stands in `Count.wrong`."""
    chance, count = random.Random(seed), Count()
    made = _model(folder) if which == "v4" else None
    engine = MortalEngine(folder, "")
    course: Course | None = None
    began_s = time.monotonic()
    while sum(count.kills.values()) < kills:
        if count.episodes % FOLDER_EPISODES == 0:
            engine = _begun(folder / f"data-{count.episodes}", which, made, chance, backend)
            engine.kills = count.kills
            course = Course(engine, (), which, chance)
        assert course is not None
        _episode(course, which, chance, count, f"seed {seed}, episode {count.episodes}")
        count.episodes += 1
        count.left_to_a_person += engine.left_to_a_person
        engine.left_to_a_person = 0
        if log:
            print(f"{time.monotonic() - began_s:.0f} s: {count.episodes} episodes, {count.turns} turns, "
                  f"{sum(count.kills.values())} kills, {dict(count.continued)}, {count.compared} compared, "
                  f"{dict(count.not_alike)} not alike", flush=True)  # fmt: skip
        if count.episodes % FOLDER_EPISODES == 0 and not count.wrong:
            shutil.rmtree(engine.root)
    return count


def _model(folder: Path) -> Path:
    source = checkpoint(folder / "source", "0731", layers=4, seed=8)
    (made,) = convert(job(source, folder / V4_FILE, draft="skip"))
    return made


def _begun(root: Path, which: str, made: Path | None, chance: random.Random, backend: str) -> MortalEngine:
    data = DataFolder(root)
    data.create()
    if made is not None:
        (data.models / V4_FILE).hardlink_to(made)
    data.settings.write_text(
        f"format = 1\ncontext_tokens = {CONTEXT_TOKENS[which]}\n"
        f"answer_tokens = {chance.choice((60, 120, 320) if which == 'v4' else (40, 80))}\nthinking_tokens = 25\n"
        f'resume = "{chance.choice(("offer", "continue"))}"\n'
        f"journal_sync_ms = {chance.choice((0, 100))}\nthreads = 1\n"
        f'backend = "{backend}"\n'
    )
    return MortalEngine(root, f"folder:{V4_FILE}" if made is not None else "starter")


def _episode(course: Course, which: str, chance: random.Random, count: Count, where: str) -> None:
    acts = drawn_acts(chance, which, 6)
    engine = course.engine
    twin_root = engine.root.with_name(f"{engine.root.name}-twin-{count.episodes}")
    shutil.copytree(engine.root, twin_root)
    twin = MortalEngine(twin_root, engine.model)
    twin.start()
    calm = Course(twin, course.sessions, which, chance)
    undisturbed: list[tuple[Told, float]] = []
    for act in acts:
        began_s = time.monotonic()
        undisturbed.append((calm.do(act, []), time.monotonic() - began_s))
    twin.stop()
    course.faults, deaths = True, course.deaths
    engine.start(course.fault())
    disturbed: list[Told] = []
    for act, (told, seconds) in zip(acts, undisturbed, strict=True):
        disturbed.append(course.do(act, _cuts(chance, told, seconds)))
        disturbed[-1].deaths = course.deaths
    engine.stop()
    verify(engine.root)
    ids, wanted = _token_ids(engine.root, disturbed), _token_ids(twin_root, [told for told, _ in undisturbed])
    parted = False
    for told, (calm_told, _), mine, theirs in zip(disturbed, undisturbed, ids, wanted, strict=True):
        if told.message is None or calm_told.message is None:
            continue
        count.turns += 1
        count.tokens += len(mine)
        count.cut_turns += told.cuts > 0
        said = told.message["continued"] or ("nothing to go on from" if told.cuts else "not cut")
        if said == "different" and told.in_vain:
            said = "different, tried in vain"
        reused = [each["usage"]["reused_tokens"] for each in (told.message, calm_told.message)]
        if not told.message["continued"] and told.deaths > deaths and reused[0] != reused[1]:
            said = ANOTHER_BASE
        deaths = told.deaths
        if told.message["continued"]:
            count.continued[said] += 1
        if parted:
            count.apart += 1
        else:
            count.compared += 1
            if mine != theirs or _end(told.message) != _end(calm_told.message):
                count.not_alike[said] += 1
                parted = True
                if not said.startswith("different"):
                    alike = next(
                        (i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), -1
                    )
                    count.wrong.append(
                        f"{where}: an answer ({said}, {told.cuts} kills, {told.message['id']}) of {len(mine)} tokens "
                        f"is not the undisturbed one ({calm_told.message['id']}) of {len(theirs)}; alike to {alike}"
                    )
        parted |= told.parted or said.startswith("different")
    if not count.wrong:
        shutil.rmtree(twin_root)


def _end(message: Json) -> tuple[Any, ...]:
    return tuple(message[key] for key in ("text", "reasoning", "finish_reason", "status"))


def _token_ids(root: Path, course: Sequence[Told]) -> list[list[int]]:
    with closing(SessionStore.open(DataFolder(root).sessions_db)) as store:
        return [store.token_ids(told.message["id"]) if told.message else [] for told in course]


def verify(root: Path) -> None:
    """Every file of an engine that does not run is in order, and no kill has left a damaged one. AssertionError."""
    folder = DataFolder(root)
    with closing(Database.open(folder.sessions_db)) as database:
        problems = Inspection(database).problems()
    with closing(Journals(folder.journals, lambda: 0)) as journals:
        problems += journals.verify()
    with closing(SnapshotStore(folder.snapshots, lambda: 1 << 40)) as snapshots:
        problems += snapshots.verify()
        assert snapshots.usage().damaged == 0, f"{root}: a snapshot was set aside"
    assert problems == [], f"{root}: {problems}"


def report(count: Count, seconds: float) -> str:
    """The whole of it in some lines."""
    kinds = ", ".join(f"{number} x {kind}" for kind, number in sorted(count.kills.items()))
    return (
        f"{sum(count.kills.values())} kills in {count.turns} turns ({count.cut_turns} of them cut; {count.tokens:,} "
        f"tokens) of {count.episodes} episodes, {seconds:.0f} s: nothing shown was lost\n"
        f"kills: {kinds}\n"
        f"continued: {dict(count.continued)}; not like the undisturbed ones, of {count.compared} compared: "
        f"{dict(count.not_alike)}; {count.apart} not compared; {count.left_to_a_person} left to a person\n"
        + "\n".join(count.wrong)
    )


def holds(count: Count) -> bool:
    """Nothing is wrong, and identical continuation is the rule."""
    continued = sum(number for said, number in count.continued.items() if said != "different, tried in vain")
    return not count.wrong and count.continued["identical"] >= LEAST_IDENTICAL * continued


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    parser.add_argument("--model", choices=("v4", "starter"), default="v4")
    parser.add_argument("--backend", choices=("llamacpp", "native"), default="llamacpp")
    parser.add_argument(
        "--folder", type=Path, help="where to work; what is wrong is left there to be looked at"
    )
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        count = run(
            folder,
            kills=options.kills,
            seed=options.seed,
            which=options.model,
            backend=options.backend,
            log=True,
        )
    print(
        f"seed {options.seed}, {options.model}, {options.backend}: "
        + report(count, time.monotonic() - began_s)
    )
    return 0 if holds(count) else 1


if __name__ == "__main__":
    sys.exit(main())
