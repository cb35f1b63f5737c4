"""Requests to count take up no more than one thread; the routes themselves are tried with Anthropic's own client."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from engine.server import anthropic_messages as module
from engine.server.answers import Served
from engine.server.anthropic_shapes import Conversation


def test_requests_are_counted_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def served(_engine: Any, _named: str) -> Served:
        return Served("m", "v4")

    met: list[bool] = []
    both = threading.Barrier(2)

    def count(*_: Any) -> int:
        try:
            both.wait(0.2)
        except threading.BrokenBarrierError:
            return 1
        met.append(True)
        return 1

    monkeypatch.setattr(module.answers, "served", served)
    monkeypatch.setattr(module, "_count", count)
    asked = Conversation.model_validate({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})

    async def all_of_them() -> list[Any]:
        app = SimpleNamespace(state=SimpleNamespace(counting=asyncio.Semaphore(module.COUNTED_AT_ONCE)))
        request: Any = SimpleNamespace(app=app, state=SimpleNamespace())
        return await asyncio.gather(
            *(module.count_tokens(asked, request, SimpleNamespace()) for _ in range(3))
        )

    assert [each.body for each in asyncio.run(all_of_them())] == [b'{"input_tokens":1}'] * 3
    assert met == []
