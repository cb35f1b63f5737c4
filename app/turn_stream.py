"""One running turn, followed over its event stream.

Owns: reading a turn's events, telling repeats from news by their offset, gathering text, reasoning and
arguments so that they are painted at most every 33 ms, and the rates and remaining time that follow from the
events. Does not know the session the answer belongs to, nor how anything is shown.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import TypeAdapter
from PySide6.QtCore import QObject, QTimer, Signal

from app.api import EngineApi, EventStream, unreachable
from app.event_stream import ServerEvent
from engine.protocol import (
    CallEvent,
    Counters,
    Done,
    ErrorBody,
    Failed,
    Message,
    Notice,
    Prefill,
    Queued,
    Text,
    ThoughtEvent,
    TurnEvent,
    UsageEvent,
)

PAINT_MS = 33
RESUMES = 3
RATE_WINDOW_S = 2.0
SAMPLE_S = 0.5
SAMPLES = 40

Event = Queued | Prefill | Text | ThoughtEvent | CallEvent | Notice | Counters | UsageEvent | Done | Failed
_EVENT: TypeAdapter[Event] = TypeAdapter(TurnEvent)


@dataclass(frozen=True)
class TurnProgress:
    """How far a turn has come. Rates are tokens per second, None until they can be told."""

    phase: Literal["queued", "prefill", "thinking", "writing"] = "queued"
    place: int = 0
    """Turns that stand before this one."""
    done: int = 0
    total: int = 0
    reused: int = 0
    rate: float | None = None
    left_s: float | None = None
    generated_tokens: int = 0
    rates: tuple[float, ...] = ()
    """Writing speed of late, oldest first, one value per SAMPLE_S."""
    counters: Counters | None = None
    """What experts cost of late; None where nobody counts, and before that is known."""

    @property
    def context_used(self) -> int | None:
        """Tokens in the context now, None before the prompt's size is known."""
        return self.done + self.generated_tokens if self.total else None


def progress_sentence(progress: TurnProgress) -> str:
    """What is shown under an answer that has no text yet, "" once it thinks or writes."""
    if progress.phase == "queued":
        return f"Waiting ({progress.place} before you)" if progress.place else "Waiting for the model"
    if progress.phase == "prefill":
        return f"Reading {progress.done:,} of {progress.total:,} tokens"
    return ""


@dataclass
class _Growth:
    """Text that grows: how much of it is known, and what has not been handed on."""

    known: int = 0
    fresh: list[str] = field(default_factory=lambda: list[str]())

    def take(self, offset: int, text: str) -> bool:
        """Keep what is new of `text`, which begins at `offset`. False when nothing is."""
        new = text[max(0, self.known - offset) :]
        # A gap cannot come from this engine's log; if it does, the stored answer at the end repairs it.
        if offset > self.known or not new:
            return False
        self.known += len(new)
        self.fresh.append(new)
        return True

    def hand_on(self) -> str:
        """What has been gathered, once."""
        text = "".join(self.fresh)
        self.fresh.clear()
        return text


@dataclass
class _CallGrowth(_Growth):
    id: str = ""
    name: str = ""
    told: bool = False


