"""The settings to paste are what their programs can read."""

import ast
import json
import shlex
import tomllib

import pytest

from app.client_recipes import ANY_MODEL, KEY, Recipe, recipes

URL = "http://127.0.0.1:8642/v1"
# What a model's id may hold, and what each of these languages would trip over.
HOSTILE = 'it\'s "$HOME" `x` \\n/élan.gguf'


def texts(model: str | None = "starter") -> dict[str, Recipe]:
    return {recipe.name: recipe for recipe in recipes(URL, model)}


def arguments(program: str) -> dict[str, object]:
    """Keyword arguments of all calls in a Python text, where they are constants."""
    found: dict[str, object] = {}
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Call):
            found.update(
                {
                    each.arg: each.value.value
                    for each in node.keywords
                    if each.arg and isinstance(each.value, ast.Constant)
                }
            )
    return found


@pytest.mark.parametrize("model", ["starter", HOSTILE])
def test_python_texts_hold_the_address_and_the_model(model: str) -> None:
    openai, anthropic = (
        arguments(texts(model)["OpenAI SDK"].text),
        arguments(texts(model)["Anthropic SDK"].text),
    )
    assert (openai["base_url"], openai["api_key"], openai["model"]) == (URL, KEY, model)
    assert (anthropic["base_url"], anthropic["model"]) == ("http://127.0.0.1:8642", model)
    assert isinstance(anthropic["max_tokens"], int)


@pytest.mark.parametrize("model", ["starter", HOSTILE])
def test_a_shell_reads_its_texts_as_they_are_meant(model: str) -> None:
    words = shlex.split(texts(model)["Claude Code"].text)
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:8642" in words
    assert f"ANTHROPIC_MODEL={model}" in words
    curl = shlex.split(texts(model)["curl"].text)
    assert curl[1] == f"{URL}/chat/completions"
    assert f"Authorization: Bearer {KEY}" in curl
    assert json.loads(curl[curl.index("-d") + 1])["model"] == model


@pytest.mark.parametrize("model", ["starter", HOSTILE])
def test_codex_reads_its_text_as_toml(model: str) -> None:
    read = tomllib.loads(texts(model)["Codex"].text)
    provider = read["model_providers"][read["model_provider"]]
    assert read["model"] == model
    assert (provider["base_url"], provider["wire_api"]) == (URL, "responses")
    assert "api_key" not in provider


def test_without_a_model_a_word_stands_in_its_place() -> None:
    assert all(ANY_MODEL in recipe.text for recipe in recipes(URL, None))
