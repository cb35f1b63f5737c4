import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import generation
from engine.backends.base import Backend, ExpertCounts, Logits
from engine.backends.scripted import ASSISTANT, BEGIN, END, USER, ScriptedBackend
from engine.contexts.context import BareContext
from engine.errors import GenerationError, PromptTooLong
from engine.expert_meter import ExpertCost, ExpertMeter
from engine.generation import GenerationRequest, NewText, Outcome, PrefillProgress, generate
from engine.protocol import Sampling
from engine.token_bias import TokenBias

Scripted = Callable[..., ScriptedBackend]
SAMPLING = Sampling(seed=11)
PROMPT = (BEGIN, USER, *b"Hi", ASSISTANT)


def never() -> bool:
    return False


class Listener:
    """Collects what is emitted."""

    def __init__(self) -> None:
        self.events: list[PrefillProgress | NewText | ExpertCost] = []

    def __call__(self, event: PrefillProgress | NewText | ExpertCost) -> None:
        self.events.append(event)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, NewText)]

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def ids(self) -> tuple[int, ...]:
        return tuple(i for event in self.events if isinstance(event, NewText) for i in event.token_ids)

    @property
    def progress(self) -> list[PrefillProgress]:
        return [event for event in self.events if isinstance(event, PrefillProgress)]


def run(
    backend: Backend,
    *,
    prompt: tuple[int, ...] = PROMPT,
    sampling: Sampling = SAMPLING,
    max_tokens: int | None = None,
    stop: tuple[str, ...] = (),
    already: tuple[int, ...] = (),
    stops_until: int | None = None,
    cancelled: Callable[[], bool] = never,
) -> tuple[Outcome, Listener]:
    listener = Listener()
    request = GenerationRequest(prompt, sampling, max_tokens, stop, already, stops_until=stops_until)
    return generate(BareContext(backend), request, listener, cancelled), listener


def test_the_whole_answer_with_its_tokens_and_cost(scripted: Scripted) -> None:
    outcome, heard = run(scripted({"text": "Grüße 😀!"}))
    data = "Grüße 😀!".encode()
    assert outcome.reason == "stop"
    assert heard.text == "Grüße 😀!"
    assert heard.ids == tuple(data)
    usage = outcome.usage
    assert (usage.prompt_tokens, usage.reused_tokens, usage.generated_tokens) == (5, 0, len(data))
    assert (usage.context_tokens, usage.seed) == (4096, 11)
    assert usage.prefill_rate > 0
    assert usage.generation_rate > 0
    assert usage.first_token_s > 0


def test_a_characters_tokens_travel_with_its_text(scripted: Scripted) -> None:
    _, heard = run(scripted({"text": "a😀b"}))
    news = [event for event in heard.events if isinstance(event, NewText)]
    assert [(event.text, len(event.token_ids)) for event in news] == [("a", 1), ("😀", 4), ("b", 1)]


def test_prefill_progress_per_chunk_and_reuse_next_time(scripted: Scripted) -> None:
    backend = scripted({"text": "ok"}, chunk_tokens=2)
    outcome, heard = run(backend)
    assert [(p.done, p.total, p.reused) for p in heard.progress] == [
        (0, 5, 0),
        (2, 5, 0),
        (4, 5, 0),
        (5, 5, 0),
    ]
    assert outcome.usage.reused_tokens == 0
    longer = (*PROMPT, *b"ok", USER, *b"?", ASSISTANT)
    outcome, heard = run(backend, prompt=longer)
    assert outcome.usage.reused_tokens == 7
    assert heard.progress[0] == PrefillProgress(7, 10, 7)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 10.0])
def test_every_sampling_setting_gives_the_script(scripted: Scripted, temperature: float) -> None:
    for top_p, min_p in ((1.0, 0.0), (0.9, 0.0), (1.0, 0.2)):
        sampling = Sampling(temperature=temperature, top_p=top_p, min_p=min_p, seed=3)
        assert run(scripted({"text": "As written."}), sampling=sampling)[1].text == "As written."


def test_max_tokens_ends_with_length_and_is_not_evaluated_further(scripted: Scripted) -> None:
    # fail_after 3: stepping the third token would fail, so it must only be drawn.
    outcome, heard = run(scripted({"text": "abcdef", "fail_after": 3}), max_tokens=3)
    assert (outcome.reason, heard.text, outcome.usage.generated_tokens) == ("length", "abc", 3)


