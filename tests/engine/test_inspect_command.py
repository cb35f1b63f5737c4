"""What `seamount inspect` prints of checkpoints and GGUF files, for people and for machines."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ModelFileError
from engine.inspect_command import inspect, release_names
from tests.convert.seeded_checkpoint import write_checkpoint
from tests.convert.test_gguf_header import STRING, TYPE_F32, entry, gguf, tensor


@pytest.fixture
def flash(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "DeepSeek-V4-Flash-0731", release="0731", layers=3, n_routed_experts=4)


def printed(capsys: pytest.CaptureFixture[str], path: Path, status: int) -> list[str]:
    assert inspect(path, as_json=False) == status
    return capsys.readouterr().out.splitlines()


def as_json(capsys: pytest.CaptureFixture[str], path: Path, status: int) -> dict[str, Any]:
    assert inspect(path, as_json=True) == status
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_whole_checkpoint(flash: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, flash, 0)
    assert all(line.startswith(("ok  ", "      ")) for line in lines)
    text = "\n".join(lines)
    for said in (
        "checkpoint DeepSeek-V4-Flash-0731: 8 shards, ",
        "F8_E4M3",
        "release DeepSeek-V4 0731/0813",
        "3 layers of 256, 4 experts, 2 for a token",
        "a DSpark drafter of 3 stages",
        "parameters: ",
        "every tensor that its config calls for is there, and no other",
        "with --dense q8_0",
        "with --dense bf16",
        "free on its disk",
    ):
        assert said in text, said
    facts = as_json(capsys, flash, 0)
    assert (facts["kind"], facts["release"], facts["shards"], facts["well"]) == (
        "checkpoint",
        "0731",
        8,
        True,
    )
    assert facts["shape"]["dspark"]["stages"] == 3 and facts["tokenizer"] is True
    assert facts["parameters"]["total"] == facts["parameters"]["model"] + facts["parameters"]["draft"]
    assert facts["comparison"]["missing"] == {"count": 0, "first": []}
    assert [each["dense"] for each in facts["results"]] == ["q8_0", "bf16"]


def test_a_preview_under_the_name_of_the_official_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_checkpoint(tmp_path / "DeepSeek-V4-Flash-0731", release="preview", layers=3)
    lines = printed(capsys, folder, 1)
    assert any(line.startswith("!!  release unknown") and "DSpark" in line for line in lines)
    facts = as_json(capsys, folder, 1)
    assert facts["release"] is None and "lacks a DSpark drafter" in facts["release_problem"]
    assert any("an MTP drafter" in line for line in lines)


def test_what_is_missing_and_unexpected_is_counted_and_named(
    flash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (flash / "tokenizer.json").unlink()
    sorted(flash.glob("model-*.safetensors"))[1].unlink()
    config = json.loads((flash / "config.json").read_text())
    config["dspark_markov_rank"] = 16
    (flash / "config.json").write_text(json.dumps(config))
    lines = printed(capsys, flash, 1)
    bad = [line for line in lines if line.startswith("!!")]
    assert any("1 of its 8 shards are missing: “model-00002-of-00008.safetensors”" in line for line in bad)
    assert any("tensors are missing: download" in line for line in bad)
    assert any("3 tensors are of another format or shape" in line for line in bad)
    assert any("no tokenizer.json" in line for line in bad)
    assert "      mtp.2.confidence_head.proj.weight: BF16 [1, 288], not BF16 [1, 272]" in lines
    missing = as_json(capsys, flash, 1)["comparison"]["missing"]
    assert missing["count"] > 20 and len(missing["first"]) == 20
    assert f"      and {missing['count'] - 20:,} more" in lines


def test_another_architecture_is_told_as_far_as_it_can_be(
    flash: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((flash / "config.json").read_text())
    config["architectures"] = ["DeepseekV41ForCausalLM"]
    config["model_type"] = "deepseek_v41"
    (flash / "config.json").write_text(json.dumps(config))
    lines = printed(capsys, flash, 1)
    assert any(
        line.startswith("!!") and "deepseek_v41" in line and "official DeepSeek-V4" in line for line in lines
    )
    assert any("tensors" in line for line in lines) and not any("--dense" in line for line in lines)
    assert as_json(capsys, flash, 1)["shape"] is None


def test_a_base_checkpoint_has_no_exact_gguf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "DeepSeek-V4-Flash-Base", layers=3, expert_dtype="fp8")
    lines = printed(capsys, folder, 1)
    assert any(line.startswith("!!  its experts are not FP4") for line in lines)
    assert any("every tensor that its config calls for" in line for line in lines)


def test_a_gguf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "DeepSeek-V4-Flash-0731-MXFP4.gguf"
    entries = [
        entry("general.architecture", STRING, "deepseek4"),
        entry("general.name", STRING, "DeepSeek-V4-Flash-0731\x1b[31m"),
    ]
    content = gguf(entries, [tensor("a", (32, 2), TYPE_F32, 0)], bytes(256))
    path.write_bytes(content)
    lines = printed(capsys, path, 0)  # its own name is strange, the file's is known
    assert all(line.isprintable() for line in lines)
    entries[1] = entry("general.name", STRING, "DeepSeek-V4-Flash-0731")
    path.write_bytes(gguf(entries, [tensor("a", (32, 2), TYPE_F32, 0)], bytes(256)))
    lines = printed(capsys, path, 0)
    assert "ok  architecture deepseek4, name DeepSeek-V4-Flash-0731" in lines
    assert "ok  release DeepSeek-V4 0731/0813" in lines
    assert "ok  its size is what its tensors need" in lines
    facts = as_json(capsys, path, 0)
    assert (facts["release"], facts["parameters"], facts["surplus_bytes"]) == ("0731", 64, 0)
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert any("belong to no tensor" in line for line in printed(capsys, path, 1))


def test_a_gguf_of_another_model(starter_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, starter_path, 0)
    assert any("architecture llama" in line for line in lines) and not any(
        "release" in line for line in lines
    )
    assert "ok  134.52 million parameters, trained on a context of 8,192" in lines


def test_what_cannot_be_inspected_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    for path, why in (
        (tmp_path, "it holds no config.json; choose the folder"),
        (tmp_path / "model.safetensors", "name the folder that holds it"),
        (tmp_path / "page.gguf", "web page"),
        (tmp_path / "nothing", "no such file"),
    ):
        with pytest.raises(ModelFileError, match=why):
            inspect(path, as_json=False)
        error = as_json(capsys, path, 1)["error"]
        assert error["code"] == "model_file" and why in error["text"]


def test_the_name_of_a_checkpoint_in_the_hubs_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--deepseek-ai--DeepSeek-V4-Pro-0813" / "snapshots" / "72e1d323"
    snapshot.mkdir(parents=True)
    assert release_names(snapshot) == ["DeepSeek-V4-Pro-0813"]
    (tmp_path / "mine").symlink_to(snapshot)
    assert release_names(tmp_path / "mine") == ["mine", "DeepSeek-V4-Pro-0813"]
