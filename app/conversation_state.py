"""The open conversation.

Owns: its tree of messages as the window knows it, the branch that is shown, and the turn that runs in it:
asking, retrying, editing, continuing, giving results, stopping, choosing a version. Says what changed in terms
of shown messages. Does not know widgets, the list of conversations, or how the engine is kept alive.
"""

from collections.abc import Sequence

from PySide6.QtCore import QObject, QTimer, Signal

from app.api import EngineApi, Failed
from app.lost_answer import LostAnswer
from app.running_answer import RunningAnswer
from app.running_turns import BACK, LOST, RunningTurns, busy
from app.session_tools import SessionTools
from app.transcript_model import ShownMessage, costs_of, newest_leaf, shown_branch
from app.turn_stream import TurnProgress, TurnStream, progress_sentence
from engine.protocol import (
    Ask,
    ChangeSession,
    Continue,
    CreateSession,
    Edit,
    EngineStatus,
    ErrorBody,
    Message,
    ReasoningMode,
    Results,
    Retry,
    Session,
    SessionSummary,
    Thought,
    ToolResult,
    Turn,
    TurnRequest,
)

RELOAD_PAUSE_MS = 150
AnyTurn = Ask | Edit | Retry | Continue | Results


class ConversationState(QObject):
    """One conversation at a time; a new one has no session until something is asked."""

    branch_replaced = Signal(object)
    """list[ShownMessage]: show these instead of what is there."""
    message_added = Signal(object)
    """ShownMessage, beneath the last one."""
    message_changed = Signal(object)
    """ShownMessage that is already shown."""
    text_added = Signal(str, str)
    """Message id, more of its text."""
    reasoning_added = Signal(str, str, int)
    """Message id, more of its reasoning, tokens of the answer by then."""
    call_grew = Signal(str, int, str)
    """Message id, index of a call that is shown, more of its arguments."""
    progress_changed = Signal(str, str)
    """Message id, what is shown under it; "" for nothing."""
    turn_progress = Signal(object)
    """TurnProgress of the running turn, None when it has ended."""
    running_changed = Signal(bool)
    session_changed = Signal()
    """Another conversation is open, or the new one has got its session."""
    went_on = Signal()
    """The answer that the end of an engine cut off is being written again."""
    gone = Signal(str)
    """The session id: the open conversation was deleted, here or in another window."""
    refused = Signal(object)
    """ErrorBody: what was asked for did not happen."""
    ask_refused = Signal(str, object)
    """The question's text, which is not stored anywhere, and the ErrorBody."""

    def __init__(self, api: EngineApi, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._api = api
        self.tools = SessionTools(api, self)
        self.mode: ReasoningMode | None = None
        """The mode of the next answer; None where the model has none."""
        self.told_place: str | None = None  # `TurnRequest.told_place`, as of now
        self._summary: SessionSummary | None = None
        self._opening: str | None = None
        self._leaf_id: str | None = None
        self._messages: dict[str, Message] = {}
        self._shown: list[ShownMessage] = []
        self._stream: TurnStream | None = None
        self._answer: RunningAnswer | None = None
        self._beginning = self._stop_asked = self._was_running = False
        self._visit = 0  # counts what was shown: what was asked for in one that was left changes no other
        self._turns, self._lost = RunningTurns(), LostAnswer()
        self._reload_soon = QTimer(self, singleShot=True, interval=RELOAD_PAUSE_MS)
        self._reload_soon.timeout.connect(self.reload)

    # --- what is open -------------------------------------------------------------------------------

    @property
    def session_id(self) -> str | None:
        """The open conversation, or the one being opened; None for a new one."""
        return self._opening or (self._summary.id if self._summary else None)

    @property
    def is_opening(self) -> bool:
        """The session has been asked for and is not here yet."""
        return self._opening is not None

    @property
    def running(self) -> bool:
        """An answer is being written or asked for in the open conversation, or broke off and may go on by itself."""
        return self._is_busy or self.is_lost

    @property
    def is_lost(self) -> bool:
        """The answer broke off, and whether it goes on is not known yet."""
        return self._lost.id is not None

    @property
    def _is_busy(self) -> bool:
        return self._beginning or self._stream is not None

    @property
    def shown(self) -> list[ShownMessage]:
        """The branch on the screen, the running answer as it was when something but its text changed."""
        return self._shown

    def last(self, role: str) -> Message | None:
        """The last shown message of `role`."""
        shown = next((message for message in reversed(self._shown) if message.role == role), None)
        return self._message_now(shown.id) if shown is not None else None

    def branch(self) -> list[Message]:
        """The shown messages with their texts of this moment."""
        return [self._message_now(message.id) for message in self._shown]

    def costs(self) -> tuple[dict[str, float], bool]:
        """What all answers in it cost together, by currency; whether that is known of all of them."""
        return costs_of(self._messages.values())

    def new(self) -> None:
        """Begin a conversation that is stored with its first question."""
        self._leave()
        self._replace(None, None, [])
        self.tools.show(None, ())
        self.session_changed.emit()

    def open(self, session_id: str) -> None:
        """Show a stored conversation, and follow the answer that runs in it."""
        if session_id == self._opening:
            return
        self._leave()
        self._opening = session_id

        def ok(session: Session) -> None:
            if self._opening == session_id:
                self._opening = None
                self._replace(session.summary, session.leaf_id, session.messages)
                self.tools.show(session_id, session.tools)
                self.session_changed.emit()
                self._follow_running_leaf()

        def failed(error: ErrorBody) -> None:
            if self._opening == session_id:
                self._opening = None
                self.new()
                self.refused.emit(error)

        self._api.get(f"/api/sessions/{session_id}", Session, ok, failed)

    def reload(self) -> None:
        """Fetch the open conversation again; shows what changed."""
        if self._summary is None or self._opening or self._is_busy:
            return
        session_id = self._summary.id

        def ok(session: Session) -> None:
            if self._summary and self._summary.id == session_id and not self._opening and not self._is_busy:
                self._summary, self._leaf_id = session.summary, session.leaf_id
                self._messages = {message.id: message for message in session.messages}
                self._look_for_lost()
                self.tools.show(session_id, session.tools)
                self._show()
                self._follow_running_leaf()

        self._api.get(f"/api/sessions/{session_id}", Session, ok, lambda _: None)

    def session_event(self, session_id: str, change: str) -> None:
        """The engine says that a conversation changed, here or in another window."""
        if session_id != self.session_id:
            return
        if change in ("deleted", "purged"):
            self.new()
            self.gone.emit(session_id)
        elif change == "updated" and not self._is_busy:
            self._reload_soon.start()

    def engine_status(self, status: EngineStatus) -> None:
        """The engine says what it is doing; an answer that another window asked for may have begun here."""
        changed = self._turns.take(status)
        # An answer that is not running as far as is known here may have gone on by itself.
        gone_on = self._stream is None and self._leaf_id and self._turns.active_answer_id == self._leaf_id
        if self._lost.id is not None or (changed and (self._unwatched_leaf() or gone_on)):
            self._reload_soon.start()

    def engine_left(self, *, for_good: bool) -> None:
        """There is no engine now. Another one is being started, unless `for_good`."""
        self._turns.engine_left(for_good=for_good)
        self._break_off_lost()

    # --- turns --------------------------------------------------------------------------------------

    def ask(self, text: str) -> None:
        """Put a question under the shown branch; makes the session first where there is none."""
        if self.running:
            self.ask_refused.emit(text, busy())
            return
        self._set_beginning(True)
        unsent, visit, told = self.tools.unsent, self._visit, self.told_place
        failed = self._unless_left(lambda error: self.ask_refused.emit(text, error))

        def begin(summary: SessionSummary) -> None:
            if self._summary is None and visit == self._visit:
                self._summary = summary
                self.tools.adopt(summary.id)
                self.session_changed.emit()
            ask = Ask(session_id=summary.id, text=text)
            self.tools.send(summary.id, unsent, lambda: self._begin(ask, failed, told), failed)

        if self._summary is None:
            self._api.send("POST", "/api/sessions", CreateSession(), SessionSummary, begin, failed)
        else:
            begin(self._summary)

    def edit(self, message_id: str, text: str) -> None:
        """Ask differently: a question beside `message_id`."""
        if session_id := self._session_for_turn():
            failed = self._unless_left(lambda error: self.ask_refused.emit(text, error))
            self._begin(Edit(session_id=session_id, message_id=message_id, text=text), failed)

    def retry(self, message_id: str) -> None:
        """Another answer beside `message_id`."""
        if session_id := self._session_for_turn():
            self._begin(Retry(session_id=session_id, message_id=message_id))

    def continue_answer(self, message_id: str) -> None:
        """Go on with the unfinished answer `message_id`."""
        if session_id := self._session_for_turn():
            self._begin(Continue(session_id=session_id, message_id=message_id))

    def give_results(self, message_id: str, results: Sequence[tuple[str, str]]) -> None:
        """The results of all calls of the answer `message_id`, each as the call's id and text."""
        given = [ToolResult(tool_call_id=call_id, text=text) for call_id, text in results]
        if session_id := self._session_for_turn():
            self._begin(Results(session_id=session_id, message_id=message_id, results=given))

    def stop(self) -> None:
        """Ask the engine to end the running answer; its end comes over the stream."""
        if self._stream is not None:
            self._stop_asked = False
            self._api.command("DELETE", f"/api/turns/{self._stream.turn_id}", None, self.refused.emit)
        else:
            self._stop_asked = self.running

    def choose_version(self, message_id: str) -> None:
        """Show the newest branch through `message_id`, and remember it."""
        if self._summary is None or message_id not in self._messages:
            return
        self._leaf_id = self.newest_leaf(message_id)
        self._show()
        path, change = f"/api/sessions/{self._summary.id}", ChangeSession(leaf_id=self._leaf_id)
        self._api.send("PATCH", path, change, SessionSummary, lambda _: None, self.refused.emit)

    def newest_leaf(self, message_id: str) -> str:
        """Where the newest branch through `message_id` ends."""
        return newest_leaf(self._messages.values(), message_id)

    def _session_for_turn(self) -> str | None:
        """The session that a turn is begun in now; None where that cannot be."""
        if self.running:
            self.refused.emit(busy())
        if self.running or self._summary is None:
            return None
        self._lost.forget()
        self._set_beginning(True)
        return self._summary.id

    def _unless_left(self, failed: Failed) -> Failed:
        """`failed`, before which the beginning is over, unless it is by now another conversation's."""
        visit = self._visit

        def ended(error: ErrorBody) -> None:
            if visit == self._visit:
                self._set_beginning(False)
            failed(error)

        return ended

    def _begin(self, turn: AnyTurn, failed: Failed | None = None, told: str | None = None) -> None:
        def ok(begun: Turn) -> None:
            self._turns.begun(begun.answer.id, begun.id)
            if self._summary is None or self._summary.id != begun.session_id or self._opening:
                return  # another conversation was opened meanwhile; the turn goes on in its own
            for message in (begun.question, *begun.results, begun.answer):
                if message is not None:
                    self._messages[message.id] = message
            self._leaf_id = begun.answer.id
            self._show()
            self._follow(begun.id, begun.answer)
            # Only now: whoever looks while the messages are shown must find an answer running.
            self._beginning = False
            if self._stop_asked:
                self.stop()

        mode = None if isinstance(turn, Continue) else self.mode  # it goes on in the mode it was begun in
        asked = TurnRequest(turn=turn, mode=mode, told_place=self.told_place if told is None else told)
        self._api.send("POST", "/api/turns", asked, Turn, ok, failed or self._unless_left(self.refused.emit))

    # --- following ----------------------------------------------------------------------------------

    def _unwatched_leaf(self) -> Message | None:
        """The answer that the shown branch ends in, if it is being written and nobody here follows it."""
        leaf = self._messages.get(self._leaf_id or "")
        return leaf if leaf is not None and leaf.status == "running" and self._stream is None else None

    def _follow_running_leaf(self) -> None:
        leaf = self._unwatched_leaf()
        turn_id = self._turns.turn_of(leaf.id) if leaf is not None else None
        if leaf is not None and turn_id is not None:
            went_on = self._lost.goes_on(leaf.id)
            self._follow(turn_id, leaf)
            if went_on:
                self.went_on.emit()
            if self._stop_asked:
                self.stop()

    def _look_for_lost(self) -> None:
        """The store has told the conversation anew: is the answer that broke off written again, or not any more?"""
        lost_id = self._lost.id
        stored = self._messages.get(lost_id or "") if lost_id == self._leaf_id else None
        if stored is None or not self._lost.is_waited_for(stored, settled=self._turns.is_settled):
            self._give_up_lost()
        elif stored.status == "interrupted":
            # Shown as it was until it goes on, or has had the time to.
            self._messages[stored.id] = stored.model_copy(update={"status": "running", "finish_reason": None})
            self.progress_changed.emit(stored.id, BACK)
            if self._turns.is_settled:
                self._reload_soon.start()

    def _give_up_lost(self) -> Message | None:
        answer, self._stop_asked = self._lost.give_up(), False
        if answer is not None:
            self.progress_changed.emit(answer.id, "")
            self._tell_running()
        return answer

    def _break_off_lost(self) -> None:
        """Without an engine, and without one to come, it does not go on."""
        if self._turns.is_over and (answer := self._give_up_lost()) is not None:
            self._messages[answer.id] = answer
            self._show()

    def _follow(self, turn_id: str, answer: Message) -> None:
        self._answer = RunningAnswer(answer)
        stream = self._stream = TurnStream(self._api, turn_id, answer)
        stream.text_added.connect(self._take_text)
        stream.reasoning_added.connect(self._take_reasoning)
        stream.thought_ended.connect(self._take_thought)
        stream.call_grew.connect(self._take_call)
        stream.noticed.connect(self._take_notice)
        stream.progress_changed.connect(self._take_progress)
        stream.finished.connect(self._take_end)
        stream.broken.connect(self._take_break)
        self._take_progress(stream.progress)
        self._tell_running()

    def _take_text(self, text: str) -> None:
        if self._answer is not None:
            self._answer.add_text(text)
            if self._is_shown(self._answer.id):
                self.text_added.emit(self._answer.id, text)

    def _take_reasoning(self, text: str, tokens: int) -> None:
        if self._answer is not None:
            self._answer.add_reasoning(text)
            if self._is_shown(self._answer.id):
                self.reasoning_added.emit(self._answer.id, text, tokens)

    def _take_thought(self, thought: Thought) -> None:
        if self._answer is not None and self._answer.set_thought(thought):
            self._show()

    def _take_call(self, index: int, call_id: str, name: str, arguments: str) -> None:
        if self._answer is None:
            return
        if self._answer.add_call(index, call_id, name, arguments):
            self._show()
        elif self._is_shown(self._answer.id):
            self.call_grew.emit(self._answer.id, index, arguments)

    def _take_notice(self, sentence: str) -> None:
        if self._answer is not None and self._answer.add_notice(sentence):
            self._show()

    def _take_progress(self, progress: TurnProgress) -> None:
        if self._answer is not None and self._is_shown(self._answer.id):
            self.progress_changed.emit(self._answer.id, progress_sentence(progress))
        self.turn_progress.emit(progress)

    def _take_end(self, message: Message) -> None:
        answer_id = self._answer.id if self._answer else None
        self._end_stream()
        if answer_id:
            self._turns.ended(answer_id)
        if message.id != answer_id:
            # It was another conversation's turn after all; the store knows what is here.
            self.reload()
            return
        self._messages[message.id] = message
        self._show()

    def _take_break(self, _error: ErrorBody) -> None:
        """The engine is gone or does not answer; whoever watches it says so. What was read stays, as it is read."""
        answer = self._answer
        if answer is not None and answer.id in self._messages:
            self._messages[answer.id] = answer.now()
            self._lost.lose(answer)
        self._end_stream()
        if self._lost.id is not None:
            self._show()
            self.progress_changed.emit(self._lost.id, LOST)
        self._break_off_lost()
        self._reload_soon.start()

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        answer, self._answer = self._answer, None
        if answer is not None and self._is_shown(answer.id):
            self.progress_changed.emit(answer.id, "")
        self.turn_progress.emit(None)
        self._tell_running()

    def _leave(self) -> None:
        """Before another conversation is shown: the answer goes on, unwatched."""
        self._visit += 1
        self._opening = None
        self._beginning = self._stop_asked = False
        self._lost.forget()
        self._reload_soon.stop()
        if self._stream is not None:
            self._shown = []
            self._end_stream()
        self._tell_running()

    # --- what is shown ------------------------------------------------------------------------------

    def _replace(self, summary: SessionSummary | None, leaf_id: str | None, messages: list[Message]) -> None:
        self._summary, self._leaf_id = summary, leaf_id
        self._messages = {message.id: message for message in messages}
        self._shown = self.shown_now()
        self.branch_replaced.emit(self._shown)

    def _show(self) -> None:
        """Tell the differences between what is shown and what should be."""
        before, self._shown = self._shown, self.shown_now()
        if [m.id for m in self._shown[: len(before)]] != [m.id for m in before]:
            self.branch_replaced.emit(self._shown)
            return
        for old, new in zip(before, self._shown, strict=False):
            if old != new:
                self.message_changed.emit(new)
        for message in self._shown[len(before) :]:
            self.message_added.emit(message)

    def shown_now(self) -> list[ShownMessage]:
        """The branch with the running answer as it is at this moment."""
        if self._summary is None:
            return []
        messages = [self._message_now(message_id) for message_id in self._messages]
        # Built without validation: every part was validated when it came in.
        return shown_branch(
            Session.model_construct(summary=self._summary, leaf_id=self._leaf_id, messages=messages)
        )

    def _message_now(self, message_id: str) -> Message:
        if self._answer is not None and message_id == self._answer.id:
            return self._answer.now()
        return self._messages[message_id]

    def _is_shown(self, message_id: str) -> bool:
        return any(message.id == message_id for message in reversed(self._shown))

    def _set_beginning(self, value: bool) -> None:
        self._beginning = value
        self._stop_asked = False
        self._tell_running()

    def _tell_running(self) -> None:
        if self.running != self._was_running:
            self._was_running = self.running
            self.running_changed.emit(self.running)
