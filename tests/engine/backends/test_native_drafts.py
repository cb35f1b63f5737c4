from engine.backends.native_drafts import AGAIN_TOKENS, PLAIN_STEPS, TRIAL_STEPS, DraftTrial


def tried(*, plain_s: float, ahead_s: float, right: float) -> DraftTrial:
    """After one trial; `right`: the share of guesses that came true."""
    trial = DraftTrial()
    for _ in range(PLAIN_STEPS):
        assert not trial.wanted
        trial.plain(plain_s)
    for number in range(TRIAL_STEPS):
        assert trial.wanted
        trial.guessed(right=int((number + 1) * right) > int(number * right))
        trial.ahead(ahead_s)
    return trial


def test_it_goes_on_where_it_pays() -> None:
    trial = tried(plain_s=1.0, ahead_s=1.2, right=0.75)
    assert trial.gain == 1.75 / 1.2
    assert trial.wanted


def test_it_stops_where_it_does_not() -> None:
    for ahead_s, right in ((2.0, 0.9), (1.0, 0.0), (1.75, 0.75)):
        assert not tried(plain_s=1.0, ahead_s=ahead_s, right=right).wanted


def test_it_is_tried_anew() -> None:
    trial = tried(plain_s=1.0, ahead_s=2.0, right=0.5)
    for _ in range(AGAIN_TOKENS):
        assert not trial.wanted
        trial.plain(1.0)
    assert trial.gain is None
    for _ in range(PLAIN_STEPS):
        assert not trial.wanted
        trial.plain(1.0)
    assert trial.wanted


def test_nothing_is_known_before_all_of_it_was_seen() -> None:
    trial = DraftTrial()
    for _ in range(PLAIN_STEPS):
        trial.plain(0.0)
    trial.guessed(right=True)
    assert trial.gain is None
