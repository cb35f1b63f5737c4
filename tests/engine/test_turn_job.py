"""One answer from the store to its end, where an engine that died left something to be seen to."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from engine.backends.scripted import ScriptedBackend
from engine.contexts.keeper import ContextKeeper
from engine.encoding.prompt import encode_chat
from engine.protocol import Sampling, Settings
from engine.store.journals import Journals
from engine.store.sessions import SessionStore
from engine.turn_job import TurnJob
from engine.turn_log import TurnLog
from engine.turn_prompts import prompt_messages

Scripted = Callable[..., ScriptedBackend]


def test_an_answer_that_had_filled_the_context_when_its_engine_died_gets_its_end(
    tmp_path: Path, scripted: Scripted
) -> None:
    store = SessionStore.open(tmp_path / "sessions.db")
    journals = Journals(tmp_path / "journals", lambda: 0)
    journals.recover(store)
    session_id, sampling = store.create_session().id, Sampling(seed=1)
    _, answer = store.begin_turn(session_id, parent_id=None, question="q", model_id="m", sampling=sampling)
    journal = journals.turn(session_id, answer, model_id="m", sampling=sampling)
    journal.tokens([97] * 5, "aaaaa", "text")
    store.append(answer.id, "aaaaa", [97] * 5)
    store.end_turn(answer.id, status="interrupted", finish_reason="interrupted")
    messages = prompt_messages("", store.branch(session_id, answer.id)[:-1])
    prompt = encode_chat(scripted(), messages)

    answer, already, _ = store.reopen_answer(session_id, answer.id)
    owner: Any = SimpleNamespace(
        store=store,
        thread=SimpleNamespace(closing=False, waiting=0),
        settings=lambda: Settings(system_message=""),
        gave=lambda *_: None,
        changed=lambda _session_id: None,
        job_ended=lambda *_, **__: None,
    )
    loop = asyncio.new_event_loop()
    job = TurnJob(
        owner,
        TurnLog(loop),
        session_id=session_id,
        answer=answer,
        model_id="m",
        sampling=sampling,
        already=tuple(already),
        journal=journals.turn(session_id, answer, model_id="m", sampling=sampling, already=5),
        most_tokens=None,
        thinking_tokens=None,
    )
    job.run(ContextKeeper(cast(Any, scripted(context=len(prompt) + 5))))
    ended = store.message(session_id, answer.id)
    assert (ended.text, ended.status, ended.finish_reason) == ("aaaaa", "complete", "length"), ended.error
    journals.close()
    store.close()
    loop.close()
