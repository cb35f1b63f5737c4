"""Random histories of conversations against a plain model of what must be there."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.conversation import clean_text
from engine.errors import BadRequest, Conflict, NotFound
from engine.protocol import Sampling, ToolCall, ToolResult
from engine.store.search import fold
from engine.store.sessions import SessionStore
from engine.store.titles import tidy_title, title_of_question
from engine.store.tree import new_id

TEXTS = st.text(max_size=12) | st.sampled_from(["Ärger", "海\0", "%_", "\ud800", "e\u0301"])
SAMPLING = Sampling(seed=3)


@dataclass
class Node:
    parent: str | None
    role: str
    text: str
    status: str
    ids: list[int] = field(default_factory=list)
    finish: str | None = None
    reasoning: str = ""
    call_text: str = ""
    calls: list[str] = field(default_factory=list)
    call_id: str | None = None


@dataclass
class Talk:
    title: str
    deleted: bool = False
    leaf: str | None = None
    nodes: dict[str, Node] = field(default_factory=dict)


class Conversations(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="seamount-store-"))
        self.talks: dict[str, Talk] = {}
        self.order: list[str] = []
        self.gone: list[str] = []

    @initialize()
    def open_new(self) -> None:
        self.store = SessionStore.open(self.folder / "sessions.db")

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def used(self, session_id: str) -> None:
        self.order.remove(session_id)
        self.order.insert(0, session_id)

    def pick(self, data: st.DataObject) -> tuple[str, Talk]:
        session_id = data.draw(st.sampled_from(list(self.talks)))
        return session_id, self.talks[session_id]

    def running(self) -> list[tuple[str, str]]:
        return [
            (session_id, message_id)
            for session_id, talk in self.talks.items()
            for message_id, node in talk.nodes.items()
            if node.status == "running"
        ]

    @rule(title=TEXTS)
    def create(self, title: str) -> None:
        session_id = self.store.create_session(title).id
        self.talks[session_id] = Talk(tidy_title(title))
        self.order.insert(0, session_id)

    @precondition(lambda self: self.talks)
    @rule(data=st.data(), question=TEXTS)
    def ask_or_edit(self, data: st.DataObject, question: str) -> None:
        session_id, talk = self.pick(data)
        parent = data.draw(st.sampled_from([None, *talk.nodes]))
        self.begin(session_id, talk, parent, question)

    @precondition(lambda self: any(talk.nodes for talk in self.talks.values()))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from([each for each, talk in self.talks.items() if talk.nodes]))
        talk = self.talks[session_id]
        questions = [each for each, node in talk.nodes.items() if node.role in ("user", "tool")]
        self.begin(session_id, talk, data.draw(st.sampled_from(questions)), None)

    def begin(self, session_id: str, talk: Talk, parent: str | None, question: str | None) -> None:
        def turn():
            return self.store.begin_turn(
                session_id, parent_id=parent, question=question, model_id="m", sampling=SAMPLING
            )

        if talk.deleted or (parent and talk.nodes[parent].status == "running"):
            with pytest.raises(Conflict):
                turn()
            return
        asked, answer = turn()
        if question is not None:
            assert asked is not None
            text = clean_text(question)[0]
            talk.nodes[asked.id] = Node(parent, "user", text, "complete")
            talk.title = talk.title or title_of_question(text)
            parent = asked.id
        talk.nodes[answer.id] = Node(parent, "assistant", "", "running")
        talk.leaf = answer.id
        self.used(session_id)

    @precondition(lambda self: self.running())
    @rule(
        data=st.data(),
        text=TEXTS,
        ids=st.lists(st.integers(0, 2**32 - 1), max_size=3),
        part=st.sampled_from(["text", "text", "reasoning", "call"]),
    )
    def append(self, data: st.DataObject, text: str, ids: list[int], part: Any) -> None:
        session_id, message_id = data.draw(st.sampled_from(self.running()))
        self.store.append(message_id, text, ids, part)
        node = self.talks[session_id].nodes[message_id]
        column = {"text": "text", "reasoning": "reasoning", "call": "call_text"}[part]
        setattr(node, column, getattr(node, column) + clean_text(text)[0])
        node.ids += ids

    @precondition(lambda self: self.running())
    @rule(
        data=st.data(),
        end=st.sampled_from(
            [
                ("complete", "stop"),
                ("complete", "length"),
                ("interrupted", "interrupted"),
                ("complete", "cancelled"),
                ("failed", "error"),
                ("complete", "tool_calls"),
            ]
        ),
        count=st.integers(1, 3),
    )
    def end(self, data: st.DataObject, end: tuple[str, str], count: int) -> None:
        session_id, message_id = data.draw(st.sampled_from(self.running()))
        node = self.talks[session_id].nodes[message_id]
        if end[1] == "tool_calls":
            node.calls, node.call_text = [new_id() for _ in range(count)], ""
        calls = [ToolCall(id=call_id, name="f", arguments="{}") for call_id in node.calls]
        self.store.end_turn(message_id, status=end[0], finish_reason=end[1], tool_calls=calls)
        node.status, node.finish = end
        self.used(session_id)

    @precondition(lambda self: any(talk.nodes for talk in self.talks.values()))
    @rule(data=st.data(), texts=st.lists(TEXTS, min_size=3, max_size=3), whole=st.booleans())
    def give_results(self, data: st.DataObject, texts: list[str], whole: bool) -> None:
        session_id = data.draw(st.sampled_from([each for each, talk in self.talks.items() if talk.nodes]))
        talk = self.talks[session_id]
        able = [each for each, node in talk.nodes.items() if node.calls]
        message_id = data.draw(st.sampled_from(able or list(talk.nodes)))
        node = talk.nodes[message_id]
        results = [
            ToolResult.model_construct(tool_call_id=call_id, text=text)
            for call_id, text in zip(node.calls, texts, strict=False)
        ]
        given = data.draw(st.permutations(results)) if whole else results[1:]

        def turn():
            return self.store.begin_results(session_id, message_id, given, model_id="m", sampling=SAMPLING)

        if talk.deleted or node.status == "running" or not node.calls or not whole:
            with pytest.raises((BadRequest, Conflict)):
                turn()
            return
        messages, answer = turn()
        parent = message_id
        for message, call_id, text in zip(messages, node.calls, texts, strict=False):
            talk.nodes[message.id] = Node(parent, "tool", clean_text(text)[0], "complete", call_id=call_id)
            parent = message.id
        talk.nodes[answer.id] = Node(parent, "assistant", "", "running")
        talk.leaf = answer.id
        self.used(session_id)

    @precondition(lambda self: any(talk.nodes for talk in self.talks.values()))
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from([each for each, talk in self.talks.items() if talk.nodes]))
        talk = self.talks[session_id]
        answers = [message_id for message_id, node in talk.nodes.items() if node.role == "assistant"]
        message_id = data.draw(st.sampled_from(answers))
        node = talk.nodes[message_id]
        if (
            talk.deleted
            or node.status == "running"
            or node.finish in ("stop", "tool_calls")
            or any(other.parent == message_id for other in talk.nodes.values())
        ):
            with pytest.raises(Conflict):
                self.store.reopen_answer(session_id, message_id)
            return
        message, ids, sampling = self.store.reopen_answer(session_id, message_id)
        assert (message.text, ids, sampling) == (node.text, node.ids, SAMPLING)
        node.status, node.finish, node.call_text = "running", None, ""
        talk.leaf = message_id
        self.used(session_id)

    @precondition(lambda self: self.talks)
    @rule(data=st.data(), title=TEXTS)
    def change(self, data: st.DataObject, title: str) -> None:
        session_id, talk = self.pick(data)
        leaf = data.draw(st.sampled_from([None, *talk.nodes]))
        if talk.deleted:
            with pytest.raises(Conflict):
                self.store.change_session(session_id, title=title, leaf_id=leaf)
            return
        self.store.change_session(session_id, title=title, leaf_id=leaf)
        talk.title = tidy_title(title)
        talk.leaf = leaf or talk.leaf

    @precondition(lambda self: self.talks)
    @rule(data=st.data(), deleted=st.booleans())
    def delete_or_restore(self, data: st.DataObject, deleted: bool) -> None:
        session_id, talk = self.pick(data)
        (self.store.delete_session if deleted else self.store.restore_session)(session_id)
        talk.deleted = deleted

    @precondition(lambda self: self.talks)
    @rule(data=st.data())
    def purge(self, data: st.DataObject) -> None:
        session_id, talk = self.pick(data)
        if any(node.status == "running" for node in talk.nodes.values()):
            with pytest.raises(Conflict):
                self.store.purge_session(session_id)
            return
        self.store.purge_session(session_id)
        self.forgotten(session_id)

    def forgotten(self, session_id: str) -> None:
        talk = self.talks.pop(session_id)
        self.gone += [call_id for node in talk.nodes.values() for call_id in node.calls]
        self.order.remove(session_id)
        with pytest.raises(NotFound):
            self.store.session(session_id)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = SessionStore.open(self.folder / "sessions.db")
        for talk in self.talks.values():
            for node in talk.nodes.values():
                if node.status == "running":
                    node.status, node.finish = "interrupted", "interrupted"
        for session_id in [each for each, talk in self.talks.items() if talk.deleted]:
            self.forgotten(session_id)

    @invariant()
    def the_list_is_right(self) -> None:
        shown = [session_id for session_id in self.order if not self.talks[session_id].deleted]
        listed = self.store.list_sessions()
        assert [each.id for each in listed] == shown
        assert [each.title for each in listed] == [self.talks[each].title for each in shown]
        assert [each.message_count for each in listed] == [len(self.talks[each].nodes) for each in shown]

    @invariant()
    def the_trees_are_right(self) -> None:
        for session_id, talk in self.talks.items():
            stored = self.store.session(session_id)
            assert stored.leaf_id == talk.leaf
            assert (stored.summary.deleted_at is not None) == talk.deleted
            assert [
                (each.id, each.parent_id, each.role, each.text, each.status, each.finish_reason)
                for each in stored.messages
            ] == [
                (message_id, node.parent, node.role, node.text, node.status, node.finish)
                for message_id, node in talk.nodes.items()
            ]
            assert [
                (
                    each.reasoning,
                    each.unfinished_call,
                    [call.id for call in each.tool_calls],
                    each.tool_call_id,
                )
                for each in stored.messages
            ] == [(node.reasoning, node.call_text, node.calls, node.call_id) for node in talk.nodes.values()]

    @invariant()
    def the_calls_are_known(self) -> None:
        known = {
            call_id: (node.reasoning, node.ids)
            for talk in self.talks.values()
            for node in talk.nodes.values()
            for call_id in node.calls
        }
        assert self.store.recall([*known, *self.gone]) == known

    @precondition(lambda self: any(talk.nodes for talk in self.talks.values()))
    @rule(data=st.data())
    def look_closely(self, data: st.DataObject) -> None:
        session_id = data.draw(st.sampled_from([each for each, talk in self.talks.items() if talk.nodes]))
        talk = self.talks[session_id]
        message_id = data.draw(st.sampled_from(list(talk.nodes)))
        way: list[str] = []
        step: str | None = message_id
        while step is not None:
            way.insert(0, step)
            step = talk.nodes[step].parent
        branch = self.store.branch(session_id, message_id)
        assert [message.id for message in branch] == way
        assert branch[-1] == self.store.message(session_id, message_id)
        assert self.store.token_ids(message_id) == talk.nodes[message_id].ids

    @rule(query=TEXTS)
    def search(self, query: str) -> None:
        needle = fold(clean_text(query)[0].strip())
        expected = {
            session_id
            for session_id, talk in self.talks.items()
            if not talk.deleted
            and (
                needle in fold(talk.title)
                or any(needle in fold(node.text) for node in talk.nodes.values() if node.status != "running")
            )
        }
        # An answer that runs again may still be found by the text it had before.
        again = {session_id for session_id, _ in self.running()}
        found = {each.id for each in self.store.list_sessions(query)}
        assert expected <= found <= expected | again


TestConversations = Conversations.TestCase
TestConversations.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def test_ids_made_later_sort_later_and_never_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [new_id() for _ in range(1000)]
    assert len(set(many)) == 1000
    monkeypatch.setattr("engine.store.tree.time.time", lambda: 4_000_000_000.0)
    assert new_id() > max(many)