def test_an_answer_that_has_all_its_tokens_ends_without_reading_anything(scripted: Scripted) -> None:
    backend = scripted({"text": "abc"})
    room = backend.facts.context_tokens - len(PROMPT)
    for already in (tuple(b"ab"), tuple(b"a" * room)):
        outcome, heard = run(backend, already=already, max_tokens=0)
        assert (outcome.reason, outcome.usage.generated_tokens, heard.events) == ("length", 0, [])
        assert outcome.usage.prompt_tokens == len(PROMPT) + len(already)
        assert list(backend.held) == []


def test_a_full_context_ends_with_length(scripted: Scripted) -> None:
    outcome, heard = run(scripted({"text": "x" * 100}, context=20))
    assert outcome.reason == "length"
    assert len(heard.ids) == 20 - len(PROMPT)


def test_a_character_cut_by_length_completes_when_continued(scripted: Scripted) -> None:
    backend = scripted({"text": "ab€cd"})
    first, heard = run(backend, max_tokens=4)
    assert (first.reason, heard.text, heard.ids) == ("length", "ab", tuple("ab€".encode()[:4]))
    second, more = run(backend, already=heard.ids)
    assert (second.reason, more.text) == ("stop", "€cd")
    assert heard.ids + more.ids == tuple("ab€cd".encode())
    assert second.usage.prompt_tokens == len(PROMPT) + 4
    assert second.usage.generated_tokens == 3


def test_an_incomplete_character_before_an_end_token_is_replaced(scripted: Scripted) -> None:
    backend = scripted({"text": "a"})
    outcome, heard = run(backend, already=(0xE2,))
    # The script goes by position: one byte is there already, so only the end is left.
    assert (outcome.reason, heard.text, heard.ids) == ("stop", "\ufffd", ())


class Positions:
    """A backend whose logits are flat; draws then show what the sampler was given."""

    def __init__(self, inner: ScriptedBackend) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def logits(self) -> Logits:
        flat = self.inner.logits() * 0
        flat[256:] = -50  # no end token: only length ends this
        return flat

    def step(self, token_id: int) -> Logits:
        self.inner.step(token_id)
        return self.logits()


def test_a_continued_answer_is_drawn_as_if_it_had_never_stopped(scripted: Scripted) -> None:
    sampling = Sampling(temperature=1, top_p=1, min_p=0, seed=99)
    whole = run(Positions(scripted()), sampling=sampling, max_tokens=40)[1].ids
    first = run(Positions(scripted()), sampling=sampling, max_tokens=15)[1].ids
    rest = run(Positions(scripted()), sampling=sampling, max_tokens=25, already=first)[1].ids
    assert first + rest == whole
    assert len(set(whole)) > 20
    other = sampling.model_copy(update={"seed": 100})
    assert run(Positions(scripted()), sampling=other, max_tokens=40)[1].ids != whole


def test_stop_strings_cut_the_text(scripted: Scripted) -> None:
    outcome, heard = run(scripted({"text": "one two three"}), stop=("wo t", "never"))
    assert (outcome.reason, heard.text) == ("stop", "one t")
    assert heard.ids == tuple(b"one two t")


def test_what_was_held_for_a_stop_string_is_given_at_the_end(scripted: Scripted) -> None:
    assert run(scripted({"text": "a <en"}), stop=("<end>",))[1].text == "a <en"
    assert run(scripted({"text": "a <end"}), stop=("<end>",), max_tokens=4)[1].text == "a <e"


def test_cancelling_in_the_middle_of_the_text(scripted: Scripted) -> None:
    listener = Listener()
    request = GenerationRequest(PROMPT, SAMPLING, None)
    backend = scripted({"text": "0123456789"})
    outcome = generate(BareContext(backend), request, listener, lambda: len(listener.texts) >= 4)
    assert (outcome.reason, listener.text) == ("cancelled", "0123")
    assert outcome.usage.generated_tokens == 4
    rest = run(backend, already=listener.ids)[1]
    assert rest.text == "456789"


