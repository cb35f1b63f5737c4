"""Which models are V4, of which release, and what their chat gives."""

import gc
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.backends.base import ModelFacts
from engine.backends.scripted import ScriptedBackend
from engine.conversation import Message, ToolCall, Written
from engine.encoding import v4_chat as module
from engine.encoding.reasoning import style_of
from engine.encoding.v4_chat import V4Chat, release_of, v4_chat
from engine.errors import UnknownRelease


def opened(tmp_path: Path, **script: Any) -> ScriptedBackend:
    path = tmp_path / "x.script.json"
    path.write_text(json.dumps({"replies": [{"text": ""}], **script}))
    return ScriptedBackend.open(path, name="x", context_tokens=999, on_progress=lambda _fraction: True)


def facts(*names: str, name: str = "file") -> ModelFacts:
    return ModelFacts(name, "deepseek4", "b", 9, 9, 9, 1, frozenset(), None, "", "", None, {}, names)


def test_a_model_of_another_kind_has_none(tmp_path: Path) -> None:
    assert v4_chat(opened(tmp_path)) is None


def test_the_chat_is_made_once_and_goes_with_its_model(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None and v4_chat(backend) is chat
    assert chat.release.id == "preview"
    before = len(module._chats)
    del backend
    gc.collect()
    assert len(module._chats) == before - 1


def test_a_prompt_holds_the_models_own_ids(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    ids = chat.prompt([Message("user", "<think>")], style_of(chat.release, "high"))
    control = backend.facts.control_tokens
    expected = [control["<｜begin▁of▁sentence｜>"], control["<｜User｜>"], *b"<think>"]
    assert ids == [*expected, control["<｜Assistant｜>"], control["<think>"]]
    assert chat.literals == {control[t]: t.encode() for t in ("<think>", "</think>", "｜DSML｜")}
    quick = chat.quick([Message("user", "q")], "action", style_of(chat.release, "non-think"))
    assert [*quick.prefix, *quick.suffix][-1] == control["<｜action｜>"]


@pytest.mark.parametrize(
    ("names", "name", "said", "found"),
    [
        (("0731",), "x", None, "0731"),
        (("preview",), "DeepSeek-V4-Flash-0731", None, "preview"),
        (("DeepSeek V4 Flash 0731",), "x", None, "0731"),
        ((), "DeepSeek-V4-Pro-Q2_K", None, "preview"),
        (("some name",), "DeepSeek-V4-Pro-0813-MXFP4", None, "0731"),
        (("some name",), "x", "0731", "0731"),
        (("DeepSeek-V4-Flash-1017",), "x", "preview", "preview"),
    ],
)
def test_a_release_is_found_by_converter_person_or_name(
    names: tuple[str, ...], name: str, said: str | None, found: str
) -> None:
    assert release_of(facts(*names, name=name), said).id == found


@pytest.mark.parametrize("names", [("DeepSeek-V4-Flash-1017",), ("DeepSeek-V4.1-Flash",), ()])
def test_an_unknown_release_is_refused_by_name(names: tuple[str, ...]) -> None:
    with pytest.raises(UnknownRelease) as caught:
        release_of(facts(*names, name="something"))
    assert (names[0] if names else "something") in caught.value.text


def test_a_vocabulary_without_the_tokens_is_refused(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    del backend.facts.control_tokens["<｜User｜>"]
    with pytest.raises(UnknownRelease, match="no token <｜User｜>"):
        v4_chat(backend)


def test_it_tells_whether_a_message_is_what_the_model_wrote(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    control = backend.facts.control_tokens
    ids = (*b"Hm", control["</think>"], *"né".encode())
    assert chat.text_of(ids) == "Hm</think>né"
    assert chat.text_of(ids[:-1]) == "Hm</think>n"
    written = Written(ids, thinking=True)
    assert chat.says(Message("assistant", "né", "Hm", written=written))
    assert not chat.says(Message("assistant", "ne", "Hm", written=written))
    assert not chat.says(Message("assistant", "né", "Hmm", written=written))
    assert not chat.says(Message("assistant", "né", "Hm", (ToolCall("f", "{}"),), written=written))
    assert not chat.says(Message("assistant", "né", "Hm"))


def test_what_nobody_was_told_is_not_what_a_message_says(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    user, said = backend.facts.control_tokens["<｜User｜>"], tuple(b"Hi")
    hi = Message("assistant", "Hi")
    assert chat.says(replace(hi, written=Written(said, thinking=False)))
    for ids in ((*said, user), (user, *said), (*said, backend.facts.vocabulary_size), (*said, 2**32 - 1)):
        assert not chat.says(replace(hi, written=Written(ids, thinking=False))), ids


D = "｜DSML｜"
WRITTEN_CALL = (
    f'Hm.</think>Look.\n\n\n<{D}tool_calls>\n<{D}invoke name="f">\n'
    f'<{D}parameter name="path" string="true">a.py</{D}parameter>\n'
    f'<{D}parameter name="lines" string="false">[1, 2.0, true, 1e2, 12345678901234567890]</{D}parameter>\n'
    f"</{D}invoke>\n</{D}tool_calls>"
)


def ids_of(chat: V4Chat, text: str) -> tuple[int, ...]:
    """The tokens that a scripted model writes it with: bytes, and the grammar's control tokens."""
    control = {literal: token for token, literal in chat.literals.items()}
    ids: list[int] = []
    left = text.encode()
    while left:
        literal = next((each for each in control if left.startswith(each)), None)
        ids.append(left[0] if literal is None else control[literal])
        left = left[1 if literal is None else len(literal) :]
    return tuple(ids)


@pytest.mark.parametrize(
    ("arguments", "text", "is_same"),
    [
        ('{"path": "a.py", "lines": [1, 2.0, true, 100.0, 12345678901234567890]}', "Look.\n", True),
        ('{"lines":[1.0,2,true,100,12345678901234567000],"path":"a.py"}', "Look.", True),
        ('{ "lines" : [1, 2, true, 1E+2, 1.2345678901234567e19], "path": "\\u0061.py" }', "Look.", True),
        ('{"path": "a.py", "lines": [1, 2, 1, 100, 12345678901234567890]}', "Look.", False),
        ('{"path": "a.py", "lines": [true, 2, true, 100, 12345678901234567890]}', "Look.", False),
        ('{"path": "a.py", "lines": [1, 2, true, 101, 12345678901234567890]}', "Look.", False),
        ('{"path": "a.py", "lines": [1, 2, true, 100, 12345678901234597890]}', "Look.", False),
        ('{"path": "a.py", "lines": [1, 2, true, 100]}', "Look.", False),
        ('{"path": "a.py"}', "Look.", False),
        ('{"path": "a.py ", "lines": [1, 2, true, 100, 12345678901234567890]}', "Look.", False),
        ('{"path": "a.py", "lines": [1, 2, true, 100, 12345678901234567890]}', "Look!", False),
        ("[" * 100_000, "Look.", False),
    ],
)
def test_a_call_that_a_client_wrote_anew_is_the_models_own(
    tmp_path: Path, arguments: str, text: str, is_same: bool
) -> None:
    """Clients read arguments and write them again: other spaces, another order, other forms of the same numbers."""
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    written = Written(ids_of(chat, WRITTEN_CALL), thinking=True)
    message = Message("assistant", text, "Hm.", (ToolCall("f", arguments, "call_1"),), written=written)
    assert chat.says(message) is is_same


def test_a_call_that_was_not_written_to_its_end_is_put_to_no_model(tmp_path: Path) -> None:
    """A client whose answer was cut off there got the text before it and no call."""
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    message = Message("assistant", "Look.", "Hm.")
    whole = ids_of(chat, WRITTEN_CALL)
    begins = len(ids_of(chat, WRITTEN_CALL[: WRITTEN_CALL.index("tool_calls>\n") + len("tool_calls>")]))
    assert chat.says(replace(message, written=Written(ids_of(chat, "Hm.</think>Look.\n\n"), thinking=True)))
    for end in range(begins, len(whole) + 1):
        assert not chat.says(replace(message, written=Written(whole[:end], thinking=True))), end


def test_a_call_that_was_rejected_is_put_to_no_model(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    wrong = WRITTEN_CALL.replace("[1, 2.0, true", "[1, 2.0, tru")
    for text in (wrong, WRITTEN_CALL.replace("</think>Look.", "Look.")):
        answer = Message("assistant", "Look.", "Hm.", written=Written(ids_of(chat, text), thinking=True))
        assert not chat.says(answer)
        unread = replace(answer, text="", reasoning="Hm.Look.")
        assert not chat.says(unread)


def test_where_conversations_with_one_beginning_part(tmp_path: Path) -> None:
    backend = opened(tmp_path, release="preview")
    chat = v4_chat(backend)
    assert chat is not None
    style = style_of(chat.release, "high")
    with_system = chat.prompt([Message("system", "Be kind."), Message("user", "Hi")], style)
    assert chat.forks(with_system) == (1 + len("Be kind."),)
    assert chat.forks(chat.prompt([Message("user", "Hi")], style)) == ()
