"""Many clients at one engine: they stand in the order in which they came, and each gets its answer."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from engine.paths import DataFolder
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, in_thread, write_script

CLIENTS = 32
SCRIPT: dict[str, Any] = {
    "name": "Talker",
    "replies": [
        # Nobody waits for its end: it is ended.
        {"match": "hold", "text": "a" * 1000, "delay_s": 0.5},
        {"text": "Hello there."},
    ],
}
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    root = tmp_path_factory.mktemp("queue")
    write_script(DataFolder(root), SCRIPT)
    live = LiveEngine(root, "--model", SCRIPT_MODEL)
    live.wait_model()
    yield live
    live.close()


def requests(engine: LiveEngine) -> list[Any]:
    """All that run or wait, with their clients' names, by their places."""
    clients = engine.get("/api/access")["clients"]
    whole = [{**each, "program": client["program"]} for client in clients for each in client["requests"]]
    return sorted(whole, key=lambda each: each["place"])


def wait_for(engine: LiveEngine, count: int) -> list[Any]:
    """Until so many run or wait: the engine tells each change."""
    if len(found := requests(engine)) == count:
        return found
    with engine.client.stream("GET", "/api/events") as reply:
        for line in reply.iter_lines():
            if line.startswith("data: ") and len(found := requests(engine)) == count:
                return found
    raise AssertionError("the engine ended")


async def asked(client: httpx.AsyncClient, number: int, text: str) -> tuple[int, list[int], str]:
    """One client's streamed answer: (status, the places that it was told, its text)."""
    body = {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": text}], "stream": True}
    headers = {"User-Agent": f"client-{number}"}
    places: list[int] = []
    texts: list[str] = []
    async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as reply:
        async for line in reply.aiter_lines():
            if line.startswith(": queued "):
                places.append(int(line.removeprefix(": queued ")))
            elif line.startswith("data: {"):
                chunk = json.loads(line.removeprefix("data: "))
                texts += [each["delta"].get("content", "") for each in chunk["choices"]]
    return reply.status_code, places, "".join(texts)


async def queue_up(engine: LiveEngine) -> tuple[list[Any], list[tuple[int, list[int], str]]]:
    """One client whose answer has no end, and the others behind it; then it is ended."""
    headers = {"Authorization": f"Bearer {engine.address.key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=engine.address.url, headers=headers, limits=limits, timeout=60, trust_env=False
    ) as client:
        holding = asyncio.ensure_future(asked(client, 0, "hold"))
        await asyncio.to_thread(wait_for, engine, 1)
        waiting: list[asyncio.Future[tuple[int, list[int], str]]] = []
        for number in range(1, CLIENTS):
            waiting.append(asyncio.ensure_future(asked(client, number, f"Client {number}")))
            # The next one comes when this one stands in the queue.
            await asyncio.to_thread(wait_for, engine, number + 1)
        stood = await asyncio.to_thread(requests, engine)
        await asyncio.to_thread(engine.client.delete, f"/api/access/requests/{stood[0]['id']}")
        await holding
        return stood, await asyncio.gather(*waiting)


def test_each_of_many_clients_has_its_place_and_its_answer(engine: LiveEngine) -> None:
    stood, answers = asyncio.run(queue_up(engine))
    assert [each["program"] for each in stood] == [f"client-{number}" for number in range(CLIENTS)]
    assert [each["place"] for each in stood] == list(range(CLIENTS))
    assert stood[0]["state"] != "queued" and {each["state"] for each in stood[1:]} == {"queued"}
    for status, places, text in answers:
        assert (status, text) == (200, "Hello there.")
        # Nobody who came later goes before.
        assert places == sorted(places, reverse=True)
    assert requests(engine) == []


def test_who_goes_away_lets_the_others_move_up(engine: LiveEngine) -> None:
    body = {"model": SCRIPT_MODEL, "messages": [{"role": "user", "content": "hold"}], "stream": True}
    headers = {"User-Agent": "holder"}
    with engine.client.stream("POST", "/v1/chat/completions", json=body, headers=headers):
        wait_for(engine, 1)
        leaver = {**body, "messages": [{"role": "user", "content": "Hi"}]}
        with engine.client.stream(
            "POST", "/v1/chat/completions", json=leaver, headers={"User-Agent": "leaver"}
        ):
            wait_for(engine, 2)
            thread, results = in_thread(engine.answer, "Hello")
        assert requests(engine)[0]["program"] == "holder"
    thread.join(30)
    assert results[0]["text"] == "Hello there."
    assert wait_for(engine, 0) == []
