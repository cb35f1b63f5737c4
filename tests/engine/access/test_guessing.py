"""What wrong keys cost, by a clock that is set."""

from engine.access.guessing import (
    FORGOTTEN_AFTER_S,
    FREE,
    LONGEST_WAIT_S,
    MOST_ADDRESSES,
    MOST_BEFORE_PAUSE,
    MOST_HELD,
    PAUSE_S,
    Guesses,
)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_they_wait_longer_and_longer_up_to_a_bound() -> None:
    guesses = Guesses(Clock(), pauses=False)
    waits = [guesses.wrong("a") for _ in range(100)]
    assert waits[:FREE] == [0.0] * FREE
    assert waits[FREE:] == sorted(waits[FREE:])
    assert 0 < waits[FREE] < 1
    assert waits[-1] == LONGEST_WAIT_S
    assert guesses.wrong("b") == 0
    assert guesses.paused_s("a") == 0


def test_a_right_key_and_time_make_good() -> None:
    clock = Clock()
    guesses = Guesses(clock, pauses=False)
    for _ in range(FREE + 2):
        guesses.wrong("a")
    guesses.right("a")
    assert guesses.wrong("a") == 0
    for _ in range(FREE + 2):
        guesses.wrong("a")
    clock.now_s += FORGOTTEN_AFTER_S + 1
    assert guesses.wrong("a") == 0


def test_on_the_network_an_address_is_paused_and_no_other() -> None:
    clock = Clock()
    guesses = Guesses(clock, pauses=True)
    for _ in range(MOST_BEFORE_PAUSE):
        assert guesses.paused_s("a") == 0
        guesses.wrong("a")
    assert guesses.paused_s("a") == PAUSE_S
    assert guesses.paused_s("b") == 0
    clock.now_s += PAUSE_S
    assert guesses.paused_s("a") == 0
    # It is not begun with anew: the next wrong one pauses again.
    guesses.wrong("a")
    assert guesses.paused_s("a") == PAUSE_S


def test_the_table_and_what_waits_are_bounded() -> None:
    guesses = Guesses(Clock(), pauses=False)
    for number in range(3 * MOST_ADDRESSES):
        guesses.wrong(str(number))
    assert len(guesses._tried) == MOST_ADDRESSES
    for _ in range(FREE + 1):
        wait = guesses.wrong("a")
    assert wait > 0
    guesses.held = MOST_HELD
    assert guesses.wrong("a") == 0