def test_cancelling_while_the_prompt_is_read(scripted: Scripted) -> None:
    listener = Listener()
    request = GenerationRequest((*PROMPT, *b"x" * 20), SAMPLING, None)
    outcome = generate(
        BareContext(scripted(chunk_tokens=4)), request, listener, lambda: len(listener.progress) >= 3
    )
    assert outcome.reason == "cancelled"
    assert listener.progress[-1] == PrefillProgress(8, 25, 0)
    assert (outcome.usage.generated_tokens, outcome.usage.first_token_s) == (0, 0.0)


def test_cancelled_before_it_began(scripted: Scripted) -> None:
    outcome, heard = run(scripted(), cancelled=lambda: True)
    assert outcome.reason == "cancelled"
    assert heard.events == []


@pytest.mark.parametrize(("prompt", "already"), [(10, 0), (11, 0), (6, 4)])
def test_a_prompt_that_does_not_fit(scripted: Scripted, prompt: int, already: int) -> None:
    with pytest.raises(PromptTooLong) as caught:
        run(scripted(context=10), prompt=(BEGIN,) * prompt, already=(65,) * already)
    assert f"it has {prompt + already} tokens and at most 9 fit" in caught.value.text
    assert "larger context in Settings" in caught.value.text


def test_no_larger_context_is_proposed_where_there_is_none(scripted: Scripted) -> None:
    with pytest.raises(PromptTooLong) as caught:
        run(scripted(context=100, context_tokens=16), prompt=(BEGIN,) * 16)
    assert "Settings" not in caught.value.text


def test_one_token_of_room_is_enough(scripted: Scripted) -> None:
    outcome, heard = run(scripted({"text": "ab"}, context=len(PROMPT) + 1))
    assert (outcome.reason, heard.text) == ("length", "a")


def test_a_failing_backend_is_heard_of_after_its_text(scripted: Scripted) -> None:
    listener = Listener()
    with pytest.raises(GenerationError, match="fails after 3"):
        generate(
            BareContext(scripted({"text": "abcdef", "fail_after": 3})),
            GenerationRequest(PROMPT, SAMPLING, None),
            listener,
            never,
        )
    assert listener.text == "abc"


def test_a_request_without_a_seed_is_a_mistake(scripted: Scripted) -> None:
    with pytest.raises(ValueError, match="seed"):
        run(scripted(), sampling=Sampling())


class Once:
    """Forces `token_id` as the `at`-th token."""

    def __init__(self, at: int, token_id: int) -> None:
        self.at, self.token_id = at, token_id
        self.seen: list[int] = []

    def forced(self) -> int | None:
        return self.token_id if len(self.seen) == self.at else None

    def saw(self, token_id: int) -> None:
        self.seen.append(token_id)


def test_a_guard_may_choose_a_token_and_sees_them_all(scripted: Scripted) -> None:
    guard, listener = Once(2, ord("X")), Listener()
    request = GenerationRequest(PROMPT, SAMPLING, 5, guard=guard)
    outcome = generate(BareContext(scripted({"text": "abcdef"})), request, listener, never)
    assert outcome.usage.generated_tokens == 5
    assert listener.text == "abXde"
    assert bytes(guard.seen) == b"abXde"


class Only:
    """Allows, by the number of tokens so far, these bytes; behind them the end alone."""

    def __init__(self, *allowed: bytes) -> None:
        self.allowed_bytes = allowed
        self.seen: list[int] = []

    def allowed(self) -> NDArray[np.intp]:
        place = len(self.seen)
        bytes_now = self.allowed_bytes[place] if place < len(self.allowed_bytes) else b""
        return np.array(sorted(bytes_now) or [END], np.intp)

    def saw(self, token_id: int) -> None:
        self.seen.append(token_id)


@pytest.mark.parametrize("temperature", [0.0, 1.0, 10.0])
def test_a_mask_limits_what_is_drawn(scripted: Scripted, temperature: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=0.9, min_p=0.1, seed=5)
    texts: list[str] = []
    for _ in range(2):
        mask, listener = Only(b"abc", b"xyz", b"c", b"de"), Listener()
        request = GenerationRequest(PROMPT, sampling, None, mask=mask, top_chances=1)
        outcome = generate(BareContext(scripted({"text": "abcdef"})), request, listener, never)
        assert outcome.reason == "stop"
        assert bytes(mask.seen).decode() == listener.text
        texts.append(listener.text)
        # How likely a token was is said of the model's own logits.
        chances = [e.chances[0] for e in listener.events if isinstance(e, NewText) and e.chances]
        assert [each.top[0][0] for each in chances] == list(b"abcd")
    assert texts[0] == texts[1]
    assert texts[0][0] == "a"
    assert texts[0][1] in "xyz"
    assert texts[0][2:] == "cd"


