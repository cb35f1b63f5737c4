"""The shown branch, of healthy and of broken trees."""

from app.transcript_model import costs_of, newest_leaf, shown_branch
from engine import protocol


def _session(leaf: str | None, *messages: protocol.Message) -> protocol.Session:
    summary = protocol.SessionSummary(id="s", title="", created_at=0, updated_at=0)
    return protocol.Session(summary=summary, leaf_id=leaf, messages=list(messages))


def _message(name: str, parent: str | None, role: str = "user", at: float = 0, **more) -> protocol.Message:
    fields = {"status": "complete", "text": name, **more}
    return protocol.Message.model_validate(
        {"id": name, "parent_id": parent, "role": role, "created_at": at, **fields}
    )


def _tree() -> list[protocol.Message]:
    return [
        _message("system", None, "system", 0),
        _message("q", "system", "user", 1),
        _message("a1", "q", "assistant", 2),
        _message("a3", "q", "assistant", 9),
        _message("a2", "q", "assistant", 5),
        _message("q2", "a2", "user", 6),
    ]


def test_the_branch_runs_from_the_root_to_the_leaf_without_system_messages():
    assert [m.id for m in shown_branch(_session("q2", *_tree()))] == ["q", "a2", "q2"]


def test_versions_are_counted_by_time_and_know_their_neighbours():
    shown = shown_branch(_session("a2", *_tree()))[-1]
    assert (shown.version, shown.version_count, shown.previous_id, shown.next_id) == (2, 3, "a1", "a3")
    first = shown_branch(_session("a1", *_tree()))[-1]
    assert (first.version, first.previous_id, first.next_id) == (1, None, "a2")


def test_a_missing_leaf_means_the_newest_message():
    for leaf in (None, "gone"):
        assert [m.id for m in shown_branch(_session(leaf, *_tree()))] == ["q", "a3"]


def test_an_empty_session_shows_nothing():
    assert shown_branch(_session(None)) == []


def test_an_orphan_begins_the_branch():
    assert [m.id for m in shown_branch(_session("b", _message("a", "gone"), _message("b", "a")))] == [
        "a",
        "b",
    ]


def test_a_cycle_is_cut():
    shown = shown_branch(_session("b", _message("a", "b"), _message("b", "a")))
    assert [m.id for m in shown] == ["a", "b"]


def test_a_very_long_branch_needs_no_recursion():
    messages = [_message("0", None)] + [_message(str(i), str(i - 1)) for i in range(1, 5000)]
    assert len(shown_branch(_session("4999", *messages))) == 5000


def test_what_is_cut_says_why():
    error = protocol.ErrorBody(code="generation", text="It broke: no memory; try again.")
    failed = _message("a", None, "assistant", status="failed", finish_reason="error", error=error)
    long = _message("a", None, "assistant", finish_reason="length")
    whole = _message("a", None, "assistant", finish_reason="stop")
    shown = [shown_branch(_session("a", message))[0] for message in (failed, long, whole)]
    assert [m.is_cut for m in shown] == [True, True, False]
    assert shown[0].error_text == "It broke: no memory; try again."
    assert shown[1].note == "Stopped at the length limit."


def test_an_answer_without_anything_in_it_cannot_be_continued():
    def cut(**more) -> bool:
        message = _message("a", None, "assistant", status="failed", finish_reason="error", **more)
        return shown_branch(_session("a", message))[0].is_continuable

    assert not cut(text="")
    assert cut(text="Half of")
    assert cut(text="", reasoning="Hm")
    assert cut(text="", unfinished_call="look {")


def _calling(name: str, parent: str, *calls: str, **more) -> protocol.Message:
    tool_calls = [{"id": call, "name": "look", "arguments": "{}"} for call in calls]
    fields = {"tool_calls": tool_calls, "finish_reason": "tool_calls", **more}
    return _message(name, parent, "assistant", **fields)


def _result(name: str, parent: str, call: str) -> protocol.Message:
    return _message(name, parent, "tool", text=f"result of {call}", tool_call_id=call)


def test_results_stand_in_their_calls_and_not_in_the_branch():
    messages = [_message("q", None), _calling("a", "q", "c1", "c2"), _result("r2", "a", "c2"),
                _result("r1", "r2", "c1"), _message("b", "r1", "assistant")]  # fmt: skip
    shown = shown_branch(_session("b", *messages))
    assert [m.id for m in shown] == ["q", "a", "b"]
    assert [(c.id, c.result) for c in shown[1].calls] == [("c1", "result of c1"), ("c2", "result of c2")]
    assert not shown[1].awaits_results
    hash(shown[1])


