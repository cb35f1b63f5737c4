"""What the options of `seamount get` ask for."""

import io
from pathlib import Path

import pytest

from engine import cli, get_command
from engine.errors import BadRequest
from engine.get_command import Asked, request_of
from engine.job_commands import command
from engine.paths import DataFolder, data_folder
from engine.protocol_jobs import ConvertAfter, FetchRequest


def test_the_options_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Asked] = []

    def get(_folder: object, asked: Asked) -> int:
        seen.append(asked)
        return 7

    monkeypatch.setattr(get_command, "get", get)
    argv = ["get", "flash@main", "--file", "a*", "--file", "b", "--to", "x", "--convert", "--dense", "bf16"]
    argv += [
        "--draft",
        "skip",
        "--consume",
        "--release",
        "R",
        "--token-stdin",
        "--detach",
        "--save-as",
        "m.gguf",
    ]
    for line in (argv, ["get", "flash"]):
        assert cli.main(line, open_window=lambda _: 99) == 7
    assert seen == [
        Asked("flash@main", ["a*", "b"], "x", True, "bf16", "skip", True, "R", True, True, "m.gguf"),
        Asked("flash"),
    ]


def test_what_they_ask_for(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert request_of(Asked("flash")) == FetchRequest(what="flash")
    asked = Asked("a/b", ["*.gguf"], "here", True, None, "keep", True, "R")
    elsewhere = request_of(Asked("a/b", convert=True, save_as="m.gguf")).convert
    assert elsewhere == ConvertAfter(target=f"{tmp_path}/m.gguf")
    assert request_of(asked) == FetchRequest(
        what="a/b",
        files=["*.gguf"],
        folder=f"{tmp_path}/here",
        convert=ConvertAfter(dense="q8_0", draft="keep", consume=True),
        release="R",
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (Asked("a/b", consume=True), "add --convert"),
        (Asked("a/b", dense="bf16"), "add --convert"),
        (Asked("a/b", save_as="m.gguf"), "add --convert"),
        (Asked(""), "what: string should have at least 1 character"),
        (Asked("a/b", files=["x" * 501]), "files.0: string should have at most 500"),
        (Asked("a/b", to="~nobody-of-this-name/x"), "no such home folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(asked: Asked, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        request_of(asked)


def test_without_a_token_where_one_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(BadRequest, match="there was no token on the standard input"):
        get_command._token()  # pyright: ignore[reportPrivateUsage]


def test_the_command_that_goes_on_can_be_pasted_into_a_shell() -> None:
    asked = Asked("a/b", ["model $(x).gguf"], "my disk", True, consume=True, token_stdin=True)
    words = get_command._words(asked)  # pyright: ignore[reportPrivateUsage]
    assert command(data_folder(), *words) == (
        "seamount get a/b --file 'model $(x).gguf' --to 'my disk' --convert --consume"
    )
    elsewhere = DataFolder(Path("/my data"))
    assert command(elsewhere, "get", "a/b") == "seamount --data '/my data' get a/b"
