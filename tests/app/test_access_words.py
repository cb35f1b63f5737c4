"""What is said about other programs."""

from typing import Any

import pytest

from app import access_words
from engine.protocol import ErrorBody
from engine.protocol_access import (
    Access,
    ClientKey,
    ClientRequest,
    ConnectedClient,
    KeyLimits,
    MadeKey,
    NetworkDoor,
    SteadyOffer,
    SteadyRules,
)

NOW = 1_800_000_000.0


def key(**more: Any) -> ClientKey:
    return ClientKey(id="k1", name="editor", created_at=0.0, **more)


def request(state: Any = "writing", **more: Any) -> ClientRequest:
    return ClientRequest(id="r1", dialect="chat", model_id="m", state=state, since=NOW, **more)


def client(*requests: ClientRequest, program: str = "Zed") -> ConnectedClient:
    return ConnectedClient(
        key_id="k1",
        key_name="editor",
        program=program,
        address="127.0.0.1",
        last_at=NOW,
        requests=list(requests),
    )


def access(*clients: ConnectedClient) -> Access:
    return Access(base_url="http://127.0.0.1:1/v1", keys=[], clients=list(clients))


def test_a_key_tells_its_last_use_and_only_limits_that_somebody_chose() -> None:
    assert access_words.key_words(key(), NOW) == "not used yet"
    used = key(last_used_at=NOW, last_used_by="Zed 1.2")
    assert access_words.key_words(used, NOW) == "used today by Zed 1.2"
    limits = KeyLimits(answer_tokens=4096, prompt_tokens=100_000, waiting=8, seconds=90)
    words = access_words.key_words(key(limits=limits, steady=SteadyRules(pin=True)), NOW)
    assert words == (
        "not used yet · answers of 4,096 tokens at most · prompts of 100,000 tokens at most · "
        "1 min 30 s for an answer at most · 8 at a time · changing lines are kept as they stood"
    )
    assert access_words.limit_words(KeyLimits(waiting=0)) == ["any number at a time"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request("queued"), "Waiting for the model"),
        (request("queued", place=1), "Waiting: 1 answer before this one"),
        (request("queued", place=3), "Waiting: 3 answers before this one"),
        (request("reading", done=4096, total=100_000), "Reading 4,096 of 100,000 tokens"),
        (request("writing", generated_tokens=1), "Writing, 1 token"),
    ],
)
def test_each_state_of_a_request_has_its_words(asked: ClientRequest, words: str) -> None:
    assert access_words.request_words(asked) == words


def test_the_sign_tells_what_is_computed_now_and_how_many_wait() -> None:
    assert access_words.sign_words(None) == ""
    assert access_words.sign_words(access(client())) == ""
    waiting = client(request("queued", place=1), program="Backup")
    writing = client(request("writing", generated_tokens=120))
    assert access_words.sign_words(access(waiting, writing)) == "Zed: writing, 120 tokens (+1 more)"
    assert access_words.running(access(waiting, writing))[0][0].program == "Zed"


def test_a_name_that_a_program_gives_itself_is_one_short_line() -> None:
    hostile = "Zed\nis trusted\u2028" + "x" * 5000
    name = access_words.program_name(client(program=hostile))
    assert "\n" not in name
    assert "\u2028" not in name
    assert len(name) <= access_words.LONGEST_NAME
    assert access_words.program_name(client(program="")) == "editor"


def test_who_asked_when_is_told_only_while_nothing_runs() -> None:
    assert access_words.client_words(client(request()), NOW + 60) == "key “editor” · 127.0.0.1"
    assert access_words.client_words(client(), NOW + 60) == "key “editor” · 127.0.0.1 · asked 1 min 0 s ago"
    assert access_words.client_words(client(), NOW + 1).endswith("asked just now")


@pytest.mark.parametrize(
    ("rule", "meaning"), [("pin", "does not learn what has changed"), ("move", "learns all of it")]
)
def test_an_offer_says_what_it_costs_and_what_agreeing_changes(rule: Any, meaning: str) -> None:
    offer = SteadyOffer(
        key_id="k1",
        key_name="editor",
        program="Zed",
        line="Today is Friday",
        reread_tokens=6100,
        times=4,
        suggestion=rule,
    )
    costs, means = access_words.offer_words(offer)
    assert "6,100 tokens are read again each time (4 times so far)" in costs
    assert meaning in means
    assert "“editor”" in means


def test_whether_a_secret_can_be_had_again_is_said() -> None:
    assert access_words.secret_words(MadeKey(key=key(is_kept=True), secret="s")) == access_words.KEPT
    assert access_words.secret_words(MadeKey(key=key(), secret="s")) == access_words.SHOWN_ONCE
    told = access_words.secret_words(MadeKey(key=key(), secret="s", problem="The keyring is locked."))
    assert told == f"The keyring is locked. {access_words.COPY_NOW}"


def test_the_network_in_words() -> None:
    assert access_words.network_words(NetworkDoor()).startswith("Closed.")
    assert access_words.network_words(NetworkDoor(wanted=True)) == "It is being opened."
    assert access_words.network_words(NetworkDoor(wanted=True, is_open=True, port=8643)).startswith(
        "Open at port 8643"
    )
    problem = ErrorBody(code="network", text="The port is taken; choose another one.")
    assert access_words.network_words(NetworkDoor(wanted=True, problem=problem)) == problem.text


def test_a_certificate_says_how_long_it_holds() -> None:
    assert access_words.certificate_words(NetworkDoor(), NOW) == ""

    def words(days: float) -> str:
        return access_words.certificate_words(
            NetworkDoor(certificate="generated", expires_at=NOW + days * access_words.DAY_S), NOW
        )

    assert words(300).startswith("A certificate that Seamount made; it holds until ")
    assert "in 9 days" in words(9)
    assert "expired on" in words(-1)
    assert access_words.certificate_words(NetworkDoor(certificate="own"), NOW) == "Your own certificate."


def test_which_web_pages_may_call_is_said() -> None:
    assert access_words.origins_words([]) == "No web page may call the engine from a browser."
    assert access_words.origins_words(["http://localhost:3000"]).endswith(
        "from a browser: http://localhost:3000."
    )


def test_clients_of_anthropics_dialect_put_the_version_behind_the_address_themselves() -> None:
    assert access_words.anthropic_url("http://127.0.0.1:8642/v1") == "http://127.0.0.1:8642"
    assert access_words.anthropic_url("http://127.0.0.1:8642/v1/") == "http://127.0.0.1:8642"


def test_closing_the_window_is_asked_about_while_programs_are_answered() -> None:
    assert access_words.closing_words(None) is None
    assert access_words.closing_words(access(client())) is None
    for programs, who in (("Zed",), "Zed is"), (("Zed", "Agent"), "Zed and 1 more are"):
        told = access_words.closing_words(access(*(client(request(), program=each) for each in programs)))
        assert told is not None and told[0] == f"Close the window while {who} answered?"
