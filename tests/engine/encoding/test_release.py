"""Which release a model is of: known, packaged in any way, or refused by name."""

from pathlib import Path
from typing import Any

import pytest

from engine.encoding.release import choose_release, release, releases
from engine.encoding.tokenizer import official_tokenizer
from engine.errors import UnknownRelease

V4 = {"model_type": "deepseek_v4"}
DSPARK = {**V4, "dspark_block_size": 5}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deepseek-ai/DeepSeek-V4-Flash", "preview"),
        ("deepseek-ai/DeepSeek-V4-Pro", "preview"),
        ("DeepSeek-V4-Flash-DSpark", "preview"),
        ("DeepSeek-V4-Pro-preview", "preview"),
        ("deepseek-ai/DeepSeek-V4-Flash-0731", "0731"),
        ("DeepSeek-V4-Pro-0813", "0731"),
        ("nvidia/DeepSeek-V4-Flash-NVFP4", "preview"),
        ("deepseek_v4_flash_0731", "0731"),
        ("DeepSeek-V4-Flash-0731-Q4_K_M-00001-of-00005.gguf", "0731"),
        ("unsloth/DeepSeek-V4-Flash-0731-GGUF", "0731"),
        ("/models/deepseek-ai_DeepSeek-V4-Pro-IQ2_XXS.gguf", "preview"),
        ("C:\\models\\DeepSeek-V4-Pro-MXFP4_MOE.gguf", "preview"),
        ("DeepSeek V4 Flash", "preview"),
        ("DeepSeek-V4-Pro-0813-IQ4_NL.gguf", "0731"),
        ("DeepSeek-V4-Flash-UD-Q2_K_XL", "preview"),
        ("DeepSeek-V4-Flash-Q4_1", "preview"),
        ("deepseek-ai-DeepSeek-V4-Flash-284B-A13B-Q8_0/", "preview"),
    ],
)
def test_a_known_name_however_packaged(name: str, expected: str) -> None:
    assert choose_release([name]).id == expected


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-ai/DeepSeek-V4.1-Flash",
        "DeepSeek-V4.1-Flash-1017",
        "DeepSeek-V4-Flash-Base",
        "DeepSeek-V4-Pro-Base-Q4_K_M.gguf",
        "DeepSeek-V4-Flash-Vision-Exp",
        "DeepSeek-V4-Flash-1017",
        "DeepSeek-V4-Flash-0813",
        "DeepSeek-V4-Pro-0731",
        "DeepSeek-V4-Flash-0731-Distill-Llama",
        "DeepSeek-V4-Flash-abliterated",
        "DeepSeek-V4",
        "DeepSeek-V3.2",
        "Qwen3-8B",
        "my model",
        "",
        "///",
    ],
)
def test_an_unknown_one_is_refused_by_name(name: str) -> None:
    with pytest.raises(UnknownRelease) as refused:
        choose_release([name])
    if bare := name.strip("/"):
        assert bare.rpartition("/")[2] in refused.value.text
    assert "guess" not in refused.value.text


def test_the_first_name_that_says_something_counts() -> None:
    assert choose_release(["abc123", "DeepSeek-V4-Flash-0731", "DeepSeek-V4-Flash"]).id == "0731"
    with pytest.raises(UnknownRelease):
        choose_release([])


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("DeepSeek-V4-Flash", V4, "preview"),
        ("DeepSeek-V4-Flash-DSpark", DSPARK, "preview"),
        ("DeepSeek-V4-Flash-0731", DSPARK, "0731"),
        ("DeepSeek-V4-Flash", DSPARK, None),
        ("DeepSeek-V4-Flash-DSpark", V4, None),
        ("DeepSeek-V4-Flash-0731", V4, None),
        ("DeepSeek-V4-Flash", {"model_type": "deepseek_v41"}, None),
        ("DeepSeek-V4-Flash", {"model_type": "llama"}, None),
        ("DeepSeek-V4-Flash", {}, None),
        ("DeepSeek-V4-Flash", {"model_type": ["deepseek_v4"]}, None),
        ("DeepSeek-V4-Flash", {"model_type": "deepseek4"}, "preview"),
    ],
)
def test_the_config_must_be_that_of_the_named_model(
    name: str, config: dict[str, Any], expected: str | None
) -> None:
    if expected is None:
        with pytest.raises(UnknownRelease):
            choose_release([name], config)
    else:
        assert choose_release([name], config).id == expected


def test_the_releases_differ_in_their_efforts_only() -> None:
    old, new = release("preview"), release("0731")
    assert (old.tokens, old.dsml) == (new.tokens, new.dsml)
    assert old.efforts["max"] == new.efforts["high"]
    assert old.efforts["high"] == new.efforts["low"] == ""
    tokenizer = official_tokenizer()
    assert len(tokenizer.encode(old.efforts["max"])) == 79
    assert len(tokenizer.encode(new.efforts["max"])) == 92
    for each in releases().values():
        assert {*each.modes.values(), each.default_effort} <= set(each.efforts)
        assert set(each.api_efforts.values()) <= {*each.efforts, "none"}
        assert all(literal in tokenizer.control for literal in each.tokens.literals())


def test_a_release_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UnknownRelease, match="V9"):
        release("V9")


def test_a_later_release_is_data(tmp_path: Path) -> None:
    """The seam: other tokens, other names in calls, another ladder, and no code."""
    from engine.conversation import Message, ToolCall
    from engine.encoding.release import RELEASES
    from engine.encoding.v4_prompt import Style, render

    path = tmp_path / "releases.toml"
    path.write_text(
        RELEASES.read_text("utf-8")
        + """
[release.later]
title = "A later one"
models = ["DeepSeek-V5"]
default_effort = "some"
modes = { high = "some", max = "some" }
api_efforts = {}
efforts = { some = "thorough" }
tokens = { system = "<｜System｜>" }
dsml = { calls = " calls", invoke = " invoke" }
""",
        "utf-8",
    )
    later = releases(path)["later"]
    assert later.tokens.user == "<｜User｜>"
    messages = [Message("system", "S"), Message("assistant", "", tool_calls=(ToolCall("f", "{}"),))]
    text = render(messages, Style(later, False), {**official_tokenizer().control, "<｜System｜>": 7}).text
    assert text.startswith("<｜begin▁of▁sentence｜><｜System｜>S")
    assert '<｜DSML｜ calls>\n<｜DSML｜ invoke name="f">' in text


def test_a_file_of_another_format_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "releases.toml"
    path.write_text("format = 2\n", "utf-8")
    with pytest.raises(ValueError, match="format"):
        releases(path)
