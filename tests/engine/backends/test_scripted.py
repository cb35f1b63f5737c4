import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.base import Cancelled, ContextState, SyncReport
from engine.backends.scripted import (
    ASSISTANT,
    BEGIN,
    CRASH_STATUS,
    END,
    NO_REPLY,
    USER,
    ScriptedBackend,
    read_script,
)
from engine.errors import GenerationError, ModelFileError, ModelLoadError

Scripted = Callable[..., ScriptedBackend]


def ask(text: str) -> list[int]:
    return [BEGIN, USER, *text.encode(), END, ASSISTANT]


def quiet(done: int, total: int, reused: int) -> None:
    pass


def never() -> bool:
    return False


def answer(backend: ScriptedBackend, prompt: list[int], limit: int = 10_000) -> str:
    backend.sync(prompt, quiet, never)
    token_id, data = int(backend.logits().argmax()), b""
    while token_id != END and len(data) < limit:
        data += backend.token_bytes(token_id)
        token_id = int(backend.step(token_id).argmax())
    return data.decode()


def test_replies_are_chosen_by_the_last_user_message(scripted: Scripted) -> None:
    backend = scripted({"match": "weather", "text": "Rain."}, {"match": "name", "text": "Script."})
    assert answer(backend, ask("How is the weather?")) == "Rain."
    assert answer(backend, [*ask("the weather?"), *b"Rain.", END, *ask("Your name?")]) == "Script."
    assert answer(backend, ask("Nothing")) == NO_REPLY


def test_filler_text_of_a_length(scripted: Scripted) -> None:
    assert len(answer(scripted({"tokens": 4000}), ask("x"))) == 4000
    assert answer(scripted({"text": "aé", "tokens": 5}), ask("x")) == "aéa"


def test_reuse_and_rebuild_are_told(scripted: Scripted) -> None:
    backend = scripted({"text": "ok"}, chunk_tokens=3)
    seen: list[tuple[int, int, int]] = []

    def record(done: int, total: int, reused: int) -> None:
        seen.append((done, total, reused))

    prompt = ask("hello")
    assert backend.sync(prompt, record, never) == SyncReport(0, 9)
    assert seen == [(0, 9, 0), (3, 9, 0), (6, 9, 0), (9, 9, 0)]
    assert backend.sync(prompt, record, never) == SyncReport(9, 0)
    backend.step(ord("o"))
    assert [backend.reusable(each) for each in (prompt, [*prompt, *b"ok"], prompt[:4], [1])] == [9, 10, 4, 0]
    assert backend.sync(prompt, record, never) == SyncReport(8, 1)
    assert backend.sync([*prompt, *b"ok"], record, never) == SyncReport(9, 2)
    assert int(backend.logits().argmax()) == END
    assert backend.sync(ask("help"), record, never) == SyncReport(5, 3)
    backend.close()
    assert backend.sync(prompt, record, never) == SyncReport(0, 9)


def test_cancelling_between_chunks_leaves_a_valid_prefix(scripted: Scripted) -> None:
    backend = scripted(chunk_tokens=2)
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        backend.sync(ask("hello"), quiet, lambda: next(asked))
    with pytest.raises(ValueError, match="sync first"):
        backend.logits()
    assert backend.sync(ask("hello"), quiet, never) == SyncReport(4, 5)


def test_failing_on_one_token_only(scripted: Scripted) -> None:
    backend = scripted({"text": "abcdef", "fail_after": 3})
    prompt = ask("x")
    with pytest.raises(GenerationError, match="fails after 3"):
        answer(backend, prompt)
    backend.sync([*prompt, *b"abc"], quiet, never)
    assert chr(int(backend.step(ord("d")).argmax())) == "e"


def test_crashing(tmp_path: Path) -> None:
    path = tmp_path / "crash.script.json"
    path.write_text(json.dumps({"replies": [{"text": "abc", "crash_after": 2}]}), encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from engine.backends.scripted import *\n"
        "path = Path(sys.argv[1])\n"
        "b = ScriptedBackend.open(path, name='x', context_tokens=99, on_progress=lambda f: True)\n"
        "b.sync([USER, ASSISTANT], lambda *a: None, lambda: False)\n"
        "b.step(97); print('one', flush=True); b.step(98); print('two', flush=True)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, cwd=root, check=False
    )
    assert (done.returncode, done.stdout) == (CRASH_STATUS, "one\n"), done.stderr


def test_delays_are_kept(scripted: Scripted) -> None:
    backend = scripted({"text": "abc", "delay_s": 0.02, "prefill_delay_s": 0.03}, chunk_tokens=4)
    began_s = time.perf_counter()
    assert answer(backend, ask("12")) == "abc"  # two chunks, three tokens
    assert time.perf_counter() - began_s >= 2 * 0.03 + 3 * 0.02


