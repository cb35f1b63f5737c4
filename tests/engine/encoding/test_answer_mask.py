import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from engine.answer_form import AnswerForm
from engine.backends.scripted import ScriptedBackend
from engine.encoding.answer_mask import AnswerMask, answer_mask
from engine.encoding.completion import Completion
from engine.encoding.tool_schemas import check_calls
from engine.encoding.v4_chat import V4Chat, v4_chat
from tests.engine.encoding.properties import for_all
from tests.engine.encoding.random_answers import functions, schemas, wander


class Model:
    """A scripted V4: one token for each byte, and V4's control tokens."""

    def __init__(self, folder: Path, release: str = "preview") -> None:
        path = folder / f"{release}.script.json"
        path.write_text(json.dumps({"replies": [{"text": ""}], "release": release}), "utf-8")
        self.backend = ScriptedBackend.open(
            path, name="V4", context_tokens=4096, on_progress=lambda _done: True
        )
        chat = v4_chat(self.backend)
        assert chat is not None
        self.chat: V4Chat = chat
        self.mark_id = self.chat.control["｜DSML｜"]
        self.token_bytes = [
            self.backend.token_bytes(id_) for id_ in range(self.backend.facts.vocabulary_size)
        ]

    def mask(self, form: AnswerForm, functions: Any = (), *, thinking: bool = False) -> AnswerMask:
        mask = answer_mask(self.backend, self.chat, form, functions, thinking=thinking)
        assert mask is not None
        return mask

    def answer(self, mask: AnswerMask, seed: int, **more: Any) -> list[int] | None:
        ends = self.backend.facts.end_token_ids
        return wander(mask, self.token_bytes, ends, [self.mark_id, self.chat.think_end_id], seed=seed, **more)

    def read(self, ids: list[int], *, thinking: bool) -> Completion:
        parser = self.chat.parser(thinking=thinking)
        parser.feed(self.chat.text_of(ids) + self.chat.release.tokens.end)
        return parser.finish()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(tmp_path_factory.mktemp("scripts"))


def holds(text: str, schema: Any) -> None:
    Draft202012Validator(schema).validate(json.loads(text))


@for_all(schema=schemas(), thinking=st.booleans(), seed=st.integers(0, 10**6), examples=300)
def test_any_answer_that_is_let_through_follows_its_schema(
    model: Model, schema: Any, thinking: bool, seed: int
) -> None:
    mask = model.mask(AnswerForm(json_schema=json.dumps(schema)), thinking=thinking)
    ids = model.answer(mask, seed)
    if ids is not None:
        whole = model.read(ids, thinking=thinking)
        assert whole.problems == ()
        holds(whole.text, schema)


@for_all(
    declared=functions(),
    calls=st.sampled_from(["required", "named", "auto"]),
    parallel=st.booleans(),
    thinking=st.booleans(),
    seed=st.integers(0, 10**6),
    examples=300,
)
def test_any_call_that_is_let_through_is_accepted(
    model: Model, declared: Any, calls: Any, parallel: bool, thinking: bool, seed: int
) -> None:
    names = tuple(each["name"] for each in declared[:1])
    form = AnswerForm(
        calls=calls, call_names=names if calls == "named" else (), parallel=parallel, strict=True
    )
    ids = model.answer(model.mask(form, declared, thinking=thinking), seed)
    if ids is None:
        return
    whole = model.read(ids, thinking=thinking)
    if calls == "auto" and thinking and whole.problems:
        # Where no call is asked for, an answer may be as empty as a model leaves it.
        assert [each.code for each in whole.problems] == ["reasoning_unclosed"]
    else:
        assert whole.problems == ()
    found = list(whole.calls)
    check_calls(found, declared)
    assert [(call.status, call.problem) for call in found] == [("exact", None)] * len(found)
    assert calls == "auto" or found
    assert parallel or len(found) <= 1
    if calls == "named":
        assert {call.name for call in found} == set(names)
