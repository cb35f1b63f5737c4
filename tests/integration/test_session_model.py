"""Random sequences of what a person does and of what befalls an engine, against a model of what must then be there.

The model is a plain tree of messages for each conversation. The real engine process follows a script, so that what an
answer must say is known; it is killed while it answers, while it does nothing, or ended in order, and started again.
After every step the whole of what is stored is compared with the model: every message, in its place, word for word,
the shown branch, and whether the conversation is in the list.

`SEAMOUNT_MODEL_EXAMPLES` is how many sequences are tried. A failing one is told as it is, since a shorter one that
fails too would have to be found by starting hundreds of engines.
"""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from engine.paths import DataFolder
from tests.integration.live_engine import write_script
from tests.integration.v4_script import V4_MODEL
from tests.support.mortal_engine import Cut, Died, Json, MortalEngine

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("SEAMOUNT_MODEL_EXAMPLES", "3"))
WORDS = ("weather", "whales", "winds", "nothing")
THOUGHTS = {word: f"They ask about {word}. " * 3 for word in WORDS}
TEXTS = {
    "weather": "Rain, then snow, then rain again. " * 12,
    "whales": "né 你好 👩‍👩‍👧 whales \u200f! " * 6,
    "winds": "South.",
    "nothing": "",
}
SCRIPT: Json = {
    "name": "Scripted V4",
    "context_tokens": 65_536,
    "release": "0731",
    "title": "Of Weather And Whales",
    "replies": [
        {"match": word, "mode": mode, "text": thought + TEXTS[word], "delay_s": 0.001}
        for word in WORDS
        for mode, thought in (("think", THOUGHTS[word] + "</think>"), ("non-think", ""))
    ],
}


@dataclass(frozen=True)
class Step:
    """`cut`: of a turn: the engine is killed at the so many-th piece of it that is told; 0: it is not."""

    kind: str
    word: str
    session: int
    place: int
    cut: int
    mode: str


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(
            ["ask"] * 4 + ["retry", "edit", "switch"] * 2 + ["new", "delete", "restore", "kill", "restart"]
        ),
        word=st.sampled_from(WORDS),
        session=st.integers(0, 7),
        place=st.integers(0, 7),
        cut=st.sampled_from([0, 0, 1, 2, 5, 30, 120]),
        mode=st.sampled_from(["high", "non-think"]),
    ),
    min_size=8,
    max_size=14,
)


@dataclass
class Node:
    """A message that must be there."""

    parent: int | None
    role: str
    text: str
    reasoning: str = ""


@dataclass
class Talk:
    """A conversation that must be there."""

    id: str
    nodes: list[Node] = field(default_factory=list[Node])
    leaf: int | None = None
    deleted: bool = False

    def branch(self) -> list[int]:
        """The nodes of the shown branch, from the first."""
        numbers: list[int] = []
        at = self.leaf
        while at is not None:
            numbers.append(at)
            at = self.nodes[at].parent
        return numbers[::-1]

    def turn(self, question: str | None, parent: int | None, step: Step) -> None:
        """A question, where there is one, and the answer that the script gives to it."""
        if question is not None:
            self.nodes.append(Node(parent, "user", question))
            parent = len(self.nodes) - 1
        assert parent is not None
        word = self.nodes[parent].text.split()[-1]
        thought = THOUGHTS[word] if step.mode == "high" else ""
        self.nodes.append(Node(parent, "assistant", TEXTS[word], thought))
        self.leaf = len(self.nodes) - 1


