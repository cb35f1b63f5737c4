"""The hub's client against a real HTTP server: listings, bytes, and every failure as one of our errors."""

import logging
import socket
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from engine.errors import FetchFailed, HubUnreachable, RepositoryGone, SeamountError, TokenNeeded
from engine.library.fetching import hub as hub_module
from engine.library.fetching.hub import Hub, HubBusyError, WrongContentError
from engine.library.fetching.remote_file import RemoteFile
from tests.support.local_hub import LocalHub, write_random_files

NAME = "some/one"
TOKEN = "hf_SecretSecretSecret"
SIZES = {"m.safetensors": 300_000, "config.json": 500}


@pytest.fixture
def local(tmp_path: Path) -> Generator[LocalHub]:
    with LocalHub() as hub:
        hub.add(NAME, str(write_random_files(tmp_path / "hub", SIZES)))
        yield hub


def shard(hub: Hub) -> tuple[str, RemoteFile]:
    listing = hub.listing(NAME)
    return listing.revision, next(each for each in listing.files if each.is_shard)


def taken(hub: Hub, start: int = 0, stop: int | None = None, file: RemoteFile | None = None) -> bytes:
    revision, found = shard(hub)
    found = file or found
    with hub.stream(NAME, revision, found, start, stop or found.size_bytes) as pieces:
        return b"".join(pieces)


def test_a_listing_has_sizes_and_digests_at_a_whole_commit(local: LocalHub) -> None:
    listing = Hub(local.address).listing(NAME)
    repository = local.repositories.find(NAME)
    assert repository is not None
    assert listing.revision == repository.branches["main"]
    found = local.repositories.files(repository, "main")
    assert found is not None
    for file in listing.files:
        blob = found[1][file.path]
        assert (file.size_bytes, file.digest) == (SIZES[file.path], blob.etag)
    assert (listing.licence, listing.gated, listing.private) == ("mit", False, False)
    assert listing.modified_s == 1785484800.0


def test_a_signed_address_is_in_no_log(local: LocalHub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    taken(Hub(local.address))
    assert [each.getMessage() for each in caplog.records if "://" in each.getMessage()] == []


@pytest.mark.parametrize(("start", "stop"), [(0, 300_000), (0, 1), (12_345, 12_346), (299_999, 300_000)])
def test_bytes_come_from_where_they_were_asked(
    local: LocalHub, tmp_path: Path, start: int, stop: int
) -> None:
    content = (tmp_path / "hub" / "m.safetensors").read_bytes()
    assert taken(Hub(local.address), start, stop) == content[start:stop]


def test_a_hub_that_ignores_ranges_is_read_from_its_beginning(local: LocalHub, tmp_path: Path) -> None:
    content = (tmp_path / "hub" / "m.safetensors").read_bytes()
    local.fault("ignore_range")
    assert taken(Hub(local.address), 100_000, 200_000) == content[100_000:200_000]


def test_the_token_goes_to_the_hub_and_nowhere_else(local: LocalHub) -> None:
    local.gate(NAME, "gated", [TOKEN])
    taken(Hub(local.address, TOKEN))
    seen = {(each["host"], each["token"]) for each in local.asked()}
    assert seen == {("127.0.0.1", TOKEN), ("localhost", None)}
    assert not any(TOKEN in each["path"] for each in local.asked())


def test_no_token_is_sent_that_was_not_given(local: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    taken(Hub(local.address))
    assert not any(each["authorized"] for each in local.asked())
    assert hub_module.default_token() == TOKEN


def failure(local: LocalHub, token: str | None = None, *, listing: bool = False) -> SeamountError:
    hub = Hub(local.address, token)
    file = RemoteFile("m.safetensors", 300_000, None, None)
    with pytest.raises(SeamountError) as raised:
        if listing:
            hub.listing(NAME)
        else:
            with hub.stream(NAME, "main", file, 0, 300_000) as pieces:
                list(pieces)
    error = raised.value
    chain: BaseException | None = error
    while chain is not None:  # what a traceback in a log would show
        assert TOKEN not in str(chain)
        assert "Signature" not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)
    return error


def test_a_gated_repository_says_what_is_missing(local: LocalHub) -> None:
    local.gate(NAME, "gated", ["hf_other"])
    local.tokens([TOKEN])
    nobody, somebody = failure(local), failure(local, TOKEN)
    assert isinstance(nobody, TokenNeeded)
    assert isinstance(somebody, TokenNeeded)
    assert "those who were granted access" in nobody.why
    assert "not granted" in somebody.why
    for error in (nobody, somebody):
        assert f"{local.address}/{NAME}" in error.remedy
    local.tokens([])
    invalid = failure(local, TOKEN)
    assert isinstance(invalid, TokenNeeded)
    assert "not valid" in invalid.why


def test_a_refusal_without_a_reason_asks_for_a_token_or_another_one(local: LocalHub) -> None:
    local.fault("status", status=403, door="resolve", times=0)
    local.tokens([TOKEN])
    assert "without an access token" in failure(local).text
    assert "has not the right" in failure(local, TOKEN).text


def test_a_repository_that_the_hub_has_closed_is_gone(local: LocalHub) -> None:
    local.fault("status", status=403, door="resolve", message="Access to this resource is disabled.")
    assert isinstance(failure(local), RepositoryGone)


def test_a_private_repository_cannot_be_told_from_none_without_a_token(local: LocalHub) -> None:
    local.gate(NAME, "private", ["hf_other"])
    local.tokens([TOKEN])
    assert isinstance(failure(local, listing=True), TokenNeeded)
    assert isinstance(failure(local, TOKEN, listing=True), RepositoryGone)


def test_what_is_not_there_is_gone(local: LocalHub) -> None:
    hub = Hub(local.address)
    with pytest.raises(RepositoryGone, match="no such repository"):
        hub.listing("some/other")
    with pytest.raises(RepositoryGone, match="no such revision"):
        hub.listing(NAME, "v9")
    with pytest.raises(RepositoryGone, match="not there any more"):
        taken(hub, file=RemoteFile("gone.safetensors", 5))
    with pytest.raises(RepositoryGone, match="OWNER/NAME"):
        hub.listing("a/b/c")
    local.remove(NAME)
    assert isinstance(failure(local), RepositoryGone)


def test_a_renamed_repository_is_followed(local: LocalHub) -> None:
    local.rename(NAME, "some/new")
    assert len(taken(Hub(local.address))) == 300_000


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"kind": "status", "status": 429, "retry_after": 7, "door": "resolve"}, "asks to wait"),
        ({"kind": "status", "status": 503, "door": "resolve"}, "in trouble"),
        ({"kind": "status", "status": 500}, "in trouble"),
        ({"kind": "cut", "at": 1000}, "broke off"),
        ({"kind": "drop", "door": "resolve"}, "broke off"),
        ({"kind": "drop"}, "broke off"),
        ({"kind": "expired"}, "store behind"),
        ({"kind": "stall", "at": 1000}, "does not answer"),
    ],
)
def test_what_passes_is_told_from_what_does_not(
    local: LocalHub, fault: dict[str, object], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "READ_TIMEOUT_S", 0.2)
    local.fault(**fault)  # type: ignore[arg-type]
    error = failure(local)
    assert isinstance(error, HubBusyError)
    assert why in error.why
    assert error.wait_s == fault.get("retry_after")
    assert error.expired == (fault["kind"] == "expired")


