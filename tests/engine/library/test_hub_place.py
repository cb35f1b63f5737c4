"""Which hub is asked, by the settings and by the environment."""

import pytest

from engine.errors import BadRequest
from engine.library.hub_place import HUB, endpoint_of, host_of, is_hub_itself, is_offline, may_carry_secrets
from engine.protocol import Settings


def test_the_settings_come_first_then_the_environment() -> None:
    named, unnamed = Settings(hub_endpoint="https://mirror.example/"), Settings()
    environment = {"HF_ENDPOINT": "https://other.example:8443"}
    assert endpoint_of(named, environment) == "https://mirror.example"
    assert endpoint_of(unnamed, environment) == "https://other.example:8443"
    assert endpoint_of(unnamed, {}) == HUB
    assert endpoint_of(Settings(hub_endpoint="  "), {"HF_ENDPOINT": ""}) == HUB


@pytest.mark.parametrize(
    "address",
    [
        "mirror.example",
        "ftp://mirror.example",
        "https://",
        "https://a b",
        "https://a:99999",
        "https://é.example",
        "https://name:secret@mirror.example",
        "https://mirror.example?token=secret",
        "https://mirror.example#secret",
        "https://a\\b",
    ],
)
def test_an_address_that_cannot_be_one(address: str) -> None:
    for settings, environment in (
        (Settings(hub_endpoint=address), {}),
        (Settings(), {"HF_ENDPOINT": address}),
    ):
        with pytest.raises(BadRequest) as caught:
            endpoint_of(settings, environment)
        assert "secret" not in caught.value.text


def test_offline_by_either() -> None:
    assert is_offline(Settings(offline=True), {})
    assert is_offline(Settings(), {"HF_HUB_OFFLINE": "1"})
    assert is_offline(Settings(), {"TRANSFORMERS_OFFLINE": "true"})
    assert not is_offline(Settings(), {"HF_HUB_OFFLINE": "0"})


def test_hosts_and_what_may_be_sent_there() -> None:
    assert host_of("https://Mirror.Example:8443/x") == "mirror.example:8443"
    assert is_hub_itself(HUB)
    assert not is_hub_itself("https://huggingface.co.example")
    assert may_carry_secrets("https://anything.example")
    assert may_carry_secrets("http://127.0.0.1:80")
    assert may_carry_secrets("http://[::1]:80")
    assert may_carry_secrets("http://localhost")
    assert not may_carry_secrets("http://192.168.1.2")
    assert not may_carry_secrets("http://localhost.example")
