"""An engine that dies while another machine writes: what had arrived is there, and nothing is asked twice unnoticed."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.paths import DataFolder
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, write_script
from tests.support.hostile_server import DONE, Exchange, HostileServer, chunk, hostile, usage

StartEngine = Callable[..., LiveEngine]
WORDS = "One two three four five six seven eight nine ten. "
pytestmark = pytest.mark.slow


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile() as found:
        found.answer = counting
        yield found


def counting(exchange: Exchange) -> None:
    """Answers, and goes on with a last answer when it is told to."""
    messages = exchange.body["messages"]
    exchange.head()
    if messages[0]["content"].startswith(("Say OK", "Call", "Count")):
        going_on = exchange.body.get("continue_final_message")
        exchange.send(
            chunk({"content": " five" if going_on else "OK."}), chunk({}, "stop"), usage(1, 1), DONE
        )
        return
    begun = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    rest = WORDS[len(begun) :]
    exchange.send(chunk({"content": rest}), chunk({}, "stop"), usage(20, 5), DONE)


def holding(server: HostileServer) -> Callable[[Exchange], None]:
    """As `counting`, but a new answer stops after twenty characters until the server is released."""

    def answer(exchange: Exchange) -> None:
        messages = exchange.body["messages"]
        if messages[-1]["role"] == "assistant" or messages[0]["content"].startswith(
            ("Say OK", "Call", "Count")
        ):
            counting(exchange)
            return
        exchange.head()
        exchange.send(*(chunk({"content": each}) for each in WORDS[:20]))
        server.release.wait(30)

    return answer


def set_up(live: LiveEngine, server: HostileServer) -> str:
    body = {"name": "Far", "addresses": [{"url": server.url}], "price": {"read": 1.0, "written": 1.0}}
    made = live.post("/api/remotes", body)
    live.post("/api/models/load", {"model_id": made["id"]})
    live.wait_status(lambda s: s["model"] is not None and s["loading_model_id"] is None)
    return made["id"]


def started(start_engine: StartEngine, root: Path) -> LiveEngine:
    """An engine whose model at first is a scripted one, and later the one that was loaded last."""
    folder = DataFolder(root)
    if not folder.settings.exists():
        root.mkdir(parents=True)
        folder.settings.write_text(f'resume = "continue"\nmodel_id = "{SCRIPT_MODEL}"\n')
        write_script(folder)
    return start_engine(root=root, scripted=False)


def questions(server: HostileServer) -> list[Any]:
    """The bodies that held a conversation."""
    return [each for each in server.chats if "Tell me" in json.dumps(each)]


def killed_in_the_middle(start_engine: StartEngine, server: HostileServer, root: Path) -> tuple[str, str]:
    """(session, answer) of an engine that was killed when some of the answer had been shown."""
    live = started(start_engine, root)
    set_up(live, server)
    server.answer = holding(server)
    session_id = live.new_session()
    turn = live.ask("Tell me.", session_id)
    shown = ""
    for _, event in live.events(turn["id"]):
        if event["kind"] == "text":
            shown += event["text"]
            if len(shown) >= 20:
                break
    live.process.kill()
    live.process.wait(10)
    server.release.set()
    return session_id, turn["answer"]["id"]


def test_it_goes_on_by_itself_from_what_had_arrived(
    start_engine: StartEngine, server: HostileServer, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    session_id, answer_id = killed_in_the_middle(start_engine, server, root)
    assert len(questions(server)) == 1
    live = started(start_engine, root)
    live.wait_status(
        lambda s: (
            s["model"] is not None
            and s["queue_length"] == 0
            and s["active_turn_id"] is None
            and live.message(session_id, answer_id)["status"] == "complete"
        )
    )
    whole = live.message(session_id, answer_id)
    assert whole["text"] == WORDS
    assert whole["continued"] == "different" and "beginning" in " ".join(whole["notices"])
    asked = questions(server)
    assert len(asked) == 2
    assert asked[1]["continue_final_message"] is True
    assert asked[1]["messages"][-1] == {"role": "assistant", "content": WORDS[:20]}


def test_where_the_server_cannot_it_waits_and_is_marked(
    start_engine: StartEngine, server: HostileServer, tmp_path: Path
) -> None:
    def stubborn(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(chunk({"content": "OK."}), chunk({}, "stop"), usage(1, 1), DONE)

    server.answer = stubborn
    root = tmp_path / "data"
    session_id, answer_id = killed_in_the_middle(start_engine, server, root)
    live = started(start_engine, root)
    live.wait_status(lambda s: s["model"] is not None and s["loading_model_id"] is None)
    cut = live.message(session_id, answer_id)
    assert (cut["status"], cut["text"]) == ("interrupted", WORDS[:20])
    server.answer = stubborn
    whole = live.finish(live.continue_answer(session_id, answer_id)["id"])["message"]
    assert whole["text"] == WORDS[:20] + "OK." and whole["continued"] == "different"
    assert "asked once more" in " ".join(whole["notices"])
    assert len(questions(server)) == 2


def test_a_stream_that_breaks_off_keeps_what_came_and_is_not_sent_again(
    start_engine: StartEngine, server: HostileServer, tmp_path: Path
) -> None:
    live = started(start_engine, tmp_path / "data")
    set_up(live, server)

    def breaking(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(chunk({"content": WORDS[:20]}))

    server.answer = breaking
    session_id = live.new_session()
    last = live.finish(live.ask("Tell me.", session_id)["id"])
    assert last["kind"] == "error" and "charged" in last["error"]["text"]
    failed = last["message"]
    assert (failed["text"], failed["status"]) == (WORDS[:20], "failed")
    assert len(questions(server)) == 1
    server.answer = counting
    whole = live.finish(live.continue_answer(session_id, failed["id"])["id"])["message"]
    assert whole["text"] == WORDS and whole["continued"] == "different"
    assert len(questions(server)) == 2
