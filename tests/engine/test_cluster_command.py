"""`seamount cluster plan` as it is typed.

The plans in `cluster_plans/` are whole outputs, named by their arguments; after a change that is meant, each is written
anew by the command itself and looked through.
"""

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from engine import remotes_arguments
from engine.backends.remote_address import read_address
from engine.cli import main
from engine.paths import DataFolder
from engine.protocol_remote import SetRemote

PLANS = Path(__file__).parent / "cluster_plans"


def run(tmp_path: Path, *arguments: str) -> int:
    return main(["--data", str(tmp_path / "data"), "cluster", "plan", *arguments], open_window=lambda *_: 99)


def golden() -> list[Path]:
    return sorted(PLANS.glob("*.txt"))


def arguments_of(path: Path) -> list[str]:
    """`8x80 2 pro-0813 vllm.txt`, and what else stands behind these."""
    gpus, nodes, model, engine, *more = path.stem.split(" ")
    return ["--gpus", gpus, "--nodes", nodes, "--model", model, "--engine", engine, *more]


@pytest.mark.parametrize("path", golden(), ids=lambda path: path.stem)
def test_a_whole_plan(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, *arguments_of(path)) == 0
    assert capsys.readouterr().out == path.read_text("utf-8")


def test_there_are_whole_plans() -> None:
    assert len(golden()) >= 5


def test_what_is_pasted_into_seamount_is_its_own_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "--gpus", "8x80", "--model", "flash") == 0
    pasted = re.findall(r"printenv CLUSTER_KEY \|\\\n\s+(seamount .+)\n", capsys.readouterr().out)
    assert len(pasted) == 2
    parser = argparse.ArgumentParser()
    remotes_arguments.add_arguments(parser.add_subparsers(dest="command").add_parser)
    for command in pasted:
        words = shlex.split(command.replace("$HEAD", "10.0.0.1"))
        asked = parser.parse_args(words[1:])
        assert asked.action == "add"
        assert asked.key_stdin
        assert asked.model == "deepseek-ai/DeepSeek-V4-Flash"
        assert read_address(asked.url[0]).whereabouts == "local network"


def test_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--gpus", "8x80", "--model", "flash-0731") == 0
    assert list(tmp_path.iterdir()) == []


def test_experts_in_fp8_are_sglangs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--gpus", "8x141", "--model", "flash", "--quantised-as", "fp8")
    found = facts(tmp_path, capsys, *arguments, status=1)
    assert [plan["checkpoint"]["experts"] for plan in found["plans"]] == ["fp8"]
    assert found["plans"][0]["environment"] == {"SGLANG_DSV4_FP4_EXPERTS": "0"}
    assert "SGLang's own" in found["refused"]["vllm"]["text"]
    assert facts(tmp_path, capsys, *arguments, "--engine", "vllm", status=1)["error"]["code"] == "bad_request"


def facts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0
) -> dict[str, Any]:
    assert run(tmp_path, *arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def test_the_same_for_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = facts(tmp_path, capsys, "--gpus", "8xH100", "--nodes", "2", "--model", "Pro-0813")
    assert [plan["engine"] for plan in found["plans"]] == ["vllm", "sglang"]
    assert found["refused"] == {}
    for plan in found["plans"]:
        assert plan["expert_parallel"] == plan["tensor_parallel"] * plan["data_parallel"] == 16
        assert len(plan["commands"]) == 2
        assert plan["checkpoint"]["repository"] == "deepseek-ai/DeepSeek-V4-Pro-0813"
        assert re.fullmatch(r"[0-9a-f]{40}", plan["checkpoint"]["revision"])
        stage = plan["stages"][0]
        kinds = {name: size for name, size in stage["weights"].items() if name != "total"}
        assert sum(kinds.values()) == stage["weights"]["total"]
        used = plan["context_tokens"] * plan["sequences_per_group"] * stage["cache"]["token_bytes"]
        assert stage["weights"]["total"] + used <= stage["budget_bytes"]
        # What is pasted into Seamount is what Seamount takes, once the address stands for the variable.
        entry = SetRemote.model_validate(plan["remote"])
        assert entry.addresses[0].url.replace("$HEAD", "10.0.0.1").startswith("http://10.0.0.1:")
        assert entry.key is None


def test_one_engine_may_be_able_where_the_other_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (
        "--gpus",
        "8x80",
        "--nodes",
        "2",
        "--model",
        "pro",
        "--context",
        "160000",
        "--sequences",
        "4",
    )
    found = facts(tmp_path, capsys, *arguments)
    assert len(found["plans"]) == 2
    tight = (*arguments[:-4], "--context", "262144", "--sequences", "8")
    found = facts(tmp_path, capsys, *tight)
    assert {plan["pipeline_parallel"] for plan in found["plans"]} == {2}
    most = (*arguments[:-4], "--context", "1048576", "--sequences", "24")
    found = facts(tmp_path, capsys, *most, status=1)
    assert [plan["engine"] for plan in found["plans"]] == ["vllm"]
    assert "does not fit 2 machines" in found["refused"]["sglang"]["text"]
    assert run(tmp_path, *most) == 1
    assert "with SGLang: at best about" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--gpus", "8x80", "--model", "starter"],
            "'starter' is no checkpoint of a DeepSeek-V4 in the library",
        ),
        (["--gpus", "8x80", "--model", "x" * 500], "no checkpoint"),
        (["--gpus", "4x80+4x40", "--model", "flash"], "GPUs of several kinds"),
        (["--gpus", "8x80", "--nodes", "0", "--model", "flash"], "0 machines"),
        (["--gpus", "1x80", "--model", "flash"], "the smallest that would do is one machine with 3 GPUs"),
        (
            ["--gpus", "8x80", "--model", "pro-0813", "--quantised-as", "fp8"],
            "DeepSeek-V4-Pro-0813 is not known to be had with its experts in FP8",
        ),
        (["--gpus", "8x80", "--model", "flash", "--context", "2000000"], "2,000,000 tokens"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *arguments) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1
    error = facts(tmp_path, capsys, *arguments, status=1)["error"]
    assert said in error["text"]
    assert error["code"] in ("bad_request", "does_not_fit")


@pytest.mark.parametrize("arguments", [[], ["--gpus", "8x80"], ["--model", "flash"]])
def test_what_is_missing_is_said(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, *arguments)


def test_every_v4_checkpoint_of_the_library_can_be_planned_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["flash", "pro", "flash-0731", "pro-0813", "flash-dspark", "pro-dspark"]
    for name in names:
        assert run(tmp_path, "--gpus", "8x141", "--nodes", "2", "--model", name) == 0
    assert run(tmp_path, "--gpus", "8x141", "--model", "nothing") != 0
    said = capsys.readouterr().err
    assert all(name in said for name in names)


def test_an_entry_of_ones_own_is_planned_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = DataFolder(tmp_path / "data")
    folder.create()
    (folder.root / "catalogue.toml").write_text(
        '[[model]]\nname = "mine"\ntitle = "Mine"\nkind = "checkpoint"\nrepository = "me/mine"\n'
        'release = "DeepSeek-V4-Flash-0731"\n',
        "utf-8",
    )
    assert run(tmp_path, "--gpus", "8x80", "--model", "mine", "--engine", "vllm") == 0
    assert "vllm serve me/mine --tensor-parallel-size 8 " in capsys.readouterr().out
