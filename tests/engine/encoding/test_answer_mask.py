import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from engine.answer_form import AnswerForm
from engine.backends.base import ModelFacts
from engine.backends.scripted import ScriptedBackend
from engine.encoding import answer_mask as answer_mask_module
from engine.encoding.answer_mask import AnswerMask, answer_mask, check_form
from engine.encoding.completion import Completion
from engine.encoding.tool_schemas import check_calls
from engine.encoding.v4_chat import V4Chat, v4_chat
from engine.errors import FormRefused
from tests.engine.encoding.hostile_schemas import HOSTILE, as_text
from tests.engine.encoding.properties import for_all
from tests.engine.encoding.random_answers import any_schemas, functions, schemas, wander

D = "｜DSML｜"
EXAMPLES = 30
"""Of each property; `make slow` tries ten times as many."""


class Merged(ScriptedBackend):
    """A scripted V4 that has longer tokens too, as a real vocabulary does: parts of its own marks among them."""

    MERGES = (
        "｜DSML｜", "｜D", "SML｜", "ML｜x", "L", "<｜end▁of", "▁sentence｜>", "｜>", "</think", "think>", "</", '"}',
        '": "', '">', "\n\n<", '", "', "}}", "]}", "true", '="', " ", "\n", "ab", 'a"', "parameter", ' name="a', "<a",
    )  # fmt: skip

    @property
    def facts(self) -> ModelFacts:
        """With room for the longer ones."""
        facts = super().facts
        return replace(facts, vocabulary_size=facts.vocabulary_size + len(self.MERGES))

    def token_bytes(self, token_id: int) -> bytes:
        """Longer ones have the ids behind the control tokens."""
        known = super().facts.vocabulary_size
        return super().token_bytes(token_id) if token_id < known else self.MERGES[token_id - known].encode()


class Model:
    """A scripted V4 with longer tokens."""

    def __init__(self, folder: Path, release: str = "preview") -> None:
        path = folder / f"{release}.script.json"
        path.write_text(json.dumps({"replies": [{"text": ""}], "release": release}), "utf-8")
        self.backend = Merged.open(path, name="V4", context_tokens=4096, on_progress=lambda _done: True)
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


@for_all(schema=schemas(), thinking=st.booleans(), seed=st.integers(0, 10**6), examples=EXAMPLES)
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
    examples=EXAMPLES,
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


def spell(model: Model, mask: AnswerMask, text: str) -> str | None:
    """Write `text`, the mark in it as its control token; what of it was not allowed, None: nothing."""
    for number, piece in enumerate(text.split(D)):
        tokens = [*([model.mark_id] if number else []), *piece.encode()]
        for place, token_id in enumerate(tokens):
            if token_id not in mask.allowed():
                return bytes(id_ for id_ in tokens[place:] if id_ < 256).decode("utf-8", "replace") or D
            mask.saw(token_id)
    return None


def ended(model: Model, mask: AnswerMask) -> bool:
    return mask.allowed().tolist() == sorted(model.backend.facts.end_token_ids)


def block(*parameters: str, name: str = "get") -> str:
    return (
        f'\n\n<{D}tool_calls>\n<{D}invoke name="{name}">\n{"".join(parameters)}</{D}invoke>\n</{D}tool_calls>'
    )


def parameter(key: str, value: str, kind: str = "true") -> str:
    return f'<{D}parameter name="{key}" string="{kind}">{value}</{D}parameter>\n'