def test_it_is_quick(scripted: Scripted) -> None:
    backend = scripted({"tokens": 20_000}, context=65_536)
    began_s = time.perf_counter()
    assert len(answer(backend, ask("x"), limit=20_000)) == 20_000
    assert 20_000 / (time.perf_counter() - began_s) > 5000


def test_loading(tmp_path: Path) -> None:
    path = tmp_path / "x.script.json"
    path.write_text(json.dumps({"replies": [{}], "context_tokens": 50, "name": "Own"}), encoding="utf-8")
    fractions: list[float] = []

    def on_progress(fraction: float) -> bool:
        fractions.append(fraction)
        return True

    backend = ScriptedBackend.open(path, name="Entry", context_tokens=99, on_progress=on_progress)
    assert (fractions[0], fractions[-1]) == (0, 1)
    assert (backend.facts.name, backend.facts.context_tokens) == ("Own", 50)
    with pytest.raises(ModelLoadError, match="stopped"):
        ScriptedBackend.open(path, name="Entry", context_tokens=99, on_progress=lambda _fraction: False)
    path.write_text(json.dumps({"replies": [{}], "load_error": "no memory"}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="no memory"):
        ScriptedBackend.open(path, name="Entry", context_tokens=99, on_progress=on_progress)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("not json", "not JSON"),
        ("[]", "the whole"),
        ("{}", "replies"),
        ({"replies": []}, "replies"),
        ({"replies": [{"texts": "x"}]}, "replies.0.texts"),
        ({"replies": [{"delay_s": -1}]}, "replies.0.delay_s"),
        ({"replies": [{"text": 5}]}, "replies.0.text"),
        ({"replies": [{}], "chunk_tokens": 0}, "chunk_tokens"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
    ],
)
def test_a_wrong_script_says_what_is_wrong(tmp_path: Path, content: Any, names: str) -> None:
    path = tmp_path / "bad.script.json"
    data = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    with pytest.raises(ModelFileError) as caught:
        read_script(path)
    assert names in caught.value.text
    assert "bad.script.json" in caught.value.text


