"""How a completion tells what happens, without an engine."""

import asyncio
from typing import Any, cast

import pytest

from engine import completions
from engine.completion_news import CompletionEnd, News, Progress
from engine.completions import Completion, CompletionRequest
from engine.errors import GenerationError, SeamountError
from engine.protocol import Sampling, Usage

ASKED = CompletionRequest((), Sampling(seed=1), None)
END = CompletionEnd("stop", Usage.model_construct())


def followed(work: Any, **more: Any) -> list[News]:
    """The news of a completion on which `work` was done."""

    async def run() -> list[News]:
        completion = Completion("m", ASKED, asyncio.get_running_loop())
        work(completion)
        return [news async for news in completion.follow(**more)]

    return asyncio.run(run())


def test_what_arrived_together_is_told_together() -> None:
    def work(completion: Completion) -> None:
        completion.place_is(2)
        completion.reading(0, 9)
        for text in ("a", "b"):
            completion.tell(text)
        completion.tell(END)

    assert followed(work) == [Progress("reading", done=0, total=9), "ab", END]


def test_progress_is_told_at_once_when_its_kind_changes_and_else_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(completions.time, "monotonic", lambda: now_s[0])
    told: list[News | SeamountError] = []

    class Deaf:
        def call_soon_threadsafe(self, _call: object, news: News | SeamountError) -> None:
            told.append(news)

    completion = Completion("m", ASKED, cast(asyncio.AbstractEventLoop, Deaf()))
    completion.place_is(1)
    completion.place_is(0)
    assert (told, completion.progress) == ([Progress("queued", 1)], Progress("queued", 0))
    for done in range(10):
        completion.reading(done, 10)
        now_s[0] += 0.2
    assert [cast(Progress, each).done for each in told[1:]] == [0, 3, 6, 9]
    completion.wrote(3)
    assert (completion.progress.state, completion.generated_tokens) == ("writing", 3)


def test_while_nothing_happens_the_progress_is_told_again() -> None:
    async def run() -> list[News]:
        completion = Completion("m", ASKED, asyncio.get_running_loop())
        completion.progress = Progress("reading", done=3, total=4)
        found: list[News] = []
        async for news in completion.follow(idle_s=0.001):
            found.append(news)
            completion.tell(END)
        return found

    assert asyncio.run(run())[0] == Progress("reading", done=3, total=4)


@pytest.mark.parametrize("how", ["end", "refuse", "cancel", "tell"])
def test_who_wants_to_know_of_the_end_hears_it_once(how: str) -> None:
    heard: list[str] = []

    def work(completion: Completion) -> None:
        completion.at_end(lambda: heard.append(how))
        error = GenerationError("a", "b", "c")
        if how == "end":
            completion.tell(END)
        elif how == "tell":
            completion.tell(error)
        else:
            completion.refuse(error if how == "refuse" else None)
        completion.tell(error)

    try:
        assert followed(work) == [END]
    except SeamountError:
        assert how != "end"
    assert heard == [how]


def test_nobody_listens_after_the_loop_has_closed() -> None:
    loop = asyncio.new_event_loop()
    completion = Completion("m", ASKED, loop)
    loop.close()
    completion.tell(END)
