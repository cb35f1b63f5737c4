"""One conversation: asking, following, breaking off, coming back."""

from dataclasses import replace
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from app.api import EngineApi
from app.conversation_state import ConversationState
from app.running_turns import BACK, LOST
from app.transcript_model import ShownMessage
from engine.protocol import EngineStatus, ErrorBody, Tool


class Page:
    """A transcript made of what the conversation says."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.api = EngineApi()
        self.api.connect_to(engine.url, engine.key)
        self.state = ConversationState(self.api)
        self.messages: dict[str, ShownMessage] = {}
        self.texts: dict[str, str] = {}
        self.replaced = 0
        self.thoughts: dict[str, str] = {}
        self.progress: dict[str, str] = {}
        self.refused: list[Any] = []
        self.given_back: list[tuple[str, ErrorBody]] = []
        self.gone: list[str] = []
        state = self.state
        state.branch_replaced.connect(self.replace)
        state.message_added.connect(self.put)
        state.message_changed.connect(self.put)
        state.text_added.connect(self.add_text)
        state.reasoning_added.connect(self.add_reasoning)
        state.call_grew.connect(self.grow_call)
        state.progress_changed.connect(self.progress.__setitem__)
        state.refused.connect(self.refused.append)
        state.ask_refused.connect(lambda text, error: self.given_back.append((text, error)))
        state.gone.connect(self.gone.append)

    def replace(self, messages: list[ShownMessage]) -> None:
        self.replaced += 1
        self.messages, self.texts, self.thoughts = {}, {}, {}
        for message in messages:
            self.put(message)

    def put(self, message: ShownMessage) -> None:
        self.messages[message.id] = message
        self.texts[message.id] = message.text
        self.thoughts[message.id] = message.reasoning

    def add_text(self, message_id: str, text: str) -> None:
        self.texts[message_id] += text

    def add_reasoning(self, message_id: str, text: str, tokens: int) -> None:
        self.thoughts[message_id] += text

    def grow_call(self, message_id: str, index: int, arguments: str) -> None:
        message = self.messages[message_id]
        calls = list(message.calls)
        calls[index] = replace(calls[index], arguments=calls[index].arguments + arguments)
        self.messages[message_id] = replace(message, calls=tuple(calls))

    def said(self) -> list[str]:
        return list(self.texts.values())


@pytest.fixture
def page(qtbot: QtBot, fake_engine: Any) -> Any:
    made = Page(fake_engine)
    yield made
    made.api.close()


def ask(page: Page, qtbot: QtBot, text: str) -> Any:
    before = len(page.engine.turns)
    page.state.ask(text)
    qtbot.waitUntil(lambda: len(page.engine.turns) > before and len(page.engine.turns[-1].listeners) > 0)
    return page.engine.turns[-1]


def test_the_first_question_makes_the_session(page: Page, qtbot: QtBot) -> None:
    turn = ask(page, qtbot, "What is a seamount?")
    assert page.said() == ["What is a seamount?", ""]
    assert page.state.session_id == turn.session_id
    assert page.state.running
    turn.text("A mountain ")
    turn.text("under the sea.")
    qtbot.waitUntil(lambda: page.said()[1] == "A mountain under the sea.")
    turn.end()
    qtbot.waitUntil(lambda: not page.state.running)
    assert page.said() == ["What is a seamount?", "A mountain under the sea."]
    assert page.messages[turn.answer_id].status == "complete"
    assert page.replaced == 0


def test_the_second_question_goes_under_the_first_answer(page: Page, qtbot: QtBot) -> None:
    first = ask(page, qtbot, "one")
    first.text("1")
    first.end()
    qtbot.waitUntil(lambda: not page.state.running)
    ask(page, qtbot, "two")
    assert page.said() == ["one", "1", "two", ""]
    assert len(page.engine.asked("POST", "/api/sessions")) == 1


def test_a_refused_question_comes_back_whole(page: Page, qtbot: QtBot) -> None:
    error = {"code": "disk_full", "text": "The disk is full: free some."}
    page.engine.refusals["POST", "/api/turns"] = (507, {"error": error})
    page.state.ask("do not lose me")
    qtbot.waitUntil(lambda: bool(page.given_back))
    assert page.given_back == [("do not lose me", ErrorBody(**error))]
    assert not page.state.running


def test_a_question_to_a_dead_engine_comes_back(page: Page, qtbot: QtBot) -> None:
    page.engine.die()
    page.state.ask("hello")
    qtbot.waitUntil(lambda: bool(page.given_back))
    assert page.given_back[0][0] == "hello"


def test_stop_cancels_the_turn(page: Page, qtbot: QtBot) -> None:
    turn = ask(page, qtbot, "long one")
    turn.text("word ")
    page.state.stop()
    qtbot.waitUntil(lambda: not page.state.running)
    assert turn.cancelled
    assert page.said()[1] == "word "


def test_stop_before_the_turn_is_known_stops_it_when_it_is(page: Page, qtbot: QtBot) -> None:
    page.state.ask("oops")
    page.state.stop()
    qtbot.waitUntil(lambda: bool(page.engine.turns) and page.engine.turns[0].cancelled)
    qtbot.waitUntil(lambda: not page.state.running)


def lose(page: Page, qtbot: QtBot) -> Any:
    """An answer whose engine is killed in the middle; its turn."""
    turn = ask(page, qtbot, "tell me")
    turn.text("half an ans")
    qtbot.waitUntil(lambda: page.said()[1] == "half an ans")
    page.engine.die()
    qtbot.waitUntil(lambda: page.progress.get(turn.answer_id) == LOST)
    page.state.engine_left(for_good=False)
    return turn


def revive(page: Page, **status: Any) -> None:
    """The engine is started again, as the window is told."""
    page.engine.revive()
    page.engine.status.update(status)
    page.api.connect_to(page.engine.url, page.engine.key)
    page.state.reload()
    page.state.engine_status(EngineStatus(**page.engine.status))


def test_an_answer_whose_engine_was_killed_stands_as_it_was(page: Page, qtbot: QtBot) -> None:
    turn = lose(page, qtbot)
    assert page.said()[1] == "half an ans"
    assert page.messages[turn.answer_id].status == "running"
    assert page.state.running
    page.state.engine_left(for_good=True)
    assert not page.state.running
    assert page.progress[turn.answer_id] == ""
    assert page.messages[turn.answer_id].status == "interrupted"
    assert page.messages[turn.answer_id].is_cut


@pytest.mark.slow
def test_an_answer_that_goes_on_by_itself_is_followed_in_its_place(page: Page, qtbot: QtBot) -> None:
    turn = lose(page, qtbot)
    page.engine.messages[turn.answer_id]["text"] = "half an answ"  # one token more was stored than shown
    replaced, went_on = page.replaced, []
    page.state.went_on.connect(lambda: went_on.append(True))
    revive(page, loading_model_id="m1")
    qtbot.waitUntil(lambda: page.progress[turn.answer_id] == BACK)
    assert page.messages[turn.answer_id].status == "running"
    again = page.engine.resume(turn.answer_id)
    page.engine.status.update(loading_model_id=None)
    page.state.engine_status(EngineStatus(**page.engine.status))
    qtbot.waitUntil(lambda: bool(again.listeners))
    again.text("er")
    again.end()
    qtbot.waitUntil(lambda: not page.state.running)
    assert page.said() == ["tell me", "half an answer"]
    assert page.replaced == replaced
    assert went_on == [True]


@pytest.mark.slow
def test_an_answer_that_does_not_go_on_can_be_continued(page: Page, qtbot: QtBot) -> None:
    turn = lose(page, qtbot)
    revive(page)
    qtbot.waitUntil(lambda: not page.state.running)
    assert page.messages[turn.answer_id].is_continuable


@pytest.mark.slow
def test_an_answer_that_goes_on_later_than_expected_is_followed(page: Page, qtbot: QtBot) -> None:
    turn = lose(page, qtbot)
    revive(page)
    qtbot.waitUntil(lambda: not page.state.running)
    again = page.engine.resume(turn.answer_id)
    page.state.engine_status(EngineStatus(**page.engine.status))
    qtbot.waitUntil(lambda: bool(again.listeners))
    assert page.state.running
    assert page.messages[turn.answer_id].status == "running"


def test_stop_while_the_engine_is_away_stops_the_answer_that_goes_on(page: Page, qtbot: QtBot) -> None:
    turn = lose(page, qtbot)
    page.state.stop()
    again = page.engine.resume(turn.answer_id)
    revive(page)
    qtbot.waitUntil(lambda: again.cancelled)


def test_a_turn_of_an_engine_that_is_gone_is_not_followed(page: Page, qtbot: QtBot) -> None:
    turn = lose(page, qtbot)
    page.state.new()
    revive(page)
    again = page.engine.resume(turn.answer_id)
    page.state.engine_status(EngineStatus(**page.engine.status))
    page.state.open(turn.session_id)
    qtbot.waitUntil(lambda: bool(again.listeners))
    asked = [path for _, path, _ in page.engine.requests if path.endswith("/events") and "turns" in path]
    assert asked[-1] == f"/api/turns/{again.id}/events"


@pytest.mark.slow
def test_after_a_restart_the_answer_is_continued_from_the_store(page: Page, qtbot: QtBot) -> None:
    turn = ask(page, qtbot, "tell me")
    turn.text("half an ans")
    qtbot.waitUntil(lambda: page.said()[1] == "half an ans")
    page.engine.die()
    qtbot.waitUntil(lambda: bool(page.progress.get(turn.answer_id)))
    page.engine.messages[turn.answer_id]["text"] = "half an answ"  # one token more was stored than shown
    revive(page)
    qtbot.waitUntil(lambda: page.said()[1] == "half an answ" and not page.state.running)
    page.state.continue_answer(turn.answer_id)
    qtbot.waitUntil(lambda: bool(page.engine.turns) and bool(page.engine.turns[-1].listeners))
    page.engine.turns[-1].text("er")
    page.engine.turns[-1].end()
    qtbot.waitUntil(lambda: not page.state.running)
    assert page.said() == ["tell me", "half an answer"]


def test_retry_and_edit_show_another_version(page: Page, qtbot: QtBot) -> None:
    session_id = page.engine.add_session("t")
    question, answer = page.engine.add_exchange(session_id, "q", "a")
    page.state.open(session_id)
    qtbot.waitUntil(lambda: page.said() == ["q", "a"])
    page.state.retry(answer)
    qtbot.waitUntil(lambda: page.said() == ["q", ""])
    second = page.engine.turns[-1]
    assert page.messages[second.answer_id].version_count == 2
    second.text("b")
    second.end()
    qtbot.waitUntil(lambda: not page.state.running)
    page.state.choose_version(answer)
    qtbot.waitUntil(lambda: page.said() == ["q", "a"])
    qtbot.waitUntil(lambda: page.engine.leaves[session_id] == answer)
    page.state.edit(question, "Q")
    qtbot.waitUntil(lambda: page.said() == ["Q", ""])


def test_choosing_an_old_question_shows_its_newest_branch(page: Page, qtbot: QtBot) -> None:
    session_id = page.engine.add_session("t")
    question, _ = page.engine.add_exchange(session_id, "q", "a")
    page.engine.add_exchange(session_id, "q2", "a2")
    other = page.engine.add_message(session_id, "user", "Q", None)
    page.engine.add_message(session_id, "assistant", "A", other)
    page.state.open(session_id)
    qtbot.waitUntil(lambda: page.said() == ["Q", "A"])
    page.state.choose_version(question)
    assert page.said() == ["q", "a", "q2", "a2"]


def test_opening_a_conversation_that_is_being_answered_follows_it(page: Page, qtbot: QtBot) -> None:
    engine = page.engine
    session_id = engine.add_session("t")
    engine.begin({"turn": {"kind": "ask", "session_id": session_id, "text": "q"}})
    turn = engine.turns[-1]
    turn.text("from the other ")
    page.state.engine_status(EngineStatus(**engine.status))
    page.state.open(session_id)
    qtbot.waitUntil(lambda: bool(turn.listeners))
    turn.text("window")
    qtbot.waitUntil(lambda: page.said() == ["q", "from the other window"])
    turn.end()
    qtbot.waitUntil(lambda: not page.state.running)


def test_a_waiting_answer_of_another_window_is_not_filled_with_the_running_ones_text(
    page: Page, qtbot: QtBot
) -> None:
    engine = page.engine
    waiting = engine.add_session("waits")
    engine.add_exchange(waiting, "q", "", status="running")
    elsewhere = engine.add_session("runs")
    engine.begin({"turn": {"kind": "ask", "session_id": elsewhere, "text": "other"}})
    engine.turns[-1].text("not yours")
    page.state.engine_status(EngineStatus(**{**engine.status, "queue_length": 1}))
    page.state.open(waiting)
    qtbot.waitUntil(lambda: page.said() == ["q", ""])
    qtbot.wait(60)
    assert page.said() == ["q", ""]
    assert not page.state.running


def test_leaving_and_returning_goes_on_streaming(page: Page, qtbot: QtBot) -> None:
    other = page.engine.add_session("other")
    turn = ask(page, qtbot, "q")
    turn.text("a")
    page.state.open(other)
    qtbot.waitUntil(lambda: page.state.session_id == other and not page.state.is_opening)
    assert page.said() == []
    turn.text("b")
    page.state.open(turn.session_id)
    qtbot.waitUntil(lambda: page.said() == ["q", "ab"])
    turn.text("c")
    qtbot.waitUntil(lambda: page.said() == ["q", "abc"])


def test_another_windows_question_appears(page: Page, qtbot: QtBot) -> None:
    session_id = page.engine.add_session("t")
    page.state.open(session_id)
    qtbot.waitUntil(lambda: not page.state.is_opening)
    page.engine.add_exchange(session_id, "from there", "answered")
    page.state.session_event(session_id, "updated")
    qtbot.waitUntil(lambda: page.said() == ["from there", "answered"])


def test_a_conversation_deleted_elsewhere_closes(page: Page, qtbot: QtBot) -> None:
    session_id = page.engine.add_session("t")
    page.state.open(session_id)
    qtbot.waitUntil(lambda: not page.state.is_opening)
    page.state.session_event(session_id, "deleted")
    assert page.gone == [session_id]
    assert page.state.session_id is None


def test_a_conversation_that_is_not_there_is_said_and_a_new_one_begun(page: Page, qtbot: QtBot) -> None:
    page.state.open("nowhere")
    qtbot.waitUntil(lambda: bool(page.refused))
    assert page.refused[0].text == "It is not here."
    assert page.state.session_id is None


def test_a_failed_answer_says_why(page: Page, qtbot: QtBot) -> None:
    turn = ask(page, qtbot, "q")
    turn.text("so far")
    turn.fail("The disk is full: free some.")
    qtbot.waitUntil(lambda: not page.state.running)
    answer = page.messages[turn.answer_id]
    assert (answer.text, answer.status) == ("so far", "failed")
    assert answer.error_text == "The disk is full: free some."


def test_progress_is_told_and_taken_away(page: Page, qtbot: QtBot) -> None:
    from engine.protocol import Prefill

    turn = ask(page, qtbot, "q")
    turn.send(Prefill(done=512, total=2048, reused=0))
    qtbot.waitUntil(lambda: page.progress.get(turn.answer_id) == "Reading 512 of 2,048 tokens")
    turn.end()
    qtbot.waitUntil(lambda: page.progress[turn.answer_id] == "")


def test_two_questions_at_once_are_not_asked(page: Page, qtbot: QtBot) -> None:
    ask(page, qtbot, "one")
    page.state.ask("two")
    assert page.given_back[0][0] == "two"
    assert len(page.engine.turns) == 1


def test_a_question_in_a_new_conversation_is_not_put_into_the_one_just_left(page: Page, qtbot: QtBot) -> None:
    """Both sessions are being made at once: each question belongs to its own."""
    page.state.ask("One")
    page.state.new()
    page.state.ask("Two")
    qtbot.waitUntil(lambda: len(page.engine.turns) == 2 and bool(page.said()))
    assert page.said() == ["Two", ""]
    shown = page.engine.session(page.state.session_id)
    assert [message["text"] for message in shown["messages"]] == ["Two", ""]
    assert len({turn.session_id for turn in page.engine.turns}) == 2
    turn = next(turn for turn in page.engine.turns if turn.session_id == page.state.session_id)
    turn.text("Hello")
    turn.end()
    qtbot.waitUntil(lambda: page.said() == ["Two", "Hello"] and not page.state.running)


def test_a_refusal_that_comes_late_ends_no_other_beginning(page: Page, qtbot: QtBot) -> None:
    session_id = page.engine.add_session("Old")
    question, _ = page.engine.add_exchange(session_id, "One", "Answer")
    page.state.open(session_id)
    qtbot.waitUntil(lambda: page.said() == ["One", "Answer"])
    page.engine.refusals["POST", "/api/turns"] = (500, {"error": {"code": "internal", "text": "It broke."}})
    running: dict[str, bool] = {}
    page.state.ask_refused.connect(lambda text, _error: running.setdefault(text, page.state.running))
    page.state.edit(question, "One, otherwise")
    page.state.new()
    page.state.ask("Two")
    qtbot.waitUntil(lambda: len(running) == 2)
    # While the first was refused the second was still on its way, so nothing else could be asked.
    assert running == {"One, otherwise": True, "Two": False}


def test_an_answer_thinks_writes_and_calls(page: Page, qtbot: QtBot) -> None:
    turn = ask(page, qtbot, "q")
    turn.think("Let me ")
    turn.think("see.")
    qtbot.waitUntil(lambda: page.thoughts[turn.answer_id] == "Let me see.")
    turn.thought(12, 1.5)
    turn.text("I look.")
    turn.call("look", '{"where": "everywhere, and then some more"}')
    turn.notice("It thought long enough.", "budget")

    def answer() -> ShownMessage:
        return page.messages[turn.answer_id]

    qtbot.waitUntil(lambda: answer().notices == ("It thought long enough.",))
    assert answer().thought is not None
    assert [(c.name, c.arguments, c.status) for c in answer().calls] == [
        ("look", '{"where": "everywhere, and then some more"}', "writing")
    ]
    assert page.said()[1] == "I look."
    assert page.replaced == 0
    turn.end("complete", "tool_calls")
    qtbot.waitUntil(lambda: answer().awaits_results)
    assert answer().calls[0].status == "exact"


def test_results_are_sent_whole_and_the_answer_to_them_is_below(page: Page, qtbot: QtBot) -> None:
    page.state.mode = "high"
    turn = ask(page, qtbot, "q")
    first, second = turn.call("one", "{}"), turn.call("two", "{}", status="rejected", problem="Not so.")
    turn.end("complete", "tool_calls")
    qtbot.waitUntil(lambda: not page.state.running)
    page.state.give_results(turn.answer_id, [(first, "1"), (second, "Not so.")])
    qtbot.waitUntil(lambda: len(page.engine.turns) == 2 and bool(page.engine.turns[-1].listeners))
    assert page.engine.asked("POST", "/api/turns")[-1] == {
        "turn": {
            "kind": "results", "session_id": turn.session_id, "message_id": turn.answer_id,
            "results": [{"tool_call_id": first, "text": "1"}, {"tool_call_id": second, "text": "Not so."}],
        },
        "sampling": None, "max_tokens": None, "mode": "high", "thinking_tokens": None, "told_place": None,
    }  # fmt: skip
    answer = page.engine.turns[-1]
    answer.text("Both are known.")
    answer.end()
    qtbot.waitUntil(lambda: not page.state.running)
    assert page.said() == ["q", "", "Both are known."]
    assert [call.result for call in page.messages[turn.answer_id].calls] == ["1", "Not so."]
    page.state.retry(answer.answer_id)
    qtbot.waitUntil(lambda: len(page.engine.turns) == 3)
    qtbot.waitUntil(lambda: list(page.messages.values())[-1].version_count == 2)
    assert len(page.said()) == 3


def test_leaving_while_it_thinks_and_coming_back(page: Page, qtbot: QtBot) -> None:
    other = page.engine.add_session("other")
    turn = ask(page, qtbot, "q")
    turn.think("One ")
    page.state.open(other)
    qtbot.waitUntil(lambda: page.state.session_id == other and not page.state.is_opening)
    turn.think("two ")
    page.state.open(turn.session_id)
    qtbot.waitUntil(lambda: page.thoughts.get(turn.answer_id) == "One two ")
    turn.think("three")
    qtbot.waitUntil(lambda: page.thoughts[turn.answer_id] == "One two three")
    turn.thought()
    turn.call("look", "{}")
    page.state.open(other)
    qtbot.waitUntil(lambda: page.state.session_id == other and not page.state.is_opening)
    page.state.open(turn.session_id)
    qtbot.waitUntil(lambda: [c.arguments for m in page.messages.values() for c in m.calls] == ["{}"])
    assert page.thoughts[turn.answer_id] == "One two three"


def test_a_call_cut_by_a_dying_engine_is_unfinished(page: Page, qtbot: QtBot) -> None:
    turn = ask(page, qtbot, "q")
    turn.call("look", '{"where')
    qtbot.waitUntil(lambda: bool(page.messages[turn.answer_id].calls))
    page.engine.die()
    qtbot.waitUntil(lambda: page.progress.get(turn.answer_id) == LOST)
    page.state.engine_left(for_good=True)
    answer = page.messages[turn.answer_id]
    assert (answer.calls, answer.unfinished_call) == ((), 'look {"where')
    assert answer.is_cut


def test_tools_of_a_new_conversation_are_stored_before_its_first_turn(page: Page, qtbot: QtBot) -> None:
    tool = Tool(function={"name": "look"})
    page.state.tools.save([tool], lambda: None, page.refused.append)
    ask(page, qtbot, "q")
    paths = [(method, path.split("/")[2]) for method, path, _ in page.engine.requests if method != "GET"]
    assert paths[:3] == [("POST", "sessions"), ("PATCH", "sessions"), ("POST", "turns")]
    assert page.engine.tools[page.state.session_id] == [tool.model_dump()]
    page.state.new()
    assert page.state.tools.tools == ()


def test_a_question_is_given_back_when_its_tools_are_refused(page: Page, qtbot: QtBot) -> None:
    tool = Tool(function={"name": "look"})
    page.state.tools.save([tool], lambda: None, page.refused.append)
    error = {"code": "bad_tools", "text": "The tools are not in order."}
    page.engine.refuse_patches = (422, {"error": error})
    page.state.ask("q")
    qtbot.waitUntil(lambda: page.given_back == [("q", ErrorBody(**error))])
    assert page.engine.turns == []
    page.engine.refuse_patches = None
    ask(page, qtbot, "q")
    assert page.engine.tools[page.state.session_id] == [tool.model_dump()]


def test_every_turn_says_where_the_person_was_told_that_it_goes(page: Page, qtbot: QtBot) -> None:
    page.state.told_place = "node7"
    page.state.ask("q")
    page.state.told_place = ""  # after it was sent, and before its session was made
    qtbot.waitUntil(lambda: bool(page.engine.turns) and bool(page.engine.turns[-1].listeners))
    assert page.engine.asked("POST", "/api/turns")[-1]["told_place"] == "node7"
    page.engine.turns[-1].end()
    qtbot.waitUntil(lambda: not page.state.running)
    answer = page.state.last("assistant")
    assert answer is not None
    page.state.retry(answer.id)
    qtbot.waitUntil(lambda: len(page.engine.asked("POST", "/api/turns")) == 2)
    assert page.engine.asked("POST", "/api/turns")[-1]["told_place"] == ""