def test_the_end_of_a_branch_awaits_results_of_its_calls():
    def ending(**more) -> bool:
        return shown_branch(_session("a", _message("q", None), _calling("a", "q", "c1", **more)))[
            -1
        ].awaits_results

    assert ending()
    assert ending(finish_reason="stop")
    assert not ending(status="running")
    assert not ending(finish_reason="length")
    assert not ending(status="interrupted", finish_reason="interrupted")
    assert not ending(tool_calls=[])
    asked_on = [_message("q", None), _calling("a", "q", "c1"), _message("q2", "a")]
    assert not shown_branch(_session("q2", *asked_on))[1].awaits_results


def test_answers_to_other_results_of_the_same_calls_are_versions():
    messages = [_calling("a", "q", "c1"), _result("r", "a", "c1"), _message("b1", "r", "assistant", 1),
                _message("b2", "r", "assistant", 2), _result("other", "a", "c1"),
                _message("b3", "other", "assistant", 3)]  # fmt: skip
    shown = shown_branch(_session("b2", *messages))[-1]
    assert (shown.version, shown.version_count, shown.previous_id, shown.next_id) == (2, 3, "b1", "b3")


def test_a_result_without_its_call_is_not_lost():
    shown = shown_branch(_session("r", _calling("a", "q"), _result("r", "a", "unknown")))
    assert [(c.name, c.result) for c in shown[0].calls] == [("", "result of unknown")]
    assert shown_branch(_session("r", _result("r", None, "c"))) == []


def test_what_was_thought_and_done_is_shown():
    thought = protocol.Thought(tokens=340, elapsed_s=12)
    more = {"reasoning": "Hm.", "thought": thought, "notices": ["A.", "B.", "A."], "unfinished_call": "<call"}
    (shown,) = shown_branch(_session("a", _message("a", None, "assistant", **more)))
    assert (shown.reasoning, shown.thought, shown.unfinished_call) == ("Hm.", thought, "<call")
    assert shown.notices == ("A.", "B.")


def test_the_last_call_of_a_running_answer_is_being_written():
    running = _calling("a", "q", "c1", "c2", status="running", finish_reason=None)
    (shown,) = shown_branch(_session("a", running))
    assert [call.status for call in shown.calls] == ["exact", "writing"]


def test_the_newest_branch_through_a_message_is_found():
    assert newest_leaf(_tree(), "q") == "a3"
    assert newest_leaf(_tree(), "a2") == "q2"
    assert newest_leaf([_message("a", "b"), _message("b", "a")], "a") == "a"


def test_an_answer_that_may_be_another_one_says_so():
    for continued, differs in ((None, False), ("identical", False), ("different", True)):
        message = _message("a", None, "assistant", continued=continued)
        assert shown_branch(_session("a", message))[-1].differs is differs


def test_what_an_answer_of_another_machine_cost_stands_beneath_it() -> None:
    usage = protocol.Usage(
        prompt_tokens=1, reused_tokens=0, generated_tokens=1, context_tokens=1, first_token_s=1.0, prefill_rate=1.0,
        generation_rate=1.0, seed=0, cost=0.0031, currency="USD",
    )  # fmt: skip
    answer = _message("a", "q", "assistant", usage=usage)
    shown = shown_branch(_session("a", _message("q", None), answer))
    assert shown[-1].notices == ("This answer cost about 0.0031 USD.",)


def test_what_answers_cost_and_whether_all_is_known() -> None:
    def answer(
        cost: float | None, model_id: str, text: str = "Yes.", currency: str = "USD"
    ) -> protocol.Message:
        usage = {
            "prompt_tokens": 1, "reused_tokens": 0, "generated_tokens": 1, "context_tokens": 0, "first_token_s": 0.1,
            "prefill_rate": 1.0, "generation_rate": 1.0, "seed": 1, "cost": cost, "currency": currency,
        }  # fmt: skip
        return protocol.Message.model_validate(
            {
                "id": "m", "parent_id": None, "role": "assistant", "text": text, "status": "complete", "created_at": 0,
                "model_id": model_id, "usage": None if cost is None else usage,
            }
        )  # fmt: skip

    paid = [answer(0.25, "remote:1"), answer(0.5, "remote:2"), answer(2.0, "remote:3", currency="EUR")]
    assert costs_of([*paid, answer(None, "folder:here.gguf")]) == ({"USD": 0.75, "EUR": 2.0}, True)
    assert costs_of([*paid, answer(None, "remote:1", text="")])[1], "nothing had come of it"
    assert costs_of([*paid, answer(None, "remote:1", text="Broken o")]) == ({"USD": 0.75, "EUR": 2.0}, False)
