"""Conversations for tests: one that has everything, and any that the rules allow."""

from typing import Any

from hypothesis import strategies as st

from engine.protocol import Sampling, Thought, Tool, ToolCall, ToolResult, Usage
from engine.protocol_storage import SessionDocument
from engine.store.sessions import SessionStore

USAGE = Usage(
    prompt_tokens=10,
    reused_tokens=4,
    generated_tokens=2,
    context_tokens=12,
    first_token_s=0.25,
    prefill_rate=100.5,
    generation_rate=20.0,
    seed=11,
)


def fill(store: SessionStore, question: str = "Why is the sea salty?") -> str:
    """A session with reasoning, a call and its result, a retry, tools and an answer that was cut off; its id."""
    session = store.create_session()
    store.change_session(
        session.id, tools=[Tool(function={"name": "weather", "z": 1, "a": {"b": [1.5, None]}})]
    )
    asked, answer = store.begin_turn(
        session.id,
        parent_id=None,
        question=question,
        model_id="starter",
        sampling=Sampling(temperature=0.3, seed=11),
        mode="high",
    )
    assert asked is not None
    store.append(answer.id, "Salt comes </details> from", [1, 2], "reasoning")
    store.set_thought(answer.id, Thought(tokens=2, elapsed_s=1.5))
    store.append(answer.id, "Rivers.\n\n~~~python\nprint(1)", [3, 2**32 - 1])
    store.end_turn(
        answer.id,
        status="complete",
        finish_reason="tool_calls",
        usage=USAGE,
        tool_calls=[ToolCall(id=f"call_{session.id}", name="weather", arguments='{"a": "```"}')],
        notices=["The reasoning was ended early."],
    )
    results = [ToolResult(tool_call_id=f"call_{session.id}", text="sunny\n```")]
    _, after = store.begin_results(
        session.id, answer.id, results, model_id="starter", sampling=Sampling(seed=4)
    )
    store.append(after.id, "It is sunny", [9, 8])
    store.end_turn(after.id, status="interrupted", finish_reason="interrupted")
    store.begin_turn(
        session.id, parent_id=asked.id, question=None, model_id="starter", sampling=Sampling(seed=5)
    )
    return session.id


_TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=30)
_TIME = st.floats(0, 1e11)
_IDS = st.lists(st.integers(0, 2**32 - 1), max_size=5)
_SAMPLING = st.fixed_dictionaries(
    {
        "temperature": st.floats(0, 10),
        "top_p": st.floats(0.01, 1),
        "min_p": st.floats(0, 1),
        "seed": st.none() | st.integers(0, 2**63 - 1),
    }
)
_USAGE = st.builds(
    lambda rate, seed: {**USAGE.model_dump(), "prefill_rate": rate, "seed": seed},
    st.floats(0, 1e9),
    st.integers(0, 2**63 - 1),
)
_LEAF: Any = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300) | _TEXT
_TOOL = st.fixed_dictionaries(
    {
        "type": st.just("function"),
        "function": st.dictionaries(
            _TEXT, st.recursive(_LEAF, lambda inner: st.lists(inner, max_size=2), max_leaves=4), max_size=3
        ),
    }
)


def _hex(number: int) -> str:
    return f"{number:028x}"


@st.composite
def documents(draw: st.DrawFn) -> SessionDocument:
    """Any conversation that may be in a file."""
    messages: list[dict[str, Any]] = []
    calls_above: dict[str, list[str]] = {}
    for number in range(draw(st.integers(0, 8))):
        message_id = _hex(number + 1)
        above = draw(st.none() | st.sampled_from(messages)) if messages else None
        roles = ["user", "system"]
        if above is not None and above["role"] in ("user", "tool"):
            roles.append("assistant")
        calls = calls_above.get(above["id"], []) if above is not None else []
        roles += ["tool", "assistant"] if calls and "assistant" in roles else ["tool"] if calls else []
        role = draw(st.sampled_from(roles))
        message: dict[str, Any] = {
            "id": message_id,
            "parent_id": None if above is None else above["id"],
            "role": role,
            "text": draw(_TEXT),
            "status": "complete",
            "created_at": draw(_TIME),
        }
        calls_above[message_id] = []
        if role == "tool":
            message["tool_call_id"] = draw(st.sampled_from(calls))
            calls_above[message_id] = calls
        if role == "assistant":
            made = [f"call_{number}_{each}" for each in range(draw(st.integers(0, 2)))]
            calls_above[message_id] = made
            status = draw(st.sampled_from(["complete", "interrupted", "failed"]))
            message |= {
                "status": status,
                "model_id": draw(st.none() | _TEXT),
                "finish_reason": draw(
                    st.sampled_from(["stop", "length", "tool_calls", "cancelled", "error", None])
                ),
                "error": draw(st.none() | st.fixed_dictionaries({"code": _TEXT, "text": _TEXT})),
                "usage": draw(st.none() | _USAGE),
                "mode": draw(st.sampled_from([None, "non-think", "high", "max"])),
                "reasoning": draw(_TEXT),
                "thought": draw(
                    st.none()
                    | st.fixed_dictionaries({"tokens": st.integers(0, 2**40), "elapsed_s": st.floats(0, 1e6)})
                ),
                "tool_calls": [
                    {"id": each, "name": draw(_TEXT), "arguments": draw(_TEXT), "status": "exact"}
                    for each in made
                ],
                "unfinished_call": "" if made else draw(_TEXT),
                "continued": draw(st.sampled_from([None, "identical", "different"])),
                "notices": draw(st.lists(_TEXT, max_size=2)),
                "sampling": draw(st.none() | _SAMPLING),
                "token_ids": draw(_IDS),
            }
        messages.append(message)
    ids = [each["id"] for each in messages]
    return SessionDocument.model_validate(
        {
            "format": "seamount-conversation",
            "version": 1,
            "session": {
                "id": _hex(0),
                "title": draw(st.sampled_from(["", "Named", "Zwei Wörter"])),
                "title_by": draw(st.sampled_from(["question", "model", "person"])),
                "created_at": draw(_TIME),
                "updated_at": draw(_TIME),
                "leaf_id": draw(st.none() | st.sampled_from(ids)) if ids else None,
                "tools": draw(st.lists(_TOOL, max_size=2)),
            },
            "messages": messages,
        }
    )
