"""The models on other machines that are set up: what is kept, found out, agreed to, and never told."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from engine import kept_secrets
from engine.backends.remote_request import RemoteRequest
from engine.conversation import Message
from engine.errors import BadRequest, DataFolderError, NotFound, RemoteChanged, RemoteError, RemoteKeyRefused
from engine.kept_secrets import KeptSecrets
from engine.protocol_remote import AgreeRemote, CheckRemote, RemoteAddress, RemotePrice, SetRemote
from engine.remotes import Remotes
from engine.system_keyring import KeyringUnusableError
from tests.support.hostile_server import (
    DONE,
    GOOD,
    Exchange,
    HostileServer,
    chunk,
    hostile,
    own_certificate,
    replying,
    usage,
)

KEY = "sk-very-secret"
ASKED = RemoteRequest(messages=[Message("user", "Hello?")])


@pytest.fixture(autouse=True)
def without_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> object:
        raise KeyringUnusableError("this system has no keyring")

    monkeypatch.setattr(kept_secrets, "usable_keyring", none)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with hostile() as found:
        yield found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "remotes.json"


def setting(server: HostileServer | str, **more: Any) -> SetRemote:
    url = server if isinstance(server, str) else server.url
    return SetRemote(**{"name": "X", "addresses": [RemoteAddress(url=url)], "key": KEY, **more})


def ask(remotes: Remotes, remote_id: str) -> Any:
    return remotes.model(remote_id).answer(ASKED, lambda _piece: None, lambda: False)


def test_one_is_kept_without_its_key(server: HostileServer, path: Path) -> None:
    remotes = Remotes(path)
    changed: list[str | None] = []
    remotes.changed = changed.append
    made = remotes.add(setting(server, price=RemotePrice(read=1, written=2)))
    assert made.id.startswith("remote:") and changed == [made.id]
    assert (made.model, made.has_key, made.whereabouts, made.problem) == ("m", True, "this machine", None)
    assert "until the engine ends" in (made.key_problem or "")
    assert made.features is not None and made.features.models == ["m"]
    kept = path.read_text()
    assert KEY not in kept and KEY not in repr(made) + repr(remotes.model(made.id))
    entry = remotes.entry(made.id)
    assert (entry.source, entry.size_bytes, entry.problem) == ("remote", 0, None)
    assert entry.remote is not None and entry.remote.price == made.price
    again = Remotes(path)
    assert again.listed() == [made.model_copy(update={"has_key": False, "key_problem": None})]
    ask(remotes, made.id)
    assert set(server.keys) == {f"Bearer {KEY}"}
    with pytest.raises(RemoteKeyRefused, match="give it its key again"):
        again.model(made.id)


def test_it_is_asked_a_few_words_once(server: HostileServer, path: Path) -> None:
    remotes = Remotes(path)
    found = remotes.check(CheckRemote(remote=setting(server)))
    assert found.problem is None and found.features is not None
    assert (found.features.reasoning, found.features.usage) == ("no", "yes")
    assert (found.features.continues, found.features.tools) == ("no", "unknown")
    asked = len(server.chats)
    assert asked <= 6
    assert found.features.spent_tokens == 13 * asked
    words = {each["content"] for body in server.chats for each in body["messages"]}
    assert words == {
        "Say OK.",
        "Count from one to ten in English words, separated by commas.",
        "One, two, three, four,",
        "Call the tool say_ok now.",
    }
    assert all(body["max_tokens"] <= 64 for body in server.chats)
    remotes.add(setting(server))
    assert len(server.chats) == asked
    assert not path.exists() or KEY not in path.read_text()


def thinking_vllm(exchange: Exchange) -> None:
    """As vLLM serves V4: it reasons when its template is told to, and goes on with a last message when told to."""
    body = exchange.body
    if "reasoning_effort" in body:
        exchange.json({"error": {"message": "unexpected"}}, 400)
        return
    exchange.head()
    if body.get("continue_final_message"):
        exchange.send(chunk({"content": " five, six"}), chunk({}, "length"), DONE)
    elif body.get("tools"):
        first = {"index": 0, "id": "a", "function": {"name": "say_ok", "arguments": "{}"}}
        exchange.send(chunk({"tool_calls": [first]}), chunk({}, "tool_calls"), DONE)
    else:
        if body.get("chat_template_kwargs", {}).get("thinking"):
            exchange.send(chunk({"reasoning": "Hm."}))
        exchange.send(*GOOD[1:-2], usage(5, 5), DONE)


def test_what_vllm_is_and_can_do(server: HostileServer, path: Path) -> None:
    server.models = [
        {"id": "v4", "owned_by": "vllm", "root": "deepseek-ai/DeepSeek-V4-Pro", "max_model_len": 262_144}
    ]
    server.pages["/version"] = {"version": "0.14.1"}
    server.answer = thinking_vllm
    made = Remotes(path).add(setting(server))
    features = made.features
    assert features is not None
    assert (features.software, features.context_tokens) == ("vLLM 0.14.1", 262_144)
    assert (features.reasoning, features.efforts, features.effort_by) == ("yes", "yes", "template")
    assert (features.continues, features.continue_by) == ("yes", "final_message")
    assert features.tools == "yes"


def test_one_that_thinks_untold_and_refuses_what_it_does_not_know(server: HostileServer, path: Path) -> None:
    known = {"model", "stream", "max_tokens", "messages"}

    def answer(exchange: Exchange) -> None:
        if set(exchange.body) - known or exchange.body["messages"][-1]["role"] == "assistant":
            exchange.json({"detail": "extra fields not permitted"}, 422)
            return
        exchange.head()
        exchange.send(chunk({"content": "Let me think.</think>\n\nOK."}), chunk({}, "stop"), DONE)

    server.answer = answer
    features = Remotes(path).add(setting(server)).features
    assert features is not None and features.thinks_untold
    assert (features.reasoning, features.efforts, features.usage) == ("yes", "no", "no")
    assert (features.continues, features.tools, features.spent_tokens) == ("no", "no", None)


# --- changes -------------------------------------------------------------------------------------------------


def test_a_model_that_has_changed_is_not_used_until_agreed(server: HostileServer, path: Path) -> None:
    server.models = [{"id": "m", "root": "a/first", "max_model_len": 8192}]
    remotes = Remotes(path)
    made = remotes.add(setting(server))
    server.models = [{"id": "m", "root": "a/second", "max_model_len": 4096}]
    asked = len(server.chats)
    with pytest.raises(RemoteChanged, match="a/second"):
        ask(remotes, made.id)
    assert len(server.chats) == asked
    told = remotes.told(made.id)
    assert told.change is not None and "4,096" in told.change
    assert remotes.entry(made.id).problem is not None
    with pytest.raises(RemoteChanged):
        Remotes(path).model(made.id)
    agreed = remotes.agree(made.id, AgreeRemote())
    assert agreed.change is None and agreed.features is not None
    assert agreed.features.context_tokens == 4096
    ask(remotes, made.id)
    assert len(server.chats) == asked + 1


def test_a_model_that_is_gone(server: HostileServer, path: Path) -> None:
    remotes = Remotes(path)
    made = remotes.add(setting(server))
    server.models = [{"id": "other"}]
    asked = len(server.chats)
    with pytest.raises(RemoteError, match="does not have m any more"):
        ask(remotes, made.id)
    assert len(server.chats) == asked
    problem = remotes.told(made.id).problem
    assert problem is not None and "any more" in problem.text


def test_a_certificate_that_has_changed_is_not_used_until_agreed(tmp_path: Path, path: Path) -> None:
    context, fingerprint = own_certificate(tmp_path)
    with hostile(context) as server:
        remotes = Remotes(path)
        found = remotes.check(CheckRemote(remote=setting(server)))
        assert found.fingerprint == fingerprint and found.problem is not None and server.paths == []
        address = RemoteAddress(url=server.url, fingerprint=fingerprint.replace(":", "").lower())
        made = remotes.add(setting(server, addresses=[address], key=None))
        # The same address, another machine.
        _, other = own_certificate(tmp_path, "other")
        context.load_cert_chain(tmp_path / "other.pem")
        remotes = Remotes(path)
        asked = len(server.paths)
        with pytest.raises(RemoteChanged, match="another one"):
            ask(remotes, made.id)
        assert len(server.paths) == asked
        assert other in (remotes.told(made.id).change or "")
        for wrong in (None, "", fingerprint):
            with pytest.raises(BadRequest):
                remotes.agree(made.id, AgreeRemote(fingerprint=wrong))
        remotes.agree(made.id, AgreeRemote(fingerprint=other))
        ask(remotes, made.id)


def test_the_address_that_answers_is_used_first(server: HostileServer, path: Path) -> None:
    nobody = RemoteAddress(url="http://127.0.0.1:1/v1")
    remotes = Remotes(path)
    first = remotes.add(setting(server, addresses=[RemoteAddress(url=server.url), nobody]))
    with hostile() as other:
        made = remotes.change(
            first.id, setting(server, addresses=[nobody, RemoteAddress(url=other.url)], model="m")
        )
        assert made.problem is not None and made.has_key
        outcome = ask(remotes, made.id)
        assert outcome.point == 1 and "127.0.0.1:1" in outcome.notices[0]
        assert remotes.told(made.id).used_address == 1
        assert ask(remotes, made.id).notices == ()


# --- what cannot be ------------------------------------------------------------------------------------------


def test_what_cannot_be_set_up_is_one_sentence(server: HostileServer, path: Path) -> None:
    remotes = Remotes(path)
    wrong = [
        setting("http://api.example.com/v1"),
        setting("ssh://box"),
        setting(server, key="two words"),
        setting(server, addresses=[RemoteAddress(url=server.url, fingerprint="ab" * 32)]),
    ]
    for each in wrong:
        with pytest.raises(BadRequest) as caught:
            remotes.add(each)
        assert "two words" not in caught.value.text
    server.models = [{"id": "a"}, {"id": "b"}]
    with pytest.raises(RemoteError, match="more than one model"):
        remotes.add(setting(server))
    with pytest.raises(RemoteError, match="no list"):
        server.models = cast(Any, "nonsense")
        remotes.add(setting(server))
    server.models = None
    with pytest.raises(RemoteError, match="names no models"):
        remotes.add(setting(server))
    assert remotes.add(setting(server, model="c")).model == "c"
    with pytest.raises(RemoteError, match="nothing listens"):
        remotes.add(setting("http://127.0.0.1:1/v1"))
    offline = remotes.add(setting("http://127.0.0.1:1/v1", model="d"))
    assert offline.problem is not None and offline.features is None
    with pytest.raises(NotFound):
        remotes.told("remote:gone")
    remotes.remove(offline.id)
    with pytest.raises(NotFound):
        remotes.model(offline.id)


def test_a_refusal_does_not_tell_the_key(server: HostileServer, path: Path) -> None:
    server.answer = replying(401, {"error": {"message": f"bad key {KEY}"}})
    with pytest.raises(RemoteError) as caught:
        Remotes(path).add(setting(server))
    assert KEY not in caught.value.text and "bad key" in caught.value.text


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        "[" * 100_000,
        json.dumps({"format": 2, "remotes": []}),
        json.dumps({"format": 1, "remotes": [{"id": "remote:x"}]}),
        json.dumps(
            {
                "format": 1,
                "remotes": [
                    {
                        "id": "remote:x",
                        "name": "x",
                        "kind": "openai",
                        "addresses": [{"url": "file:///"}],
                        "model": "m",
                    }
                ],
            }
        ),
    ],
)
def test_a_file_that_cannot_be_read_stays_as_it_is(server: HostileServer, path: Path, content: str) -> None:
    path.write_text(content)
    remotes = Remotes(path)
    assert remotes.listed() == [] and remotes.entries() == []
    with pytest.raises(DataFolderError, match=r"remotes\.json"):
        remotes.add(setting(server))
    assert path.read_text() == content


@pytest.mark.parametrize("more", [True, False])
def test_a_key_is_not_sent_to_another_machine_unasked(
    server: HostileServer, path: Path, *, more: bool
) -> None:
    remotes = Remotes(path)
    made = remotes.add(setting(server))
    with hostile() as other:
        urls = [server.url, other.url] if more else [other.url]
        moved = setting(server, addresses=[RemoteAddress(url=url) for url in urls], key=None)
        for act in (
            lambda: remotes.change(made.id, moved),
            lambda: remotes.check(CheckRemote(remote=moved, id=made.id)),
        ):
            with pytest.raises(BadRequest, match="is not sent to") as caught:
                act()
            assert KEY not in caught.value.text
        assert other.paths == []
        assert remotes.told(made.id).addresses == made.addresses
        # Another path, or the usual port written out, is the same machine.
        near = [RemoteAddress(url=f"{server.url}/chat/completions")]
        assert remotes.change(made.id, setting(server, addresses=near, key=None)).has_key
        remotes.change(made.id, moved.model_copy(update={"key": "sk-another"}))
        assert KEY not in str(other.keys)


def test_nor_after_a_restart_without_its_key(server: HostileServer, path: Path) -> None:
    made = Remotes(path).add(setting(server))
    with hostile() as other, pytest.raises(BadRequest, match="is not sent to"):
        Remotes(path).change(made.id, setting(other, key=None))


def test_a_key_that_is_still_being_kept_does_not_go_to_the_new_address(
    server: HostileServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keyring may ask for its password meanwhile, and the engine end."""
    remotes, keys = Remotes(path), KeptSecrets("key")
    made = remotes.add(setting(server))
    with hostile() as other:
        meanwhile: list[Any] = []

        def keep(self: KeptSecrets, name: str, secret: str) -> Any:
            del self, secret
            meanwhile.append(ask(remotes, name))
            raise SystemExit

        keys.keep(made.id, KEY)  # as the keyring would have it
        monkeypatch.setattr(KeptSecrets, "keep", keep)
        with pytest.raises(SystemExit):
            remotes.change(made.id, setting(other, key="sk-another"))
        ask(Remotes(path, keys), made.id)
        assert meanwhile and f"Bearer {KEY}" not in other.keys
