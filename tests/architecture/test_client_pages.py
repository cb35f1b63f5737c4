"""The pages about other programs say nothing that the program does not have: their blocks are what they claim to be,
their addresses and paths are the engine's, their commands are Seamount's."""

import ast
import calendar
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine import cli

PAGES = Path(__file__).resolve().parents[2] / "docs" / "clients"
INDEX = PAGES / "README.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = re.compile(r"\b(https?)://(127\.0\.0\.1|localhost):(\d+)(/[A-Za-z0-9_./-]*)?")
PATH = re.compile(r"(?<![\w.])/v1(?:/[a-z_]+)*|(?<![\w.])/openapi\.json")
PORT = "8642"
LINK = re.compile(r"\]\(([^)#:]+?)(?:#[^)]*)?\)")
MONTHS = calendar.month_name[1:]


def pages() -> list[Path]:
    return sorted(PAGES.glob("*.md"))


def clients() -> list[Path]:
    return [page for page in pages() if page != INDEX]


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of every block."""
    for found in BLOCK.finditer(page.read_text("utf-8")):
        yield found[1], found[2]


def unmarked(text: str) -> str:
    """A page without its blocks."""
    return BLOCK.sub("", text)


@cache
def routes() -> frozenset[str]:
    """Every path under /v1 that the engine answers, parameters left out, by its own description."""
    from engine.server import openapi

    described: dict[str, Any] = openapi.document()
    return frozenset(path for path in described["paths"] if path.startswith("/v1"))


def test_there_are_pages_and_routes_to_look_at() -> None:
    assert len(clients()) >= 20
    assert {
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/completions",
        "/v1/models",
        "/v1/messages",
    } <= routes()


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_blocks_are_what_they_say(page: Path) -> None:
    text = page.read_text("utf-8")
    assert text.count("```") == 2 * len(list(blocks(page)))
    for language, block in blocks(page):
        if language == "json":
            json.loads(block)
        elif language == "toml":
            tomllib.loads(block)
        elif language == "yaml":
            assert yaml.safe_load(block)
        elif language == "python":
            ast.parse(block)
        elif language in ("bash", ""):
            # Every command can be split as a shell splits it; what curl sends is JSON.
            for command in commands(block):
                if command[0] == "curl" and "-d" in command:
                    json.loads(command[command.index("-d") + 1])
        else:
            assert language == "js", language
            assert block.count("{") == block.count("}")
            assert block.count("(") == block.count(")")


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a shell's block."""
    for line in block.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_addresses_are_the_engines(page: Path) -> None:
    text = page.read_text("utf-8")
    for scheme, _host, port, path in ADDRESS.findall(text):
        if f"--port {port}" in text and port != PORT:
            continue  # the client's own
        assert (scheme, port) == ("http", PORT)
        bare = path.rstrip("./")
        assert bare in ("", "/v1", "/openapi.json") or bare in routes(), path


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_paths_are_the_engines(page: Path) -> None:
    for path in PATH.findall(page.read_text("utf-8")):
        assert path in ("/v1", "/openapi.json") or path in routes(), path


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_seamounts_commands_are_commands(page: Path) -> None:
    parser = cli._parser()
    text = page.read_text("utf-8")
    written = [
        words for language, block in blocks(page) if language in ("bash", "") for words in commands(block)
    ]
    written += [shlex.split(each) for each in re.findall(r"`(seamount [^`]+)`", unmarked(text))]
    for words in written:
        if words[0] == "seamount":
            parser.parse_args(words[1:])  # ends the test where it is none


@pytest.mark.parametrize("page", clients(), ids=lambda page: page.stem)
def test_a_page_says_its_settings_and_what_was_tried(page: Path) -> None:
    text = page.read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "Settings" or "Settings" in headings
    assert headings[-1] == "Tried"
    tried = text.rpartition("## Tried")[2]
    dated = re.search(rf"\b\d{{1,2}} (?:{'|'.join(MONTHS)}) \d{{4}}\b", tried)
    assert dated or tried.strip().startswith("Not here: ")
    assert f"127.0.0.1:{PORT}" in text


def rows() -> dict[str, list[str]]:
    """The index's table: page → its cells."""
    found: dict[str, list[str]] = {}
    for line in INDEX.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| [") and (link := LINK.search(cells[0])):
            found[link[1]] = cells
    return found


def test_the_index_has_every_page() -> None:
    assert set(rows()) == {page.name for page in clients()}


@pytest.mark.parametrize("page", clients(), ids=lambda page: page.stem)
def test_the_index_and_the_page_agree_on_what_was_tried(page: Path) -> None:
    _, _, tried, works = rows()[page.name]
    text = page.read_text("utf-8").rpartition("## Tried")[2]
    if text.strip().startswith("Not here: "):
        assert (tried, works) == ("no", "")
        return
    assert works
    for version in re.findall(r"\d+\.\d+\.\d+|\d+\.\d+", tried):
        assert version in text, version


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        assert (PAGES / link).is_file(), link
