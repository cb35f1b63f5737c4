"""Checkpoint folders: whole ones, and everything that can be wrong between index, shards and folder."""

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.checkpoint import CONFIG, INDEX, SINGLE, Checkpoint, read_config
from convert.checkpoint_error import CheckpointError
from convert.expected_tensors import Expected, compare, expected_tensors
from convert.model_shape import ModelShape
from tests.convert.seeded_checkpoint import stored, write_checkpoint, write_shard


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    return write_checkpoint(folder, layers=3, n_routed_experts=2, hidden_size=128)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def refusal(folder: Path, *, consumed: tuple[str, ...] = ()) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.open(folder, consumed=consumed)
    assert caught.value.why.isprintable() and len(caught.value.why) < 600
    return caught.value


def rewrite_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((folder / INDEX).read_text("utf-8"))
    change(index)
    (folder / INDEX).write_text(json.dumps(index), "utf-8")


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("model-*.safetensors"))


def test_a_whole_checkpoint(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.problems == ()
    assert [shard.path.name for shard in checkpoint.shards] == [path.name for path in shards(folder)]
    assert checkpoint.tokenizer == folder / "tokenizer.json"
    assert checkpoint.config["model_type"] == "deepseek_v4"
    expected = expected_tensors(ModelShape.from_config(checkpoint.config))
    assert compare(checkpoint.tensors, expected).agrees
    assert checkpoint.tensor_bytes == sum(each.size_bytes for each in expected.values())
    for name in ("embed.weight", "layers.2.attn.compressor.ape", "mtp.0.ffn.experts.1.w2.weight"):
        source = checkpoint.tensors[name]
        with source.shard.open("rb") as file:
            file.seek(source.offset)
            assert file.read(source.size_bytes) == stored(folder, name).tobytes()
        assert expected[name] == Expected(source.dtype, source.shape)


def test_one_file_without_an_index(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "single"
    folder.mkdir()
    shutil.copy(whole / CONFIG, folder / CONFIG)
    names = ("norm.weight", "hc_head_base")
    write_shard(
        folder / SINGLE,
        {name: (dtype, stored(whole, name)) for name, dtype in zip(names, ("BF16", "F32"), strict=True)},
    )
    checkpoint = Checkpoint.open(folder)
    assert set(checkpoint.tensors) == set(names) and checkpoint.tokenizer is None
    (folder / SINGLE).write_bytes(b"GGUF" + bytes(100))
    assert refusal(folder).problem == "not_safetensors"


def test_the_hubs_cache_holds_links_only(folder: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "60d8d707"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / f"{number:064x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:064x}")
    checkpoint = Checkpoint.open(snapshot)
    assert checkpoint.shards[0].path.parent == snapshot
    # A download that stopped leaves links to blobs that are not there.
    shard = shards(snapshot)[1]
    shard.resolve().unlink()
    error = refusal(snapshot)
    assert error.problem == "unreadable" and "a link to a file that is not there" in error.why


def test_a_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert Checkpoint.open(tmp_path / "link").shards


def test_loops_end(folder: Path, tmp_path: Path) -> None:
    shard = shards(folder)[0]
    shard.unlink()
    shard.symlink_to(shard.name)
    assert refusal(folder).problem == "unreadable"
    (folder / INDEX).unlink()
    (folder / INDEX).symlink_to(INDEX)
    assert refusal(folder).problem == "unreadable"
    (folder / CONFIG).unlink()
    (folder / CONFIG).symlink_to(CONFIG)
    assert refusal(folder).problem == "unreadable"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refusal(tmp_path / "loop").problem == "unreadable"


@pytest.mark.parametrize(
    "name",
    [
        "../model.safetensors",
        "..",
        ".",
        "",
        "/etc/passwd",
        "/tmp/model.safetensors",
        "a/model.safetensors",
        "a\\model.safetensors",
        "..\\model.safetensors",
        "C:model.safetensors",
        "C:\\model.safetensors",
        "\\\\server\\share\\model.safetensors",
        "model.safetensors:stream",
        "model.safetensors\n",
        "model\0.safetensors",
        "model.bin",
        ".safetensors",
        "x" * 300 + ".safetensors",
    ],
)
def test_an_index_never_leads_out_of_its_folder(folder: Path, name: str, tmp_path: Path) -> None:
    # Something readable stands where the name leads, so that only the refusal keeps it from being read.
    shutil.copy(shards(folder)[0], tmp_path / "model.safetensors")

    def point_away(index: dict[str, Any]) -> None:
        index["weight_map"]["embed.weight"] = name

    rewrite_index(folder, point_away)
    error = refusal(folder)
    assert error.problem == "unsafe" and "its index names" in error.why
    with pytest.raises(CheckpointError):
        Checkpoint.survey(folder)


def test_missing_shards_are_listed(folder: Path) -> None:
    gone = shards(folder)[1:3]
    for path in gone:
        path.unlink()
    error = refusal(folder)
    assert error.problem == "incomplete" and "2 of its 6 shards are missing" in error.why
    assert all(path.name in error.why for path in gone)
    survey = Checkpoint.survey(folder)
    assert len(survey.shards) == 4 and len(survey.problems) == 1
    assert "embed.weight" in survey.tensors and "layers.0.attn_norm.weight" not in survey.tensors
    # What a conversion has used up may be gone, but nothing else.
    assert refusal(folder, consumed=(gone[0].name,)).why.startswith("1 of its 6 shards")
    rest = Checkpoint.open(folder, consumed=[path.name for path in gone])
    assert rest.tensors == survey.tensors


def test_a_consumed_shard_that_is_still_there_is_read(folder: Path) -> None:
    names = [path.name for path in shards(folder)]
    assert len(Checkpoint.open(folder, consumed=names).shards) == len(names)


def test_every_broken_shard_is_a_problem_of_its_own(folder: Path) -> None:
    first, second, third = shards(folder)[:3]
    os.truncate(first, first.stat().st_size - 1)
    second.write_bytes(b"<html>")
    third.unlink()
    third.mkdir()
    problems = Checkpoint.survey(folder).problems
    assert [each.problem for each in problems] == ["truncated", "not_safetensors", "unreadable"]
    assert all(path.name in each.what for path, each in zip((first, second, third), problems, strict=True))


def _rename(index: dict[str, Any]) -> None:
    index["weight_map"]["other"] = index["weight_map"].pop("norm.weight")


def _move(index: dict[str, Any]) -> None:
    index["weight_map"]["norm.weight"] = index["weight_map"]["embed.weight"]


@pytest.mark.parametrize(
    ("change", "problem", "why"),
    [
        (
            lambda index: index["weight_map"].pop("norm.weight"),
            "inconsistent",
            "the index lacks: “norm.weight”",
        ),
        (_rename, "inconsistent", "that are not there: “other”"),
        (_move, "inconsistent", "that are not there: “norm.weight”"),
        (
            lambda index: index["metadata"].update(total_size=12),
            "inconsistent",
            "take 12 bytes, but they take",
        ),
        (lambda index: index["metadata"].update(total_size="12"), "damaged", "total_size"),
        (lambda index: index["metadata"].update(total_size=1.5), "damaged", "total_size"),
        (lambda index: index.pop("weight_map"), "damaged", "names no tensor"),
        (lambda index: index.update(weight_map={}), "damaged", "names no tensor"),
        (lambda index: index.update(weight_map=[]), "damaged", "is missing"),
        (lambda index: index["weight_map"].update(x=1), "damaged", "a text is missing"),
        (lambda index: index.update(more=["x" * 70_000]), "damaged", "longer than"),
        (
            lambda index: index.update(weight_map={f"t{n}": f"s{n}.safetensors" for n in range(5000)}),
            "damaged",
            "5,000 shards",
        ),
    ],
)
def test_index_and_shards_agree_both_ways(
    folder: Path, change: Callable[[dict[str, Any]], Any], problem: str, why: str
) -> None:
    rewrite_index(folder, change)
    error = refusal(folder)
    assert error.problem == problem and why in error.why


@pytest.mark.parametrize(
    "change", [lambda index: index.pop("metadata"), lambda index: index["metadata"].clear()]
)
def test_an_index_need_not_say_how_much_it_is(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    rewrite_index(folder, change)
    assert Checkpoint.open(folder).tensors


def test_a_tensor_in_two_shards_is_named(folder: Path) -> None:
    path = shards(folder)[0]
    write_shard(
        path,
        {
            "embed.weight": ("BF16", stored(folder, "embed.weight")),
            "norm.weight": ("BF16", stored(folder, "norm.weight")),
        },
    )
    error = refusal(folder)
    assert error.problem == "inconsistent" and "places elsewhere: “norm.weight”" in error.why
    assert Checkpoint.survey(folder).tensors["norm.weight"].shard != path


def test_an_index_that_is_no_index(folder: Path) -> None:
    for content, why in (
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"", "empty"),
        (b"[]", "damaged"),
        (b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}', "twice"),
        (b'{"weight_map": {"a": "x.safetensors"', "damaged"),
    ):
        (folder / INDEX).write_bytes(content)
        error = refusal(folder)
        assert error.problem == "damaged" and why in error.why


def test_without_an_index(folder: Path) -> None:
    (folder / INDEX).unlink()
    assert refusal(folder).why == f"its {INDEX} is missing"
    for path in shards(folder):
        path.unlink()
    error = refusal(folder)
    assert error.problem == "not_checkpoint" and "no safetensors files" in error.why


def test_a_config_that_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    for content, why in (
        (b"", "empty"),
        (b"<html>", "web page"),
        (b"[1]", "not an object"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b"{" + b" " * (1 << 20) + b"}", "longer than 1,048,576 bytes"),
        (b'{"a":' + b"[" * 100_000, "nested too deep"),
        (b'{"\x1b": ', "not JSON"),
    ):
        (folder / CONFIG).write_bytes(content)
        error = refusal(folder)
        assert error.problem == "damaged" and why in error.why
    (folder / CONFIG).unlink()
    assert refusal(folder).problem == "not_checkpoint"
    (folder / CONFIG).mkdir()
    assert "ordinary file" in refusal(folder).why
    assert refusal(tmp_path / "nothing").why == "there is no such folder"
    assert refusal(shards(folder)[0]).why == "it is not a folder"
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_config(Path("nul\0"))


def test_a_change_underneath_is_noticed(folder: Path) -> None:
    checkpoint = Checkpoint.open(folder)
    before = checkpoint.fingerprint()
    assert json.loads(json.dumps(before)) == Checkpoint.open(folder).fingerprint() == before
    shard = checkpoint.shards[1]
    assert shard.is_unchanged()
    content = bytearray(shard.path.read_bytes())
    content[-1] ^= 1
    shard.path.write_bytes(content)
    os.utime(shard.path, ns=(shard.modified_ns + 1000, shard.modified_ns + 1000))
    assert not shard.is_unchanged()
    after = Checkpoint.open(folder).fingerprint()
    assert [name for name, each in after["shards"].items() if each != before["shards"][name]] == [
        shard.path.name
    ]
    shard.path.unlink()
    assert not shard.is_unchanged()
    # The same time and size, another header.
    path = shards(folder)[0]
    state = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"pt"', b'"qt"'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    names = [shard.path.name]
    assert (
        Checkpoint.open(folder, consumed=names).fingerprint()["shards"][path.name]
        != before["shards"][path.name]
    )
    (folder / CONFIG).write_text((folder / CONFIG).read_text("utf-8") + " ", "utf-8")
    assert Checkpoint.open(folder, consumed=names).fingerprint()["files"] != before["files"]


@pytest.mark.slow
def test_an_index_of_the_largest_model_takes_little_memory(tmp_path: Path) -> None:
    """V4-Pro's 149,782 names; its shards are not there, which is told and no more."""
    names = {
        f"layers.{n % 61}.ffn.experts.{n}.w1.weight": f"model-{n % 66:05d}.safetensors"
        for n in range(149_782)
    }
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    size_bytes = (tmp_path / INDEX).stat().st_size
    del names
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"66 of its 66 shards are missing: .* and 63 more"):
            Checkpoint.open(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * size_bytes
