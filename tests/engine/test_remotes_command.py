"""What `seamount remotes` takes and says, without an engine."""

import io
from pathlib import Path

import pytest

from engine import cli
from engine.errors import BadRequest
from engine.paths import DataFolder
from engine.protocol import ErrorBody
from engine.protocol_remote import Remote, RemoteAddress, RemoteFeatures, RemotePrice
from engine.remotes_command import asked_of, lines_of, price_of


def test_prices() -> None:
    assert price_of("0.3, 1.1") == RemotePrice(read=0.3, written=1.1)
    assert price_of("0.3,1.1,0.03,EUR") == RemotePrice(
        read=0.3, written=1.1, read_cached=0.03, currency="EUR"
    )
    for bad in ("", "1", "a,b", "-1,2", "1,2,3,4,5", "nan,1", "1,2,,TOOLONGACURRENCY"):
        with pytest.raises(BadRequest):
            price_of(bad)


def test_a_key_comes_by_the_standard_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-secret\nmore\n"))
    asked = asked_of(
        ["https://a/v1", "https://b/v1"],
        name=None,
        model="m",
        kind="openai",
        fingerprint=None,
        price=None,
        reads_key=True,
    )
    assert asked.key == "sk-secret" and asked.name == "m"
    assert [each.url for each in asked.addresses] == ["https://a/v1", "https://b/v1"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(BadRequest, match="no key"):
        asked_of(
            ["https://a"], name=None, model="", kind="openai", fingerprint=None, price=None, reads_key=True
        )
    with pytest.raises(BadRequest, match="addresses"):
        asked_of(
            ["https://a"] * 9,
            name=None,
            model="",
            kind="openai",
            fingerprint=None,
            price=None,
            reads_key=False,
        )


def test_what_is_told_of_one_does_nothing_to_a_terminal() -> None:
    remote = Remote(
        id="remote:1",
        name="A\x1b[31m",
        kind="openai",
        addresses=[RemoteAddress(url="https://a/v1"), RemoteAddress(url="https://b/v1")],
        model="m",
        whereabouts="elsewhere",
        has_key=True,
        price=RemotePrice(read=1, written=2),
        features=RemoteFeatures(checked_at=0, software="vLLM 1", context_tokens=8192, spent_tokens=90),
        problem=ErrorBody(code="remote", text="It is away."),
        used_address=1,
        change="Its context is smaller.",
    )
    told = "\n".join(lines_of(remote))
    assert "\x1b" not in told
    for word in (
        "leave this machine",
        "https://b/v1 (answered last)",
        "8,192",
        "90 tokens",
        "agree remote:1",
        "It is away.",
    ):
        assert word in told


def test_a_port_is_told_only_where_an_engine_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = DataFolder(tmp_path)
    status = cli.main(["--data", str(folder.root), "remotes", "port"], open_window=lambda *_: 9)
    told = capsys.readouterr()
    assert status != 0 and told.out == "" and "no engine runs here" in told.err
