"""What is said while nothing is written."""

from typing import Any

from app.api import EngineApi
from app.engine_watch import EngineState
from app.engine_words import conversation_markdown, empty_list, empty_page, resting_words, usage_words
from app.model_shelf import ModelShelf
from app.transcript_model import ShownCall, ShownMessage
from engine.protocol import EngineStatus, ErrorBody, Message, ModelEntry, Usage


def status(**more: Any) -> EngineStatus:
    return EngineStatus(version="1", pid=1, started_at=0, data_folder="/d", **more)


def message(text: str, role: Any = "assistant", usage: Usage | None = None) -> Message:
    return Message(id="m", parent_id=None, role=role, text=text, status="complete", created_at=0, usage=usage)


def shown(text: str, role: Any = "assistant", **more: Any) -> ShownMessage:
    return ShownMessage("m", role, text, "complete", None, None, 1, 1, None, None, **more)


def test_the_engines_state_comes_first(qapp: object) -> None:
    shelf = ModelShelf(EngineApi())
    assert resting_words(EngineState.STARTING, shelf, False, None) == "Starting the engine…"
    held = resting_words(EngineState.STARTING, shelf, True, None)
    assert "your message is sent when it is ready" in held
    long = resting_words(EngineState.STARTING, shelf, True, None, "a backup is being restored")
    assert long == "A backup is being restored; this may take minutes; your message is sent when it is ready"
    assert resting_words(EngineState.STOPPED, shelf, False, None) == "The engine is not running"


def test_then_the_model_then_the_last_answer(qapp: object) -> None:
    shelf = ModelShelf(EngineApi())
    shelf.entries = [ModelEntry(id="a", name="Alpha", path="/a", size_bytes=1, source="file")]
    shelf.set_status(status(loading_model_id="a", loading_fraction=0.42))
    assert resting_words(EngineState.READY, shelf, False, None) == "Loading Alpha, 42%"
    shelf.set_status(status())
    assert resting_words(EngineState.READY, shelf, False, None) == "No model is loaded"
    loaded = {"id": "a", "name": "Alpha", "context_tokens": 100, "threads": 1, "backend": "x"}
    shelf.set_status(status(model=loaded))
    assert resting_words(EngineState.READY, shelf, False, None) == "Ready"
    usage = Usage(prompt_tokens=5, reused_tokens=0, generated_tokens=1200, context_tokens=100,
                  first_token_s=0.44, prefill_rate=1, generation_rate=38.25, seed=1)  # fmt: skip
    words = resting_words(EngineState.READY, shelf, False, message("x", usage=usage))
    assert words == "1,200 tokens · 38.2 tok/s · first token after 0.4 s"
    cost = {"disk_bytes_per_token": 2.1e8, "experts_in_memory": 0.947}
    words = usage_words(usage.model_copy(update=cost))
    assert words == (
        "1,200 tokens · 38.2 tok/s · 210.0 MB from disk a token · 94% of experts in memory · first token after 0.4 s"
    )


def test_what_an_answer_cost_says_no_more_than_is_known() -> None:
    usage = Usage(prompt_tokens=5, reused_tokens=0, generated_tokens=1, context_tokens=100,
                  first_token_s=0.004, prefill_rate=1, generation_rate=0, seed=1)  # fmt: skip
    assert usage_words(usage) == "1 token · first token at once"
    assert usage_words(usage.model_copy(update={"generated_tokens": 0})) == ""


def test_an_empty_page_teaches_what_can_be_done(qapp: object) -> None:
    shelf = ModelShelf(EngineApi())
    assert "Add a model" not in empty_page(shelf)[0]
    shelf.known = True
    assert "Add a model" in empty_page(shelf)[0]
    problem = ErrorBody(code="model_file", text="broken")
    shelf.entries = [ModelEntry(id="a", name="A", path="/a", size_bytes=1, source="file", problem=problem)]
    assert "Add a model" in empty_page(shelf)[0]


def test_an_empty_page_does_not_say_that_all_stays_here_where_it_does_not(qapp: object) -> None:
    shelf = ModelShelf(EngineApi())
    place = {"host": "node7", "whereabouts": "elsewhere"}
    model = {
        "id": "r",
        "name": "Pro",
        "context_tokens": 0,
        "threads": 0,
        "backend": "remote",
        "remote": place,
    }
    shelf.set_status(status(model=model))
    assert "What you write is sent to node7." in empty_page(shelf)[1]
    assert "stays here" not in empty_page(shelf)[1]
    shelf.set_status(None)
    assert "stays here" not in empty_page(shelf)[1]


def test_a_conversation_as_markdown() -> None:
    text = conversation_markdown([shown("Hi", "user"), shown("Hello **you**")])
    assert text == "**You**\n\nHi\n\n**Model**\n\nHello **you**\n"


def test_calls_and_results_are_named_and_reasoning_is_left_out() -> None:
    calls = (
        ShownCall("c1", "get_weather", '{"city": "Bergen"}', result="rain\n```\n"),
        ShownCall("c2", "search", "{", status="rejected", problem="No JSON."),
    )
    text = conversation_markdown([shown("", reasoning="Secret thoughts.", calls=calls)])
    assert text == (
        '**Call of `get_weather`**\n\n```json\n{"city": "Bergen"}\n```\n\n'
        "**Result**\n\n````\nrain\n```\n\n````\n\n"
        "**Call of `search`, not carried out**\n\n```json\n{\n```\n"
    )


def test_an_empty_list_of_conversations_teaches_too() -> None:
    assert "kept here" in empty_list("")
    assert "zebra" in empty_list("zebra")