def test_a_guard_has_its_way_only_where_the_mask_allows_it(scripted: Scripted) -> None:
    for forced, text in ((b"b", "ab"), (b"X", "ac")):
        mask, guard, listener = Only(b"a", b"bc"), Once(1, forced[0]), Listener()
        request = GenerationRequest(PROMPT, SAMPLING, None, guard=guard, mask=mask)
        generate(BareContext(scripted({"text": "acc"})), request, listener, never)
        assert listener.text == text
        assert guard.seen == mask.seen


def test_a_mask_and_a_bias_count_together(scripted: Scripted) -> None:
    listener = Listener()
    bias = TokenBias({ord("b"): 1e6, ord("z"): 1e7})
    request = GenerationRequest(PROMPT, SAMPLING, None, bias=bias, mask=Only(b"ab"))
    generate(BareContext(scripted({"text": "aaa"})), request, listener, never)
    assert listener.text == "b"


def test_control_tokens_are_told_as_their_literals(scripted: Scripted) -> None:
    listener = Listener()
    request = GenerationRequest(PROMPT, SAMPLING, 3, guard=Once(1, USER), literals={USER: b"<u>"})
    generate(BareContext(scripted({"text": "abc"})), request, listener, never)
    assert listener.text == "a<u>c"
    assert listener.ids == (ord("a"), USER, ord("c"))


