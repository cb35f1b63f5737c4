"""What is said about models on other machines."""

from typing import Any

import pytest

from app import remote_words
from engine.errors import RemoteChanged
from engine.protocol import ErrorBody, RemotePlace, Usage
from engine.protocol_remote import CheckedRemote, Remote, RemoteAddress, RemoteFeatures, RemotePrice

PRICE = RemotePrice(read=0.28, read_cached=0.028, written=0.42)


def features(**more: Any) -> RemoteFeatures:
    return RemoteFeatures(checked_at=0.0, **more)


def remote(**more: Any) -> Remote:
    return Remote(**{
        "id": "remote:1", "name": "Pro", "kind": "openai", "model": "deepseek-v4-pro", "has_key": False,
        "addresses": [RemoteAddress(url="https://node7.example.org:8000/v1")], "whereabouts": "elsewhere", **more,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://node7.example.org:8000/v1", "node7.example.org"),
        ("ssh://somebody@node7:22", "node7"),
        ("http://[::1]:8000/v1", "::1"),
        ("http://[broken", "http://[broken"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_host_is_named_without_user_and_port(url: str, host: str) -> None:
    assert remote_words.host_of(url) == host


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0 USD"),
        (0.28, "0.28 USD"),
        (0.028, "0.028 USD"),
        (0.0031, "0.0031 USD"),
        (1200.0, "1,200.00 USD"),
    ],
)
def test_small_amounts_are_not_rounded_away(value: float, words: str) -> None:
    assert remote_words.amount(value, "USD") == words


def test_where_a_conversation_goes_is_said_for_each_kind_of_place() -> None:
    def told(place: Any, price: RemotePrice | None = None) -> str:
        return remote_words.place_sentence(RemotePlace(host="node7", whereabouts=place, price=price))

    assert told("this machine") == "This conversation goes to another program on this machine, node7."
    assert (
        told("local network")
        == "This conversation leaves this machine: it goes to node7, in your local network."
    )
    assert told("elsewhere", PRICE) == (
        "This conversation leaves this machine: it goes to node7, elsewhere, for about 0.28 USD a million tokens read "
        "(0.028 USD from its cache), 0.42 USD written."
    )
    # A price of nothing is none.
    assert told("elsewhere", RemotePrice()).endswith("elsewhere.")


def test_a_row_tells_place_model_and_price() -> None:
    words = remote_words.remote_words(remote(price=PRICE))
    assert words.startswith("node7.example.org, elsewhere · deepseek-v4-pro · 0.28 USD")
    two = [RemoteAddress(url="http://a/v1"), RemoteAddress(url="http://b/v1")]
    assert remote_words.remote_words(remote(addresses=two, used_address=1)).startswith("b, elsewhere")
    # The engine of another version may name one that is not there.
    assert remote_words.remote_words(remote(addresses=two, used_address=9)).startswith("b, elsewhere")


def test_what_was_found_out_and_what_was_not() -> None:
    assert remote_words.features_words(None) == "Not checked yet."
    assert remote_words.features_words(features()) == "It tells nothing about itself."
    found = features(
        software="vLLM 0.12",
        context_tokens=65_536,
        reasoning="yes",
        efforts="yes",
        tools="no",
        continues="no",
    )
    assert remote_words.features_words(found) == (
        "vLLM 0.12 · 65,536 tokens of context · shows its thinking · thinks as much as is asked for · no tools · "
        "cannot go on with a broken answer"
    )
    assert len(remote_words.features_words(features(software="x" * 9000))) <= remote_words.LONGEST


def test_a_check_says_what_it_found_or_why_nothing() -> None:
    problem = ErrorBody(code="remote", text="Nobody answers there.")
    assert (
        remote_words.checked_words(CheckedRemote(whereabouts="elsewhere", problem=problem), "h")
        == problem.text
    )
    unknown = CheckedRemote(whereabouts="elsewhere", fingerprint="AB:CD")
    assert remote_words.checked_words(unknown, "h") == remote_words.TRUST
    # The engine says as well why it did not ask; what a person has to do is to compare.
    refused = ErrorBody(
        code="remote_unreachable", text="h was not asked: its certificate is not trusted; agree to it."
    )
    unknown = unknown.model_copy(update={"problem": refused})
    assert remote_words.checked_words(unknown, "h") == remote_words.TRUST
    other = ErrorBody(code=RemoteChanged.code, text="h was not asked: its certificate is another one.")
    changed = unknown.model_copy(update={"problem": other})
    assert remote_words.checked_words(changed, "h") == f"{other.text} {remote_words.COMPARE}"
    many = features(software="vLLM", models=[f"m{n}" for n in range(9)])
    words = remote_words.checked_words(CheckedRemote(whereabouts="local network", features=many), "node7")
    assert words.startswith("What is said to it goes to node7, in your local network. vLLM.")
    assert words.endswith("Its models: m0, m1, m2, m3 and 5 more.")
    spent = many.model_copy(update={"spent_tokens": 41})
    told = remote_words.checked_words(CheckedRemote(whereabouts="local network", features=spent), "node7")
    assert told.endswith("Finding this out took 41 tokens.")
    assert "names no models" in remote_words.models_words([])


def test_where_a_key_is_kept() -> None:
    assert remote_words.key_words(has_key=False, problem=None) == remote_words.KEY_HINT
    assert remote_words.key_words(has_key=True, problem=None) == remote_words.KEY_KEPT
    assert remote_words.key_words(has_key=True, problem="The keyring is locked.") == "The keyring is locked."


def test_what_an_answer_cost_is_said_where_it_is_known() -> None:
    usage = Usage(prompt_tokens=1, reused_tokens=0, generated_tokens=1, context_tokens=1, first_token_s=1,
                  prefill_rate=1, generation_rate=1, seed=0)  # fmt: skip
    assert remote_words.cost_words(usage) == ""
    priced = usage.model_copy(update={"cost": 0.00314, "currency": "EUR"})
    assert remote_words.cost_words(priced) == "about 0.00314 EUR"


def test_another_certificate_is_shown_to_be_compared() -> None:
    question, meaning = remote_words.certificate_question(remote(change="x", offered_fingerprint="AB:CD"))
    assert "“Pro”" in question
    assert meaning.endswith("AB:CD")


def test_a_change_and_a_removal() -> None:
    changed = remote(change="It has another model now; look before you use it.")
    assert remote_words.change_words(changed) == (
        "“Pro” is not used for now. It has another model now; look before you use it."
    )
    question, meaning = remote_words.removal_words(remote())
    assert "“Pro”" in question
    assert "stay here" in meaning


def test_what_a_conversation_has_cost_says_where_not_all_is_known() -> None:
    assert remote_words.spent_words({}, whole=False) == ""
    assert remote_words.spent_words({"USD": 0.5, "EUR": 0.0031}, whole=True) == (
        "It has cost about 0.50 USD and 0.0031 EUR so far."
    )
    assert "broke off or were not counted" in remote_words.spent_words({"USD": 0.5}, whole=False)
