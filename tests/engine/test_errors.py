"""Every failure is one sentence with its code, wherever it travels."""

import copy
import pickle

import pytest

from engine import errors
from engine.errors import SeamountError

# Retold is no kind of its own: it has another's sentence, and the code of the class it is mixed with.
EVERY = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, SeamountError) and each is not errors.Retold
]


@pytest.mark.parametrize("kind", EVERY)
def test_the_sentence_says_what_why_and_what_to_do(kind: type[SeamountError]) -> None:
    error = kind("The thing failed", "there is no room", "make some")
    assert error.text == str(error) == "The thing failed: there is no room; make some."
    assert kind.__doc__


@pytest.mark.parametrize("kind", EVERY)
def test_an_error_survives_being_copied_and_sent(kind: type[SeamountError]) -> None:
    error = kind("The thing failed", "there is no room", "make some")
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is kind
        assert (again.what, again.why, again.remedy) == (error.what, error.why, error.remedy)


def test_codes_tell_the_kinds_apart() -> None:
    codes = [each.code for each in EVERY]
    assert len(set(codes)) == len(codes)
    assert all(code.replace("_", "").isalpha() and code.islower() for code in codes)
    assert all(400 <= each.http_status < 600 for each in EVERY)


def test_an_error_that_is_told_again_keeps_its_sentence() -> None:
    told = errors.Retold("It failed: because; do this.")
    assert str(told) == told.text == "It failed: because; do this."
    assert pickle.loads(pickle.dumps(told)).text == told.text