def test_a_missing_script(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_script(tmp_path / "none.script.json")


@pytest.mark.parametrize("size", [0, 5000])
def test_a_prefix_must_fit(scripted: Scripted, size: int) -> None:
    with pytest.raises(ValueError, match="context"):
        scripted().sync([65] * size, quiet, never)


def v4(tmp_path: Path, *replies: dict[str, Any], **more: Any) -> ScriptedBackend:
    path = tmp_path / "v4.script.json"
    path.write_text(json.dumps({"release": "preview", "replies": replies, **more}), "utf-8")
    return ScriptedBackend.open(path, name="v4", context_tokens=999, on_progress=lambda _fraction: True)


def test_with_a_release_it_is_a_v4(tmp_path: Path) -> None:
    backend = v4(
        tmp_path,
        {"mode": "think", "text": "Hm</think>A｜DSML｜b"},
        {"mode": "non-think", "text": "B"},
        title="T",
    )
    control = backend.facts.control_tokens
    assert (backend.facts.architecture, backend.facts.release_names) == ("deepseek4", ("preview",))
    user, assistant, end = (control[f"<｜{name}｜>"] for name in ("User", "Assistant", "end▁of▁sentence"))

    def written(prompt: list[int]) -> list[int]:
        backend.sync(prompt, quiet, never)
        ids, token_id = [], int(backend.logits().argmax())
        while token_id != end:
            ids.append(token_id)
            token_id = int(backend.step(token_id).argmax())
        return ids

    asked = [user, *b"?", assistant]
    thought = written([*asked, control["<think>"]])
    assert thought == [*b"Hm", control["</think>"], *b"A", control["｜DSML｜"], *b"b"]
    assert written([*asked, control["</think>"]]) == [*b"B"]
    # A reasoning that is ended early goes on behind its own end.
    backend.sync([*asked, control["<think>"], ord("H"), control["</think>"]], quiet, never)
    assert int(backend.logits().argmax()) == ord("A")
    assert written([*asked, control["</think>"], ord("B"), end, control["<｜title｜>"]]) == [*b"T"]


def test_a_release_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no release 'V9'"):
        v4(tmp_path, {"text": ""}, release="V9")


def test_a_fork_leaves_no_trace(scripted: Scripted) -> None:
    backend = scripted({"text": "abc"})
    prompt = ask("x")
    backend.sync(prompt, quiet, never)
    backend.step(ord("a"))
    with backend.fork():
        backend.sync([*prompt, ord("a"), END, USER, ASSISTANT], quiet, never)
        backend.step(ord("z"))
    assert list(backend.held) == [*prompt, ord("a")]
    assert int(backend.logits().argmax()) == ord("b")


def room(size_bytes: int) -> NDArray[np.uint8]:
    return np.empty(size_bytes, np.uint8)


def test_a_state_takes_another_backend_to_the_same_place(scripted: Scripted) -> None:
    first, second = scripted({"text": "Rain, then sun."}), scripted({"text": "Rain, then sun."})
    assert first.save(room) is None
    assert first.state_bytes() == 0
    first.sync(ask("weather"), quiet, never)
    for byte in b"Rain":
        first.step(byte)
    state = first.save(room)
    assert state is not None
    assert state.whole.nbytes == first.state_bytes()
    assert second.facts.state_key == first.facts.state_key != ""
    second.load(state)
    assert list(second.held) == list(first.held)
    assert np.array_equal(second.logits(), first.logits())
    assert int(second.step(ord(",")).argmax()) == ord(" ")
    second.load(state, 5)
    assert list(second.held) == list(state.tokens[:5])
    with pytest.raises(ValueError, match="no logits"):
        second.logits()
    assert second.sync(state.tokens, quiet, never) == SyncReport(5, len(state.tokens) - 5)
    second.load(ContextState((), np.zeros(0, np.uint8)))
    assert list(second.held) == []


def test_a_state_with_any_byte_changed_is_refused(scripted: Scripted) -> None:
    backend = scripted({"text": "Rain."})
    backend.sync(ask("x"), quiet, never)
    state = backend.save(room)
    assert state is not None
    for place in range(state.whole.nbytes):
        whole = state.whole.copy()
        whole[place] ^= 1
        with pytest.raises(GenerationError, match="damaged"):
            backend.load(replace(state, whole=whole))
        assert list(backend.held) == []
    for length in (0, len(state.tokens) + 1, -1):
        with pytest.raises(GenerationError, match="are wanted"):
            backend.load(state, length)


def test_keys_tell_scripts_apart_by_what_they_say(scripted: Scripted) -> None:
    plain, slow, other = (
        scripted(reply).facts
        for reply in ({"text": "a"}, {"text": "a", "delay_s": 1.0, "crash_after": 3}, {"text": "b"})
    )
    assert (plain.state_key, plain.exact_key) == (slow.state_key, slow.exact_key)
    assert plain.state_key == other.state_key
    assert plain.exact_key != other.exact_key


def test_without_rewinding_it_is_brought_back_to_where_chunks_end(tmp_path: Path) -> None:
    backend = v4(tmp_path, {"text": "Yes."}, rewinds=False, chunk_tokens=8)
    prompt = list(b"abcdefghijklmnopqrstuvwxyz")
    assert not backend.facts.states_rewind
    backend.sync(prompt, quiet, never)
    for token in b"Yes":
        backend.step(token)
    places = {length: backend.reusable([*prompt[:length], 1, 2, 3]) for length in (7, 8, 23, 24, 25)}
    assert places == {7: 0, 8: 8, 23: 16, 24: 24, 25: 24}
    assert backend.reusable([*prompt, *b"Yes", 1]) == 29
    state = backend.save(room)
    assert state is not None and [mark.tokens for mark in state.marks] == [8, 16, 24]
    other = v4(tmp_path, {"text": "Yes."}, rewinds=False, chunk_tokens=8)
    other.load(state, 16)
    assert list(other.held) == prompt[:16]
    with pytest.raises(GenerationError, match="cannot be brought back to 17"):
        other.load(state, 17)


@pytest.mark.parametrize(
    ("allowed", "likeliest"),
    [(b'abc"}', b'"'), (b",}", b"}"), (b",]", b"]"), (b"0123", b"0"), (b"ab<", b"<"), (b"xyz", b"x")],
)
def test_where_the_script_may_not_be_followed_what_closes_is_likeliest(
    scripted: Scripted, allowed: bytes, likeliest: bytes
) -> None:
    backend = scripted({"text": "?"})
    backend.sync([BEGIN, USER, *b"Hi", ASSISTANT], lambda *_: None, lambda: False)
    logits = backend.logits()
    assert max(allowed, key=lambda token: (logits[token], -token)) == likeliest[0]
    assert int(logits.argmax()) == ord("?")
    assert logits[[*allowed, END]].argmax() == len(allowed)
    # As soon as it has been left, the way out of a call's value is told too.
    assert int(backend.step(ord("<"))[[*b'"/<']].argmax()) == 1