def test_a_hub_that_is_away_is_told_as_such(local: LocalHub) -> None:
    local.go_away()
    for listing in (True, False):
        error = failure(local, listing=listing)
        assert isinstance(error, HubBusyError)
        assert "no way to 127.0.0.1" in error.why


@pytest.mark.parametrize("fault", [{"kind": "wrong_length", "at": 10}, {"kind": "etag", "door": "resolve"}])
def test_another_file_than_was_listed_is_refused_before_its_bytes(
    local: LocalHub, fault: dict[str, object]
) -> None:
    local.fault(**fault)  # type: ignore[arg-type]
    with pytest.raises(WrongContentError):
        taken(Hub(local.address))


def test_a_size_that_was_a_lie_is_told_with_both_numbers(local: LocalHub) -> None:
    hub = Hub(local.address)
    revision, file = shard(hub)
    longer = RemoteFile(file.path, file.size_bytes + 1000, file.sha256)
    with pytest.raises(WrongContentError, match="301,000 bytes, and now offers 300,000"):
        taken(hub, file=longer)
    with pytest.raises(WrongContentError), hub.stream(NAME, revision, longer, 300_500, 301_000) as pieces:
        list(pieces)


def test_a_listing_that_is_nonsense_is_told(local: LocalHub) -> None:
    local.lie(NAME, "m.safetensors", size=-5)
    with pytest.raises(FetchFailed, match="not a listing"):
        Hub(local.address).listing(NAME)


def test_offline_nothing_is_asked(local: LocalHub) -> None:
    hub = Hub(local.address, offline=True)
    with pytest.raises(HubUnreachable, match="offline mode"):
        hub.listing(NAME)
    with (
        pytest.raises(HubUnreachable, match="offline mode"),
        hub.stream(NAME, "main", RemoteFile("m.safetensors", 5), 0, 5),
    ):
        pass
    assert local.asked() == []


def test_a_token_that_cannot_be_sent_is_not_told_either(local: LocalHub) -> None:
    error = failure(local, f"{TOKEN}\r\nX-Evil: 1")
    assert isinstance(error, HubUnreachable)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:9"), ("HTTP_PROXY", "foo://x"), ("SSL_CERT_FILE", "/nowhere.pem")],
)
def test_an_environment_that_cannot_be_used_is_told(
    local: LocalHub, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    import huggingface_hub

    monkeypatch.setenv(name, value)
    huggingface_hub.close_session()
    with pytest.raises(HubUnreachable, match="the environment names cannot be used") as caught:
        Hub(local.address).listing(NAME)
    assert not isinstance(caught.value, HubBusyError)  # waiting does not help
    assert value not in caught.value.text


def test_a_server_that_speaks_something_else_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(HubBusyError):
            Hub(f"http://127.0.0.1:{server.getsockname()[1]}").listing(NAME)
        thread.join()


def test_a_stream_that_stalls_ends_at_once_when_it_is_aborted(local: LocalHub) -> None:
    hub = Hub(local.address)
    revision, file = shard(hub)
    local.fault("stall", at=1000)
    began_s = time.monotonic()
    with pytest.raises(HubBusyError), hub.stream(NAME, revision, file, 0, 300_000) as pieces:
        next(pieces)
        threading.Timer(0.05, hub.abort).start()
        list(pieces)
    assert time.monotonic() - began_s < hub_module.READ_TIMEOUT_S / 2
