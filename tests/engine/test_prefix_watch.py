"""Beginnings that change: noticed and offered, changed only where a person agreed, told, stable and bounded."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.prefix_watch as module
from engine.callers import Caller
from engine.conversation import Message, ToolCall
from engine.prefix_watch import PrefixWatch, Steadied
from engine.protocol import Usage
from engine.protocol_access import SteadyRules

BODY = "\n".join(f"Rule {word}: say what you did, and ask when in doubt." for word in "abcdefghij")
PIN, MOVE = SteadyRules(pin=True), SteadyRules(move=True)
BOTH = SteadyRules(pin=True, move=True)
USAGE = Usage(
    prompt_tokens=0, reused_tokens=0, generated_tokens=1, context_tokens=65_536, first_token_s=0.0,
    prefill_rate=0.0, generation_rate=0.0, seed=0,
)  # fmt: skip


def caller(rules: SteadyRules = SteadyRules(), key_id: str = "k1") -> Caller:  # noqa: B008
    return Caller(key_id=key_id, key_name="Editor", program="agent/1.0", steady=rules)


def system(minute: int, status: str = " M a.py") -> Message:
    return Message("system", f"Now it is 14:{minute:02}.\nStatus:\n{status}\n{BODY}")


ASK = Message("user", "Mend the test.")


def turns(count: int) -> list[Message]:
    """So many answers, each with a call and its result."""
    whole: list[Message] = []
    for turn in range(count):
        call = ToolCall("read", f'{{"path": "f{turn}"}}', f"call_{turn}")
        whole += [
            Message("assistant", "Look.", "Hm.", (call,)),
            Message("tool", f"text {turn}", tool_call_id=call.id),
        ]
    return whole


def asked(watch: PrefixWatch, who: Caller, head: Message, turn: int, ask: Message = ASK) -> Steadied:
    return watch.steady(who, "v4", [head, ask, *turns(turn)])


def read(watch: PrefixWatch, steadied: Steadied, prompt: int, reused: int) -> None:
    watch.ended(steadied, USAGE.model_copy(update={"prompt_tokens": prompt, "reused_tokens": reused}))


def test_without_a_rule_nothing_changes_and_an_offer_is_made() -> None:
    told: list[None] = []
    watch = PrefixWatch(lambda: told.append(None))
    for turn in range(4):
        came = [system(turn), ASK, *turns(turn)]
        steadied = watch.steady(caller(), "v4", came)
        assert steadied.messages == tuple(came)
        assert steadied.header is None and steadied.told is None
        read(watch, steadied, 5000 + 100 * turn, 10)
    (offer,) = watch.offers()
    assert (offer.key_id, offer.program, offer.suggestion) == ("k1", "agent/1.0", "pin")
    assert (offer.line, offer.times) == ("Now it is 14:03.", 3)
    assert offer.reread_tokens == 5201 - 10  # what was there before, and not what is new
    assert told


def test_once_is_not_offered_and_little_is_not_either() -> None:
    watch = PrefixWatch()
    for turn in range(3):
        read(watch, asked(watch, caller(), system(min(turn, 1)), turn), 5000, 10)
    assert watch.offers() == []
    for turn in range(3, 9):
        read(watch, asked(watch, caller(), system(turn), turn), 5000, 4800)
    assert watch.offers() == []


def test_what_differs_in_more_than_figures_is_offered_to_be_moved() -> None:
    watch = PrefixWatch()
    for turn in range(4):
        head = system(1, "\n".join(f" M {name}.py" for name in "abcdefgh"[: turn + 1]))
        read(watch, asked(watch, caller(), head, turn), 5000, 10)
    (offer,) = watch.offers()
    assert (offer.suggestion, offer.line) == ("move", " M d.py")


def test_requests_that_were_ended_early_cost_nothing() -> None:
    watch = PrefixWatch()
    for turn in range(4):
        steadied = asked(watch, caller(), system(turn), turn)
        watch.ended(steadied, USAGE.model_copy(update={"prompt_tokens": 5000, "generated_tokens": 0}))
    assert watch.offers() == []


def test_lines_that_change_in_turn_are_counted_together() -> None:
    watch = PrefixWatch()
    for turn in range(3):
        head = system(turn, " M a.py" if turn < 2 else "?? new.py")
        read(watch, asked(watch, caller(), head, turn), 5000, 10)
    assert [(each.suggestion, each.times) for each in watch.offers()] == [("move", 1), ("pin", 1)]


def test_pinned_lines_stand_as_they_stood_at_first_and_the_reply_says_so() -> None:
    watch = PrefixWatch()
    first = asked(watch, caller(PIN), system(0), 0)
    assert first.header is None
    for turn in range(1, 5):
        steadied = asked(watch, caller(PIN), system(turn), turn)
        assert steadied.messages == (system(0), ASK, *turns(turn))
        assert steadied.header == "pinned=1"
        assert steadied.told == {"pinned": [f"Now it is 14:{turn:02}."]}


def test_pinning_leaves_what_differs_in_more_and_notices_it() -> None:
    watch = PrefixWatch()
    asked(watch, caller(PIN), system(0), 0)
    steadied = asked(watch, caller(PIN), system(1, "?? new.py"), 1)
    assert steadied.messages[0] == system(0, "?? new.py")
    assert steadied.noticed is not None
    assert (steadied.noticed.suggestion, steadied.noticed.line) == ("move", "?? new.py")


def test_a_new_conversation_is_told_the_time_it_begins() -> None:
    """Pinned is what a conversation began with, never what another one did."""
    watch = PrefixWatch()
    for turn in range(3):
        asked(watch, caller(PIN), system(turn), turn)
    other = asked(watch, caller(PIN), system(30), 0, Message("user", "Another thing."))
    assert other.messages[0] == system(30)
    again = asked(watch, caller(PIN), system(45), 0)  # the same question, another day
    assert again.messages[0] == system(45)


def test_moved_lines_are_told_behind_the_newest_result_and_stay_told() -> None:
    watch = PrefixWatch()
    before = asked(watch, caller(MOVE), system(0), 0).messages
    for turn in range(1, 6):
        head = system(turn, " M a.py\n?? b.py" if turn > 2 else " M a.py")
        steadied = asked(watch, caller(MOVE), head, turn)
        put = steadied.messages
        assert put[: len(before)] == before
        assert put[0] == system(0)
        assert [m for m in put if m.role == "tool"] == [m for m in turns(turn) if m.role == "tool"]
        assert put[-1] == Message("user", steadied.moved)
        assert f"Now it is 14:{turn:02}." in steadied.moved
        assert ("?? b.py" in steadied.moved) == (turn == 3)
        assert steadied.header == "moved"
        before = put
    same = asked(watch, caller(MOVE), system(5, " M a.py\n?? b.py"), 6)
    assert same.moved == "" and same.messages[: len(before)] == before
    assert (same.header, same.told) == ("moved", {"moved_before": 5})


def test_moved_lines_stand_behind_what_a_person_wrote_and_before_an_answer_that_is_open() -> None:
    watch = PrefixWatch()
    said = [ASK, Message("assistant", "Done."), Message("user", "Thanks. And now?")]
    watch.steady(caller(MOVE), "v4", [system(0), *said[:1]])
    open_answer = Message("assistant", "Well,", is_open=True)
    put = watch.steady(caller(MOVE), "v4", [system(1), *said, open_answer]).messages
    assert put[:3] == (system(0), *said[:2])
    assert put[3].text.startswith("Thanks. And now?\n\nThe system message has changed")
    assert put[4:] == (open_answer,)


def test_a_new_conversation_begins_with_the_others_system_message_where_lines_are_moved() -> None:
    watch = PrefixWatch()
    asked(watch, caller(MOVE), system(0), 0)
    other = asked(watch, caller(MOVE), system(30), 0, Message("user", "Another thing."))
    assert other.messages[0] == system(0)
    assert other.messages[1].text.startswith("Another thing.\n\nThe system message has changed")
    assert "Now it is 14:30." in other.messages[1].text


def test_with_both_rules_figures_are_pinned_and_the_rest_is_moved() -> None:
    watch = PrefixWatch()
    asked(watch, caller(BOTH), system(0), 0)
    steadied = asked(watch, caller(BOTH), system(1, "?? new.py"), 1)
    assert steadied.header == "pinned=1, moved"
    assert "14:01" not in steadied.moved and "?? new.py" in steadied.moved
    assert steadied.messages[0] == system(0)


def test_a_request_that_is_made_again_is_told_once() -> None:
    watch = PrefixWatch()
    asked(watch, caller(MOVE), system(0), 0)
    asked(watch, caller(MOVE), system(1), 1)
    again = asked(watch, caller(MOVE), system(2), 1)
    assert again.messages[:-1] == (system(0), ASK, *turns(1))
    assert "14:02" in again.messages[-1].text and "14:01" not in again.messages[-1].text


def test_a_client_that_rewrites_its_past_is_told_anew_what_it_no_longer_says() -> None:
    watch = PrefixWatch()
    for turn in range(3):
        asked(watch, caller(MOVE), system(turn), turn)
    past = [replace(m, text="[cleared]") if m.role == "tool" else m for m in turns(3)]
    put = watch.steady(caller(MOVE), "v4", [system(2), ASK, *past]).messages
    assert put[:-1] == (system(0), ASK, *past)
    assert "14:02" in put[-1].text


def test_other_requests_of_the_same_key_are_left_alone() -> None:
    """A title, a sub-agent, another model: each has a beginning of its own."""
    watch = PrefixWatch()
    title = Message("system", "You name conversations in five words at most. It is 14:00.")
    for turn in range(4):
        put = asked(watch, caller(PIN), system(turn), turn).messages
        assert put[0] == system(0)
        assert asked(watch, caller(PIN), title, turn).messages[0] == title
        other = watch.steady(caller(PIN), "other", [system(40 + turn), ASK, *turns(turn)])
        assert other.messages[0] == system(40)


def test_keys_do_not_meet() -> None:
    watch = PrefixWatch()
    asked(watch, caller(PIN), system(0), 0)
    assert asked(watch, caller(PIN, "k2"), system(1), 1).messages[0] == system(1)


def test_several_system_messages_stay_several() -> None:
    watch = PrefixWatch()
    heads = lambda minute: [Message("system", f"cch={minute:05x};"), system(minute)]  # noqa: E731
    watch.steady(caller(PIN), "v4", [*heads(0), ASK])
    put = watch.steady(caller(PIN), "v4", [*heads(1), ASK, *turns(1)]).messages
    assert put == (*heads(0), ASK, *turns(1))
    fewer = watch.steady(caller(PIN), "v4", [system(2), ASK, *turns(2)]).messages
    assert fewer[0] == system(2)


def test_what_was_agreed_to_is_offered_no_more_and_a_revoked_key_is_forgotten() -> None:
    watch = PrefixWatch()
    for key_id in ("k1", "k2"):
        for turn in range(4):
            read(watch, asked(watch, caller(key_id=key_id), system(turn), turn), 5000, 10)
    assert [offer.key_id for offer in watch.offers()] == ["k1", "k2"]
    watch.agreed("k1", PIN)
    assert [offer.key_id for offer in watch.offers()] == ["k2"]
    watch.forget("k2")
    assert watch.offers() == []
    assert asked(watch, caller(PIN, "k2"), system(9), 4).messages[0] == system(9)
    late = asked(watch, caller(key_id="k3"), system(0), 0)
    watch.forget("k3")
    read(watch, late, 5000, 10)
    assert watch.offers() == []


def test_a_rule_that_is_taken_back_is_followed_no_more() -> None:
    watch = PrefixWatch()
    for turn in range(3):
        asked(watch, caller(BOTH), system(turn, f" M {turn}x.py"), turn)
    plain = asked(watch, caller(), system(3), 3)
    assert plain.messages == (system(3), ASK, *turns(3))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_SIZE", 20_000)
    watch = PrefixWatch()
    for number in range(300):
        asked(watch, caller(PIN, f"k{number}"), system(0), 0)
        asked(watch, caller(PIN), system(0), 0, Message("user", f"Question {number}"))
    keys: dict[str, Any] = watch._keys
    assert len(keys) == module.KEYS_KEPT
    kept = keys["k1"].conversations
    assert len(kept) <= module.CONVERSATIONS_KEPT
    assert sum(each.size for each in kept) <= 20_000


def test_one_conversation_keeps_no_more_than_a_key_may() -> None:
    watch = PrefixWatch()
    for turn in range(150):
        changed = "\n".join(f"{turn} {letter * 1000}" for letter in "abcdefghijklmn")
        asked(watch, caller(MOVE), Message("system", f"{changed}\n{'x' * 50_000}"), turn)
        (kept,) = watch._keys["k1"].conversations
        assert kept.size < module.KEPT_SIZE / 4


def test_after_many_changes_the_system_message_is_put_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TOLD", 3)
    watch = PrefixWatch()
    heads = [asked(watch, caller(MOVE), system(turn), turn).messages[0] for turn in range(6)]
    assert heads == [*[system(0)] * 4, *[system(4)] * 2]


@pytest.mark.parametrize("text", ["", "x" * 600_000, "a\0b"])
def test_what_cannot_be_compared_is_left_as_it_is(text: str) -> None:
    watch = PrefixWatch()
    for turn in range(2):
        came = (Message("system", f"{text}{turn}" if text else ""), ASK, *turns(turn))
        assert watch.steady(caller(BOTH), "v4", came).messages == came


STATUS = st.lists(
    st.sampled_from([" M a.py", " M b.py", "?? c.py", "", "Branch: main", "Tokens: 7"]), max_size=5
)
REQUEST = st.tuples(st.integers(0, 59), STATUS.map("\n".join))


@settings(max_examples=40)
@given(st.lists(REQUEST, min_size=1, max_size=8), st.sampled_from([PIN, MOVE, BOTH, SteadyRules()]))
def test_nothing_else_changes_nothing_is_kept_back_and_the_beginning_stays(
    requests: list[tuple[int, str]], rules: SteadyRules
) -> None:
    watch = PrefixWatch()
    before: tuple[Message, ...] = ()
    for turn, (minute, status) in enumerate(requests):
        came = (system(minute, status), ASK, *turns(turn))
        steadied = watch.steady(caller(rules), "v4", came)
        put = steadied.messages
        notes = [m.text for m in put if m.role == "user" and m.text not in (ASK.text, "")]
        if not (rules.pin or rules.move):
            assert put == came
        assert (steadied.header is not None) == (put != came) == (steadied.told is not None)
        # What tools said and the model wrote stays; a person's words stand first in their message.
        assert [m for m in put if m.role in ("tool", "assistant")] == [
            m for m in came if m.role in ("tool", "assistant")
        ]
        assert put[1].text.startswith(ASK.text)
        # Each line is told, in the system message or behind a message, but for pinned figures.
        said = {line for text in (put[0].text, *notes) for line in text.split("\n")}
        kept_back = {line for line in came[0].text.split("\n") if line.strip()} - said
        assert kept_back <= set(steadied.pinned)
        if rules.move or (rules.pin and before and status == requests[turn - 1][1]):
            assert put[: len(before)] == before
        before = put
