"""What an address may look like, and what it tells of where a conversation goes."""

import pytest

from engine.backends.remote_address import Address, read_address, read_fingerprint, whereabouts_of
from engine.errors import BadRequest
from engine.protocol_remote import Whereabouts


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://api.example.com/v1/", Address("https", "api.example.com", None, "/v1")),
        ("https://API.Example.com:8443", Address("https", "api.example.com", 8443, "")),
        ("http://127.0.0.1:8000/v1/chat/completions", Address("http", "127.0.0.1", 8000, "/v1")),
        ("http://gpu-box/v1", Address("http", "gpu-box", None, "/v1")),
        ("http://[fd00::1]:80/v1", Address("http", "fd00::1", 80, "/v1")),
        ("ssh://me@box.example.com:2222", Address("ssh", "box.example.com", 2222, "", "me")),
        ("ssh://box", Address("ssh", "box", None)),
        ("http://[fe80::1%eth0]/v1", Address("http", "fe80::1%eth0", None, "/v1")),
    ],
)
def test_addresses(url: str, address: Address) -> None:
    assert read_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "ftp://box/v1",
        "file:///etc/passwd",
        "https://",
        "https://user@box/v1",
        "https://user:secret@box/v1",
        "https://box/v1?key=secret",
        "https://box/v1#x",
        "https://box:0/v1",
        "https://box:99999/v1",
        "https://bo x/v1",
        "https://böx/v1",
        "https://box/v1\nHost: other",
        "https://-oProxyCommand=x/v1",
        "https://" + "a" * 600,
        "http://api.example.com/v1",
        "http://8.8.8.8/v1",
        "http://0.0.0.0/v1",
        "ssh://-oProxyCommand=touch/",
        "ssh://me@-oProxyCommand=touch",
        "ssh://-l@box",
        "ssh://me;id@box",
        "ssh://me:secret@box",
        "ssh://me@box/path",
        "ssh://me@10.0.0.1%$(touch)",
        "ssh://me@[fe80::1%$(touch)]",
        "ssh://me@[fe80::1%eth0;id]",
        # A name that looks near and is not, and numbers that do not look like what they are.
        "https://127.0.0.1%.example.com/v1",
        "https://134744072/v1",
        "https://0x08080808/v1",
        "https://8.8.2056/v1",
        "https://010.8.8.8/v1",
    ],
)
def test_what_is_no_address_is_one_sentence(url: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_address(url)
    assert "secret" not in caught.value.text and "\n" not in caught.value.text


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("localhost", "this machine"),
        ("127.3.2.1", "this machine"),
        ("::1", "this machine"),
        ("::ffff:127.0.0.1", "this machine"),
        ("10.1.2.3", "local network"),
        ("192.168.0.9", "local network"),
        ("fe80::1%eth0", "local network"),
        ("box", "local network"),
        ("box.local", "local network"),
        ("203.0.113.7", "elsewhere"),
        ("100.64.0.1", "elsewhere"),
        ("172.32.0.1", "elsewhere"),
        ("::ffff:8.8.8.8", "elsewhere"),
        ("api.example.com", "elsewhere"),
        ("localhost.example.com", "elsewhere"),
        ("10.0.0.1.example.com", "elsewhere"),
    ],
)
def test_whereabouts(host: str, where: Whereabouts) -> None:
    assert whereabouts_of(host) == where


def test_fingerprints_have_one_form() -> None:
    whole = "ab" * 32
    shown = ":".join(["AB"] * 32)
    assert read_fingerprint(whole) == read_fingerprint(shown) == read_fingerprint(f"SHA256:{shown}") == shown
    for bad in ("", "ab" * 31, "xy" * 32):
        with pytest.raises(BadRequest):
            read_fingerprint(bad)