FREE = {"name": "get", "parameters": {"type": "object"}}
CITY = {
    "name": "get",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
ODD = {"name": "odd", "parameters": {"type": "object", "properties": {"a": {"uniqueItems": True}}}}


def test_nothing_is_masked_where_nothing_is_asked_for(model: Model) -> None:
    for form, declared in ((AnswerForm(), ()), (AnswerForm(), [CITY]), (AnswerForm(calls="none"), ())):
        assert answer_mask(model.backend, model.chat, form, declared, thinking=True) is None


def test_reasoning_is_free_but_does_not_end_the_answer(model: Model) -> None:
    mask = model.mask(AnswerForm(json_schema="{}"), thinking=True)
    assert spell(model, mask, '{"not": json') is None
    allowed = set(mask.allowed().tolist())
    assert model.chat.think_end_id in allowed
    assert not allowed & {*model.backend.facts.end_token_ids, model.mark_id}
    mask.saw(model.chat.think_end_id)
    assert model.chat.think_end_id not in mask.allowed()
    assert spell(model, mask, '{"a": [1, null]}') is None
    assert ended(model, mask)


@pytest.mark.parametrize("literal", ["｜DSML｜", "</think>", "<｜end▁of▁sentence｜>"])
def test_marks_cannot_be_spelled_out(model: Model, literal: str) -> None:
    """By no way to cut them into tokens: one that is written so would be read as the mark."""
    text = literal.encode()
    ids = {data: id_ for id_, data in enumerate(model.token_bytes) if data and data in text}
    waiting = [(b"", ())]
    ways = 0
    while waiting:
        written, tokens = waiting.pop()
        if written == text:
            ways += 1
            mask = model.mask(AnswerForm(json_schema="{}"), thinking=True)
            for token_id in tokens[:-1]:
                assert token_id in mask.allowed()
                mask.saw(token_id)
            assert tokens[-1] not in mask.allowed()
            continue
        for data, id_ in ids.items():
            if text.startswith(written + data) and (len(data) > 1 or len(tokens) >= len(written)):
                waiting.append((written + data, (*tokens, id_)))
    assert ways


def test_a_text_in_a_call_may_hold_what_looks_like_the_end(model: Model) -> None:
    mask = model.mask(AnswerForm(calls="required"), [CITY])
    text = block(parameter("city", "<｜end▁of▁sentence｜></think></city>\n</"))
    assert spell(model, mask, text) is None
    assert ended(model, mask)
    whole = model.read([*text.encode()], thinking=False) if D not in text else None
    assert whole is None


def test_a_key_stands_once_in_a_call_that_takes_any(model: Model) -> None:
    mask = model.mask(AnswerForm(calls="required"), [FREE])
    again = parameter("a", "1") + parameter("b", 'x name="a" y') + f'<{D}parameter name="a'
    assert spell(model, mask, block().partition("</")[0] + again) is None
    assert ord('"') not in mask.allowed()
    assert spell(model, mask, 'b" string="false">[1]') is None
    # In another call it may stand again.
    both = model.mask(AnswerForm(calls="required"), [FREE])
    call = f'<{D}invoke name="get">\n{parameter("a", "1")}</{D}invoke>\n'
    assert spell(model, both, f"\n\n<{D}tool_calls>\n{call}{call}</{D}tool_calls>") is None
    assert ended(model, both)


def test_a_function_that_cannot_be_followed_takes_any_arguments_unless_it_is_strict(model: Model) -> None:
    mask = model.mask(AnswerForm(calls="required"), [CITY, ODD])
    assert spell(model, mask, block(parameter("x", "{}", "false"), name="odd")) is None
    mask = model.mask(AnswerForm(calls="required"), [CITY, ODD])
    assert spell(model, mask, block(parameter("x", "y"))) is not None
    for form, declared in (
        (AnswerForm(calls="required", strict=True), [CITY, ODD]),
        (AnswerForm(), [CITY, {**ODD, "strict": True}]),
    ):
        with pytest.raises(FormRefused, match="'odd' was refused: `uniqueItems` at /properties/a"):
            check_form(form, declared)


def test_text_is_free_until_a_block_begins(model: Model) -> None:
    mask = model.mask(AnswerForm(), [{**CITY, "strict": True}])
    assert spell(model, mask, "Let me look: <b>") is None
    assert not {model.mark_id} & set(mask.allowed().tolist())
    assert set(mask.allowed().tolist()) >= model.backend.facts.end_token_ids
    assert spell(model, mask, block(parameter("town", "Bern"))) == 'town" string="true">Bern</'
    mask = model.mask(AnswerForm(), [{**CITY, "strict": True}])
    assert spell(model, mask, "Fine." + block(parameter("city", "Bern"))) is None
    assert ended(model, mask)


def test_no_call_is_made_where_none_is_wanted(model: Model) -> None:
    mask = model.mask(AnswerForm(calls="none"), [CITY])
    assert spell(model, mask, "Well.\n\n<") is None
    assert model.mark_id not in mask.allowed()


def test_an_answer_that_is_begun(model: Model) -> None:
    form = AnswerForm(json_schema=json.dumps({"type": "object", "properties": {"a": {"type": "integer"}}}))
    mask = answer_mask(model.backend, model.chat, form, (), thinking=False, begun='{"a": 1')
    assert mask is not None
    assert spell(model, mask, "2}") is None
    with pytest.raises(FormRefused, match="begins with does not follow"):
        answer_mask(model.backend, model.chat, form, (), thinking=False, begun="Here")


def test_a_model_with_a_template_has_json_alone(model: Model) -> None:
    mask = answer_mask(model.backend, None, AnswerForm(json_schema="{}"), (), thinking=False)
    assert mask is not None
    assert mask.allowed().tolist() == [*b"{"]
    with pytest.raises(FormRefused, match="no agreed way"):
        answer_mask(model.backend, None, AnswerForm(calls="required"), [CITY], thinking=False)
    assert answer_mask(model.backend, None, AnswerForm(), (), thinking=False) is None


@pytest.mark.parametrize(
    ("form", "declared", "says"),
    [
        (AnswerForm(calls="named", call_names=("put",)), [CITY], "'put' is asked for"),
        (AnswerForm(calls="required"), [], "no function is declared"),
        (AnswerForm(calls="required"), [CITY, CITY], "two functions are called 'get'"),
        (AnswerForm(calls="required"), [{"name": "f", "parameters": {"x": "y" * (1 << 20)}}], "more than"),
        (AnswerForm(json_schema=json.dumps({"const": "｜DSML｜"})), [], "V4's own mark"),
    ],
)
def test_forms_that_cannot_be_had(form: AnswerForm, declared: Any, says: str) -> None:
    with pytest.raises(FormRefused, match=says):
        check_form(form, declared)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_schemas_are_refused_or_followed(model: Model, name: str) -> None:
    """As the schema of an answer, and as that of a function's parameter: a sentence, or an answer's first tokens."""
    schema = HOSTILE[name]
    parameters = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    declared = [{"name": "get", "parameters": parameters}]
    for form, functions_declared in (
        (AnswerForm(json_schema=as_text(schema)), []),
        (AnswerForm(calls="required", strict=True), declared),
    ):
        try:
            check_form(form, functions_declared)
        except FormRefused as error:
            assert "was refused: " in error.text
            assert len(error.text) < 700
        else:
            mask = model.mask(form, functions_declared)
            try:
                ids = model.answer(mask, 3, most=40, free=15)
            except FormRefused as error:
                assert "became too complex" in error.text
            else:
                assert ids is None or set(mask.allowed().tolist()) >= model.backend.facts.end_token_ids


def test_many_functions_that_cannot_be_followed_are_let_off_together(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    real = answer_mask_module._try_calls
    monkeypatch.setattr(answer_mask_module, "_try_calls", lambda some: (tries.append(len(some)), real(some)))
    step = {"type": "object", "properties": {"a": {"oneOf": [{"type": "number"}, {"type": "integer"}]}}}
    declared = [{"name": f"f{number}", "parameters": step} for number in range(60)]
    check_form(AnswerForm(calls="required"), declared)
    assert tries == [60, *[1] * 16, 60]
    with pytest.raises(FormRefused, match="'f0' was refused: the choices of a `oneOf`"):
        check_form(AnswerForm(calls="required", strict=True), declared)


@pytest.mark.slow
def test_answers_follow_schemas_of_every_keyword_that_is_enforced(model: Model) -> None:
    followed: list[bool] = []

    @for_all(schema=any_schemas(), seed=st.integers(0, 10**6), examples=10 * EXAMPLES)
    def follows(schema: Any, seed: int) -> None:
        try:
            mask = model.mask(AnswerForm(json_schema=json.dumps(schema)))
        except FormRefused:
            followed.append(False)
            return
        ids = model.answer(mask, seed, most=600)
        if ids is not None:
            holds(model.read(ids, thinking=False).text, schema)
            followed.append(True)

    follows()
    assert sum(followed) > len(followed) / 3


@pytest.mark.slow
def test_calls_are_accepted_ten_times_as_often(model: Model) -> None:
    @for_all(declared=functions(), seed=st.integers(0, 10**6), examples=10 * EXAMPLES)
    def accepted(declared: Any, seed: int) -> None:
        ids = model.answer(model.mask(AnswerForm(calls="required", strict=True), declared), seed)
        if ids is not None:
            whole = model.read(ids, thinking=False)
            check_calls(whole.calls, declared)
            assert not whole.problems
            assert {call.status for call in whole.calls} == {"exact"}

    accepted()
