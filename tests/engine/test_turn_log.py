"""The log of a turn: order, catching up, coalescing."""

import asyncio

from engine.protocol import (
    CallEvent,
    Counters,
    Done,
    Message,
    Notice,
    Prefill,
    Queued,
    Text,
    Thought,
    ThoughtEvent,
)
from engine.turn_log import Record, TurnLog

DONE = Done(
    finish_reason="stop",
    message=Message(id="m", parent_id=None, role="assistant", text="abc", status="complete", created_at=0),
)


def text(offset: int, piece: str, tokens: int = 1) -> Text:
    return Text(offset=offset, text=piece, generated_tokens=tokens)


async def settled(log: TurnLog, *events: Queued | Prefill | Text | Counters | Done) -> None:
    for event in events:
        log.post(event)
    await asyncio.sleep(0)


def kinds(records: list[Record]) -> list[str]:
    return [record.kind for record in records]


def test_only_the_newest_progress_is_kept_and_numbers_grow() -> None:
    async def check() -> None:
        log = TurnLog(asyncio.get_running_loop())
        await settled(
            log,
            Queued(place=1),
            Queued(place=0),
            Prefill(done=0, total=9, reused=0),
            Prefill(done=5, total=9, reused=0),
            Prefill(done=9, total=9, reused=0),
            text(0, "a"),
            DONE,
        )
        records = log.since(0)
        assert kinds(records) == ["queued", "queued", "prefill", "text", "done"]
        assert [record.id for record in records] == [1, 2, 5, 6, 7]
        assert log.since(3)[0].json == b'{"kind":"prefill","done":9,"total":9,"reused":0}'

    asyncio.run(check())


def test_missed_text_comes_as_one_event_from_exactly_where_it_was_missed() -> None:
    async def check() -> None:
        log = TurnLog(asyncio.get_running_loop())
        await settled(log, text(3, "né", 1), text(5, "\n你", 2), text(7, "!", 3))
        (whole,) = log.since(0)
        assert Text.model_validate_json(whole.json) == text(3, "né\n你!", 3)
        assert b"\n" not in whole.json
        (rest,) = log.since(1)
        assert Text.model_validate_json(rest.json) == text(5, "\n你!", 3)
        assert rest.id == 3
        (last,) = log.since(2)
        assert Text.model_validate_json(last.json) == text(7, "!", 3)
        assert log.since(3) == []

    asyncio.run(check())


def test_listeners_hear_everything_and_end_with_the_turn() -> None:
    async def check() -> None:
        log = TurnLog(asyncio.get_running_loop())

        async def listen(after: int) -> list[Record]:
            return [record async for records in log.follow(after) for record in records]

        early = asyncio.create_task(listen(0))
        await settled(log, text(0, "a"))
        await settled(log, text(1, "b"))
        middle = asyncio.create_task(listen(1))
        await settled(log, text(2, "c"), DONE, text(3, "after the end"))
        assert kinds(await early) == ["text", "text", "text", "done"]
        assert kinds(await middle)[-1] == "done"
        assert await log.wait_end(1)
        late = await listen(0)
        assert kinds(late) == ["text", "done"]
        assert Text.model_validate_json(late[0].json).text == "abc"

    asyncio.run(check())


def test_nothing_new_gives_an_empty_list_for_keeping_alive() -> None:
    async def check() -> None:
        log = TurnLog(asyncio.get_running_loop())
        follower = log.follow(idle_s=0.01)
        assert await anext(follower) == []
        await settled(log, DONE)
        assert kinds(await anext(follower)) == ["done"]
        await follower.aclose()
        assert not await TurnLog(asyncio.get_running_loop()).wait_end(0.01)

    asyncio.run(check())


def test_a_closed_loop_is_nobodys_trouble() -> None:
    loop = asyncio.new_event_loop()
    log = TurnLog(loop)
    loop.close()
    log.post(DONE)


def test_parts_and_calls_are_joined_each_by_itself() -> None:
    async def check() -> None:
        log = TurnLog(asyncio.get_running_loop())
        log.post(Text(offset=0, text="hm", generated_tokens=1, part="reasoning"))
        log.post(Text(offset=2, text="m", generated_tokens=2, part="reasoning"))
        log.post(ThoughtEvent(thought=Thought(tokens=2, elapsed_s=1.5)))
        log.post(text(0, "a", 3))
        log.post(text(1, "b", 4))
        for index, offset, arguments in ((0, 0, "{"), (0, 1, "}"), (1, 0, "{}")):
            log.post(
                CallEvent(
                    index=index,
                    id=f"c{index}",
                    name="f",
                    offset=offset,
                    arguments=arguments,
                    generated_tokens=5,
                )
            )
        log.post(Notice(code="budget", text="Enough."))
        await asyncio.sleep(0)
        assert kinds(log.since(0)) == ["text", "thought", "text", "call", "call", "notice"]
        reasoning, _, answer, call, other, _ = log.since(0)
        assert Text.model_validate_json(reasoning.json) == Text(
            offset=0, text="hmm", generated_tokens=2, part="reasoning"
        )
        assert Text.model_validate_json(answer.json).text == "ab"
        assert CallEvent.model_validate_json(call.json).arguments == "{}"
        assert CallEvent.model_validate_json(other.json).id == "c1"
        # From the middle of a run, and of another.
        assert [record.id for record in log.since(1)] == [2, 3, 5, 7, 8, 9]
        assert Text.model_validate_json(log.since(1)[0].json).text == "m"
        late = CallEvent.model_validate_json(log.since(6)[0].json)
        assert (late.offset, late.arguments, late.id) == (1, "}", "c0")

    asyncio.run(check())


def test_of_counters_only_the_newest_is_told_and_they_break_no_run_of_text() -> None:
    async def check() -> None:
        log = TurnLog(asyncio.get_running_loop())
        costs = [
            Counters(tokens_per_s=rate, disk_bytes_per_token=5, experts_in_memory=0.5) for rate in (1.0, 2.0)
        ]
        await settled(log, text(0, "a"), costs[0], text(1, "b"), costs[1], text(2, "c"))
        records = log.since(0)
        assert kinds(records) == ["counters", "text"]
        assert b'"tokens_per_s":2.0' in records[0].json
        assert b'"text":"abc"' in records[1].json
        assert [record.id for record in records] == [4, 5]
        assert kinds(log.since(3)) == ["counters", "text"]
        assert kinds(log.since(4)) == ["text"]
        await settled(log, DONE)
        assert kinds(log.since(0)) == ["counters", "text", "done"]

    asyncio.run(check())
