"""How an answer comes about, with a scripted model and nobody's queue."""

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from engine import completion_answer
from engine.backends.scripted import ScriptedBackend
from engine.completion_answer import GROUP_S, answer
from engine.completion_news import CompletionEnd, LoggedText, News, Reasoning
from engine.completions import CompletionRequest
from engine.contexts.keeper import ContextKeeper
from engine.conversation import Message
from engine.errors import BadRequest
from engine.protocol import Sampling, Settings
from engine.text_groups import TextGroups

Scripted = Callable[..., ScriptedBackend]
HI = (Message("user", "Hi"),)


class Asking:
    """Asks, and listens."""

    memory = None

    def __init__(self, messages: Sequence[Message] = HI, **more: Any) -> None:
        more.setdefault("max_tokens", None)
        self.request = CompletionRequest(messages, Sampling(seed=1), **more)
        self.cancelled = threading.Event()
        self.news: list[News] = []
        self.written = 0

    def settings(self) -> Settings:
        return Settings()

    def tell(self, news: News) -> None:
        self.news.append(news)

    def reading(self, done: int, total: int, reused: int = 0) -> None:
        assert reused <= done <= total

    def wrote(self, tokens: int) -> None:
        self.written += tokens

    @property
    def text(self) -> str:
        return "".join(
            each if isinstance(each, str) else each.text
            for each in self.news
            if isinstance(each, str | LoggedText)
        )

    @property
    def reasoning(self) -> str:
        return "".join(each.text for each in self.news if isinstance(each, Reasoning))

    @property
    def end(self) -> CompletionEnd:
        end = self.news[-1]
        assert isinstance(end, CompletionEnd)
        return end


def asked(backend: ScriptedBackend, messages: Sequence[Message] = HI, **more: Any) -> Asking:
    asking = Asking(messages, **more)
    answer(ContextKeeper(backend), asking)
    return asking


def test_a_template_a_text_and_v4(scripted: Scripted) -> None:
    plain = asked(scripted({"text": "Hello"}))
    assert (plain.text, plain.end.reason, plain.written) == ("Hello", "stop", 5)
    v4 = asked(scripted({"text": "Hm.</think>Hello"}, release="preview"))
    assert (v4.reasoning, v4.text, v4.end.reasoning_tokens) == ("Hm.", "Hello", 3)
    # The script answers whatever ends its prompt; a bare text has nothing in it but itself.
    bare = asked(scripted({"text": "Hello"}), (), text="Hi")
    assert bare.end.usage.prompt_tokens == 1 + len("Hi")
    with pytest.raises(BadRequest, match="token 9999"):
        asked(scripted(), logit_bias={9999: 1.0})


def test_log_probabilities_belong_to_the_text(scripted: Scripted) -> None:
    v4 = asked(scripted({"text": "Hm.</think>Hé"}, release="preview"), top_logprobs=1)
    logged = [each for each in v4.news if isinstance(each, LoggedText)]
    tokens = list(itertools.chain.from_iterable(each.tokens for each in logged))
    assert b"".join(token.data for token in tokens) == "Hé".encode() == v4.text.encode()
    assert all(token.top[0].data == token.data for token in tokens)


def test_what_is_written_faster_than_a_person_follows_goes_together(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [0.0]

    def clock() -> float:
        now_s[0] += GROUP_S / 1.5
        return now_s[0]

    class Timed(TextGroups):
        def __init__(self, take: Any, **more: Any) -> None:
            super().__init__(take, clock, **more)

    monkeypatch.setattr(completion_answer, "TextGroups", Timed)
    pieces = [each for each in asked(scripted({"text": "abcdefgh"})).news if isinstance(each, str)]
    assert "".join(pieces) == "abcdefgh"
    assert len(pieces) < 8