class TurnStream(QObject):
    """Follows turn `turn_id`, which writes `answer`; what of it is stored already is not told again."""

    text_added = Signal(str)
    reasoning_added = Signal(str, int)
    """More reasoning, and how many tokens the answer has by then."""
    thought_ended = Signal(object)
    """protocol.Thought. After all reasoning, before any text."""
    call_grew = Signal(int, str, str, str)
    """Index, id and name of a call, more of its arguments ("" when it has only begun)."""
    noticed = Signal(str)
    """A sentence about what was done to the answer."""
    progress_changed = Signal(object)
    """TurnProgress, at most every PAINT_MS."""
    finished = Signal(object)
    """The answer as it is stored (protocol.Message)."""
    broken = Signal(object)
    """ErrorBody: the stream ended before the turn did."""

    def __init__(
        self, api: EngineApi, turn_id: str, answer: Message, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # No parent: its one owner lets go of it from inside its own signals.
        super().__init__()
        self.turn_id = turn_id
        self._text = _Growth(len(answer.text))
        self._reasoning = _Growth(len(answer.reasoning))
        # Of calls the stream's word counts alone: it tells them from their beginning.
        self._calls: dict[int, _CallGrowth] = {}
        self._clock = clock
        self._progress = TurnProgress()
        self._progress_is_news = False
        self._prefill_from: tuple[float, int] | None = None
        self._recent: deque[tuple[float, int]] = deque()
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._sampled_at = 0.0
        self._paint = QTimer(self)
        self._paint.setSingleShot(True)
        self._paint.setInterval(PAINT_MS)
        self._paint.timeout.connect(self.flush)
        self._over = False
        self._stream: EventStream = api.stream(
            f"/api/turns/{turn_id}/events", self._take, self._ended, resumes=RESUMES
        )

    @property
    def progress(self) -> TurnProgress:
        """How far the turn has come."""
        return self._progress

    def close(self) -> None:
        """Let go: the turn goes on without being watched."""
        self._over = True
        self._paint.stop()
        self._stream.close()

    def flush(self) -> None:
        """Hand on what has been gathered."""
        if self._reasoning.fresh:
            self.reasoning_added.emit(self._reasoning.hand_on(), self._progress.generated_tokens)
        if self._text.fresh:
            self.text_added.emit(self._text.hand_on())
        for index, call in self._calls.items():
            if call.fresh or not call.told:
                call.told = True
                self.call_grew.emit(index, call.id, call.name, call.hand_on())
        if self._progress_is_news:
            self._progress_is_news = False
            self.progress_changed.emit(self._progress)

    def _take(self, events: list[ServerEvent]) -> None:
        for event in events:
            self._take_one(_EVENT.validate_json(event.data))
            if self._over:
                return
        if self._progress_is_news and not self._paint.isActive():
            self._paint.start()

    def _take_one(self, event: Event) -> None:
        if isinstance(event, Text):
            thinks = event.part == "reasoning"
            (self._reasoning if thinks else self._text).take(event.offset, event.text)
            self._wrote(event.generated_tokens, "thinking" if thinks else "writing")
        elif isinstance(event, CallEvent):
            call = self._calls.setdefault(event.index, _CallGrowth(id=event.id, name=event.name))
            call.take(event.offset, event.arguments)
            self._wrote(event.generated_tokens, "writing")
        elif isinstance(event, Queued):
            self._tell(TurnProgress(place=event.place))
        elif isinstance(event, Prefill):
            self._take_prefill(event)
        elif isinstance(event, Counters):
            self._tell(replace(self._progress, counters=event))
        elif isinstance(event, ThoughtEvent):
            self.flush()
            self.thought_ended.emit(event.thought)
        elif isinstance(event, Notice):
            self.flush()
            self.noticed.emit(event.text)
        elif isinstance(event, Done | Failed):
            self.flush()
            self.close()
            self.finished.emit(event.message)

    def _wrote(self, generated_tokens: int, phase: Literal["thinking", "writing"]) -> None:
        now = self._clock()
        self._recent.append((now, generated_tokens))
        while len(self._recent) > 2 and now - self._recent[0][0] > RATE_WINDOW_S:
            self._recent.popleft()
        since, tokens = self._recent[0]
        rate = (generated_tokens - tokens) / (now - since) if now - since > 0.2 else None
        if rate is not None and now - self._sampled_at >= SAMPLE_S:
            self._sampled_at = now
            self._samples.append(rate)
        self._tell(
            replace(
                self._progress,
                phase=phase,
                done=self._progress.total,
                rate=rate,
                left_s=None,
                generated_tokens=generated_tokens,
                rates=tuple(self._samples),
            )
        )

    def _take_prefill(self, event: Prefill) -> None:
        now = self._clock()
        if self._prefill_from is None:
            self._prefill_from = (now, event.done)
        since, first = self._prefill_from
        rate = (event.done - first) / (now - since) if now - since > 0.1 else None
        left_s = (event.total - event.done) / rate if rate else None
        self._tell(
            TurnProgress(
                phase="prefill",
                done=event.done,
                total=event.total,
                reused=event.reused,
                rate=rate,
                left_s=left_s,
            )
        )

    def _tell(self, progress: TurnProgress) -> None:
        self._progress = progress
        self._progress_is_news = True

    def _ended(self, error: ErrorBody | None) -> None:
        if not self._over:
            self.flush()
            self.close()
            self.broken.emit(error or unreachable("it ended the answer without a word"))