def test_what_experts_cost_is_told_while_it_is_written_and_at_the_end(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = scripted({"text": "Hello there"})
    seconds = itertools.count()
    meter = partial(ExpertMeter, clock=lambda: float(next(seconds)))
    monkeypatch.setattr(generation, "ExpertMeter", meter)
    steps = 0

    class Counting(ScriptedBackend):
        @property
        def expert_counts(self) -> ExpertCounts:
            return ExpertCounts(wanted=8 * steps, in_memory=6 * steps, read_bytes=1000 * steps)

        def step(self, token_id: int) -> Logits:
            nonlocal steps
            steps += 1
            return super().step(token_id)

    backend.__class__ = Counting
    outcome, listener = run(backend)
    costs = [event for event in listener.events if isinstance(event, ExpertCost)]
    assert len(costs) == steps > 5
    assert {(cost.disk_bytes_per_token, cost.in_memory) for cost in costs} == {(1000.0, 0.75)}
    usage = outcome.usage
    assert (usage.disk_bytes_per_token, usage.experts_in_memory) == (1000.0, 0.75)


def test_where_nobody_counts_nothing_is_told_of_experts(scripted: Scripted) -> None:
    outcome, listener = run(scripted({"text": "Hello"}))
    assert not [event for event in listener.events if isinstance(event, ExpertCost)]
    assert (outcome.usage.disk_bytes_per_token, outcome.usage.experts_in_memory) == (None, None)


def test_the_stop_string_that_ended_it_is_told(scripted: Scripted) -> None:
    outcome, heard = run(scripted({"text": "one two three"}), stop=("three", "two"))
    assert (outcome.stop_string, heard.text) == ("two", "one ")
    assert run(scripted({"text": "one two"}), stop=("three",))[0].stop_string is None


def test_stop_strings_count_behind_a_token_alone(scripted: Scripted) -> None:
    backend = scripted({"text": "one. two. three. four."})
    listener = Listener()
    request = GenerationRequest(PROMPT, SAMPLING, None, stop=(".",), stops_behind=ord("o"))
    assert generate(BareContext(backend), request, listener, never).reason == "stop"
    assert listener.text == "one"
    # What was written before an answer goes on counts as well.
    for already, text in ((b"one. tw", "o"), (b"one", ""), (b"one. t", "wo")):
        listener = Listener()
        token = ord("o") if already != b"one. t" else ord("w")
        request = GenerationRequest(
            PROMPT, SAMPLING, None, stop=(".",), already=tuple(already), stops_behind=token
        )
        generate(BareContext(backend), request, listener, never)
        assert listener.text == text


@pytest.mark.parametrize(
    ("stop", "already", "told"),
    [
        (".", b"", "one <two. three."),
        (". th", b"one <t", "wo. three."),
        (" <x", b"", "one <two. three."),  # what was held back is told
        ("e", b"", "on"),
        ("e", b"one", " <two. three."),
    ],
)
def test_stop_strings_count_until_a_token(scripted: Scripted, stop: str, already: bytes, told: str) -> None:
    listener = Listener()
    request = GenerationRequest(
        PROMPT, SAMPLING, None, stop=(stop,), already=tuple(already), stops_until=ord("<")
    )
    outcome = generate(BareContext(scripted({"text": "one <two. three."})), request, listener, never)
    assert listener.text == told
    assert outcome.stop_string == ("e" if told == "on" else None)
    assert (
        listener.text.encode()
        == bytes(id_ for event in listener.events if isinstance(event, NewText) for id_ in event.token_ids)[
            : len(told)
        ]
    )


def test_stop_strings_count_between_two_tokens(scripted: Scripted) -> None:
    backend = scripted({"text": "a< b> c. d< e."})
    for already in (b"", b"a< b", b"a< b> c. d< "):
        listener = Listener()
        request = GenerationRequest(
            PROMPT, SAMPLING, None, (".",), tuple(already), stops_behind=ord(">"), stops_until=ord("<")
        )
        generate(BareContext(backend), request, listener, never)
        assert listener.text == ("a< b> c" if b">" not in already else "a< b> c. d< e.")[len(already) :]


@pytest.mark.parametrize("already", [b"", b"a. b <", b"a. b <c"])
def test_stop_strings_count_no_more_from_a_token_on(scripted: Scripted, already: bytes) -> None:
    listener = Listener()
    request = GenerationRequest(
        PROMPT, SAMPLING, None, stop=("d", "< "), already=tuple(already), stops_until=ord("<")
    )
    outcome = generate(BareContext(scripted({"text": "a. b <c. d< ."})), request, listener, never)
    assert (outcome.reason, outcome.stop_string) == ("stop", None)
    assert listener.text == "a. b <c. d< ."[len(already) :]


def test_text_that_was_held_back_comes_with_the_token_from_which_on_nothing_stops(scripted: Scripted) -> None:
    outcome, heard = run(scripted({"text": "one tw<two"}), stop=("two",), stops_until=ord("<"))
    assert (outcome.stop_string, heard.text) == (None, "one tw<two")
    assert run(scripted({"text": "one two<"}), stop=("two",), stops_until=ord("<"))[1].text == "one "


def test_how_likely_each_token_was_travels_with_its_text(scripted: Scripted) -> None:
    listener = Listener()
    request = GenerationRequest(PROMPT, SAMPLING, None, top_chances=1)
    generate(BareContext(scripted({"text": "né"})), request, listener, never)
    news = [event for event in listener.events if isinstance(event, NewText)]
    assert [[each.token_id for each in event.chances] for event in news] == [[110], [195, 169]]
    assert all(each.top == ((each.token_id, 0.0),) for event in news for each in event.chances)
    assert all(event.chances == () for event in run(scripted())[1].events if isinstance(event, NewText))


def test_a_bias_chooses_other_tokens_and_changes_no_chances(scripted: Scripted) -> None:
    backend = scripted({"text": "aaa"})
    listener = Listener()
    # The script is certain; a bias beyond it, on its end, ends the answer at once.
    end = next(iter(backend.facts.end_token_ids))
    request = GenerationRequest(PROMPT, SAMPLING, None, bias=TokenBias({end: 5000.0}), top_chances=0)
    outcome = generate(BareContext(backend), request, listener, never)
    assert (outcome.reason, outcome.usage.generated_tokens) == ("stop", 0)
    # What was written once is written no more: the script's second "a" gives way to its next choice, the end.
    request = GenerationRequest(PROMPT, SAMPLING, None, bias=TokenBias({}, presence=1e6), top_chances=0)
    outcome = generate(BareContext(backend), request, listener, never)
    assert (outcome.reason, listener.text) == ("stop", "a")
    (chances,) = [each for event in listener.events if isinstance(event, NewText) for each in event.chances]
    assert (chances.token_id, chances.log_probability) == (ord("a"), 0.0)
