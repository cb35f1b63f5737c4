"""Claude Code's requests, in their shape: what is read once stays read. The program itself is tried by hand
(docs/clients/claude-code.md)."""

from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from engine.paths import DataFolder
from tests.integration import claude_code
from tests.integration.live_engine import LiveEngine, write_script
from tests.integration.v4_script import V4_MODEL, block, call

pytestmark = pytest.mark.slow
SCRIPT: dict[str, Any] = {
    "name": "Agent",
    "context_tokens": 1_048_576,
    "release": "preview",
    "rewinds": False,
    "replies": [
        {"match": "The file says", "text": "I see.</think>It greets you."},
        {"match": "It printed", "text": "Now the file.</think>" + block(call("Read", file_path="/a/hello.txt"))},
        {"text": "I run it.</think>Running." + block(call("Bash", command="ls", description="List files"))},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    root = tmp_path_factory.mktemp("agent")
    write_script(DataFolder(root), SCRIPT, "v4")
    DataFolder(root).settings.write_text("context_tokens = 65536\n")
    live = LiveEngine(root, "--model", V4_MODEL)
    live.wait_model()
    yield live
    live.close()


@pytest.fixture(scope="module")
def client(engine: LiveEngine) -> Iterator[anthropic.Anthropic]:
    # It takes the address without /v1, and its key either way.
    with anthropic.Anthropic(base_url=engine.address.url, api_key=engine.address.key, max_retries=0) as made:
        yield made


def ask(
    client: anthropic.Anthropic, body: dict[str, Any]
) -> tuple[list[dict[str, Any]], anthropic.types.Usage]:
    """The answer's blocks as a client sends them back, and what it cost."""
    named = {name: body[name] for name in ("model", "max_tokens", "messages")}
    rest = {name: value for name, value in body.items() if name not in (*named, "stream")}
    with client.messages.stream(**named, extra_body=rest, extra_headers=claude_code.HEADERS) as events:
        message = events.get_final_message()
    told = {"thinking": ("thinking", "signature"), "text": ("text",), "tool_use": ("id", "name", "input")}
    blocks = [
        {"type": each.type, **{name: getattr(each, name) for name in told[each.type]}}
        for each in message.content
    ]
    return blocks, message.usage


def held(usage: anthropic.types.Usage) -> int:
    """What the context held at the answer's end."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0) + usage.output_tokens


@pytest.mark.parametrize("attribution", ["1a2", None])
def test_a_conversation_reads_what_is_new(client: anthropic.Anthropic, attribution: str | None) -> None:
    def body(later: list[dict[str, Any]]) -> dict[str, Any]:
        return claude_code.request(V4_MODEL, "What is here?", later, attribution=attribution, session="s1")

    later: list[dict[str, Any]] = []
    blocks, before = ask(client, body(later))
    assert [each["type"] for each in blocks] == ["thinking", "text", "tool_use"]
    for text in ("It printed hello.txt", "The file says hi"):
        later += claude_code.results(blocks, text)
        blocks, usage = ask(client, body(later))
        assert (usage.cache_read_input_tokens or 0) >= held(before) - 1
        assert usage.input_tokens < 100
        before = usage
    assert [each["type"] for each in blocks] == ["thinking", "text"] and blocks[1]["text"] == "It greets you."


def test_another_conversation_has_the_tools_read_where_nothing_stands_before_them(
    client: anthropic.Anthropic,
) -> None:
    def cost(question: str, attribution: str | None) -> tuple[int, int]:
        body = claude_code.request(V4_MODEL, question, attribution=attribution, session=question)
        _, usage = ask(client, body)
        return usage.input_tokens, usage.cache_read_input_tokens or 0

    cost("Let us begin", None)
    read, kept = cost("Something else entirely", None)
    # All but the messages themselves: the reminder, the question, the kinds of helpers.
    assert read < 1200 < kept
    cost("Let us begin", "1a2")
    # The first line ends otherwise: as the docs say, everything behind it is read.
    assert cost("Something else entirely", "3b4")[1] < 100


def test_what_it_counts_is_what_it_puts(client: anthropic.Anthropic) -> None:
    body = claude_code.request(V4_MODEL, "Count me", attribution=None, session="s2")
    named = {name: body[name] for name in ("model", "messages", "system", "tools", "thinking")}
    counted = client.messages.count_tokens(**named, extra_headers=claude_code.HEADERS)
    _, usage = ask(client, body)
    assert counted.input_tokens == held(usage) - usage.output_tokens


def test_its_knock_at_the_address_without_a_key_is_no_guess_at_one(
    engine: LiveEngine, client: anthropic.Anthropic
) -> None:
    for _ in range(8):
        assert httpx.head(engine.address.url, trust_env=False).status_code == 401
    assert ask(client, claude_code.request(V4_MODEL, "Still here?", attribution=None, session="s3"))[0]