class World:
    """The engine and the model of it, side by side."""

    def __init__(self, root: Path, resume: str) -> None:
        write_script(DataFolder(root), SCRIPT, "v4")
        DataFolder(root).settings.write_text(f'format = 1\ncontext_tokens = 65536\nresume = "{resume}"\n')
        self.engine = MortalEngine(root, V4_MODEL)
        self.by_itself = resume == "continue"
        self.talks: list[Talk] = []
        self.engine.start()

    def do(self, step: Step) -> None:
        """One step, in both."""
        engine = self.engine
        if step.kind == "kill":
            engine.kill("idle")
            self._revive()
        elif step.kind == "restart":
            engine.stop()
            self._revive()
        elif step.kind == "new" or not self.talks:
            self.talks.append(Talk(engine.ask("POST", "/api/sessions", {})["id"]))
        else:
            self._in(self.talks[step.session % len(self.talks)], step)

    def _revive(self) -> None:
        """A start purges what was deleted before it."""
        for talk in self.talks:
            if talk.deleted:
                self.engine.forget(talk.id)
        self.talks = [talk for talk in self.talks if not talk.deleted]
        self.engine.revive()

    def _in(self, talk: Talk, step: Step) -> None:
        path = f"/api/sessions/{talk.id}"
        if step.kind == "delete":
            self.engine.ask("DELETE", path)
            talk.deleted = True
        elif step.kind == "restore" or talk.deleted:
            self.engine.ask("POST", f"{path}/restore")
            talk.deleted = False
        elif step.kind == "switch":
            if talk.nodes:
                talk.leaf = step.place % len(talk.nodes)
                ids = [message["id"] for message in self.engine.ask("GET", path)["messages"]]
                self.engine.ask("PATCH", path, {"leaf_id": ids[talk.leaf]})
        else:
            self._turn(talk, step)

    def _turn(self, talk: Talk, step: Step) -> None:
        branch, ids = (
            talk.branch(),
            [m["id"] for m in self.engine.ask("GET", f"/api/sessions/{talk.id}")["messages"]],
        )
        question, parent = f"{step.place}: tell me of {step.word}", talk.leaf
        turn: Json = {"kind": "ask", "session_id": talk.id, "text": question}
        wanted = {"retry": "assistant", "edit": "user"}.get(step.kind)
        if there := [number for number in branch if talk.nodes[number].role == wanted]:
            chosen = there[step.place % len(there)]
            parent = talk.nodes[chosen].parent
            turn |= {"kind": step.kind, "message_id": ids[chosen]}
            if step.kind == "retry":
                question = None
                del turn["text"]
        talk.turn(question, parent, step)
        self._carry_out(talk, turn, step)

    def _carry_out(self, talk: Talk, turn: Json, step: Step) -> None:
        engine, answer_id = self.engine, ""
        try:
            begun = engine.begin({"turn": turn, "mode": step.mode})
            answer_id = begun["answer"]["id"]
            engine.follow(begun["id"], talk.id, answer_id, Cut("text", step.cut) if step.cut else None)
        except Died:
            self._revive()
            message = engine.stored(talk.id, answer_id)
            if message["status"] != "complete":
                engine.go_on(talk.id, answer_id, by_itself=self.by_itself)
            else:
                engine.note(talk.id, message)

    def compare(self) -> None:
        """All of what is stored is what must be there, and nothing else."""
        listed = {each["id"]: each for each in self.engine.ask("GET", "/api/sessions")["sessions"]}
        assert listed.keys() == {talk.id for talk in self.talks if not talk.deleted}
        for talk in self.talks:
            session = self.engine.ask("GET", f"/api/sessions/{talk.id}")
            numbers = {message["id"]: number for number, message in enumerate(session["messages"])}
            stored = [
                Node(numbers.get(m["parent_id"]), m["role"], m["text"], m["reasoning"])
                for m in session["messages"]
            ]
            assert stored == talk.nodes
            assert {m["status"] for m in session["messages"]} <= {"complete"}
            assert numbers.get(session["leaf_id"]) == talk.leaf
            assert session["summary"]["title"] in _titles(talk)


def _titles(talk: Talk) -> set[str]:
    """None, the first question's, or the model's: a kill may come before the model has been asked."""
    if not talk.nodes:
        return {""}
    return {talk.nodes[0].text, SCRIPT["title"]}


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example),
    derandomize="SEAMOUNT_MODEL_EXAMPLES" not in os.environ,
)
@given(steps=STEPS, resume=st.sampled_from(["offer", "continue"]))
@pytest.mark.timeout(60 * EXAMPLES)
def test_what_must_be_there_is_there(steps: list[Step], resume: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), resume)
        try:
            world.compare()
            for step in steps:
                world.do(step)
                world.compare()
        finally:
            world.engine.stop()


def test_the_model_tells_when_something_is_missing(tmp_path: Path) -> None:
    """The comparison itself: one message more than there is, and it is seen."""
    world = World(tmp_path, "offer")
    try:
        world.do(Step("new", "winds", 0, 0, 0, "high"))
        world.do(Step("ask", "winds", 0, 0, 0, "high"))
        world.compare()
        talk = world.talks[0]
        changes: list[Any] = [lambda: talk.nodes.append(talk.nodes[-1]), lambda: setattr(talk, "leaf", 0)]
        for change in changes:
            kept = list(talk.nodes), talk.leaf
            change()
            with pytest.raises(AssertionError):
                world.compare()
            talk.nodes, talk.leaf = kept
    finally:
        world.engine.stop()
