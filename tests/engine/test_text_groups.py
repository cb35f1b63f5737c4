"""When text is handed on."""

import pytest

from engine.text_groups import LONGEST_GROUP_S, MOST_TOKENS, TextGroups


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def collected() -> tuple[TextGroups, list[tuple[str, list[int]]], Clock]:
    clock, sent = Clock(), list[tuple[str, list[int]]]()
    return TextGroups(lambda text, ids: sent.append((text, ids)), clock), sent, clock


def test_the_first_token_goes_at_once_and_the_next_ones_together() -> None:
    groups, sent, clock = collected()
    groups.add("a", (1,))
    assert sent == [("a", [1])]
    groups.add("b", (2,))
    groups.add("c", (3, 4))
    assert len(sent) == 1
    clock.now_s += LONGEST_GROUP_S
    groups.add("d", (5,))
    assert sent[1:] == [("bcd", [2, 3, 4, 5])]


def test_a_slow_models_tokens_each_go_at_once() -> None:
    groups, sent, clock = collected()
    for number in range(5):
        groups.add("x", (number,))
        clock.now_s += LONGEST_GROUP_S * 1.01
    assert len(sent) == 5


def test_a_fast_models_tokens_go_sixteen_at_a_time() -> None:
    groups, sent, _ = collected()
    for number in range(1 + 2 * MOST_TOKENS):
        groups.add("x", (number,))
    assert [len(ids) for _, ids in sent] == [1, MOST_TOKENS, MOST_TOKENS]
    groups.flush()
    assert len(sent) == 3


def test_ids_without_text_wait_for_it_or_for_the_end() -> None:
    groups, sent, clock = collected()
    groups.add("", (1,))
    assert sent == []
    clock.now_s += 1
    groups.add("你", (2,))
    assert sent == [("你", [1, 2])]
    groups.add("", (3,))
    groups.flush()
    assert sent[1:] == [("", [3])]


def test_what_failed_to_be_delivered_is_not_delivered_twice() -> None:
    tried: list[str] = []

    def fail(text: str, _ids: list[int]) -> None:
        tried.append(text)
        raise OSError

    groups = TextGroups(fail)
    with pytest.raises(OSError):
        groups.add("a", (1,))
    groups.flush()
    assert tried == ["a"]
