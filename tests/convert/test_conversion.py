"""Conversions of seeded checkpoints: exact, the same whenever they are interrupted, and kind to the disk."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import pytest
from filelock import FileLock

from convert.checkpoint_error import CheckpointError
from convert.conversion import Advance, convert
from convert.conversion_error import ConversionError
from convert.conversion_plan import make_plan
from convert.conversion_progress import ConversionProgress, progress_path
from convert.gguf_header import read_gguf_header
from convert.receipt import receipt_path
from convert.target_file import TargetFile, part_of
from convert.tensor_map import Dense, Draft
from tests.convert import kill_campaign
from tests.convert.conversions import Release, checkpoint, job
from tests.convert.seeded_checkpoint import decoded, stored

GROUPS = {"preview": 8, "0731": 10}
"""Embedding, five layers, output, and each stage of the drafter."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        "preview": checkpoint(folder, "preview", ratios="pro", seed=3),
        "0731": checkpoint(folder, "0731", ratios="flash", seed=4),
    }


@pytest.fixture
def source(sources: dict[str, Path], tmp_path: Path) -> Path:
    """A checkpoint that a test may damage."""
    return shutil.copytree(sources["preview"], tmp_path / "source" / sources["preview"].name)


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


class StoppedError(Exception):
    """What a test breaks a conversion off with."""


def stop_after(count: int) -> Any:
    """A report that breaks off at the `count`-th piece, as a crash would."""
    seen = 0

    def report(_: Advance) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            raise StoppedError

    return report


# --- what is written -------------------------------------------------------------------------------


@pytest.mark.parametrize("dense", ["q8_0", "bf16"])
@pytest.mark.parametrize(
    ("release", "draft"),
    [("preview", "separate"), ("preview", "keep"), ("0731", "separate"), ("0731", "skip")],
)
def test_every_tensor_is_the_checkpoints(
    sources: dict[str, Path], tmp_path: Path, release: Release, draft: Draft, dense: Dense
) -> None:
    source = sources[release]
    asked = job(source, tmp_path / "model.gguf", dense=dense, draft=draft)
    paths = convert(asked)
    assert [path.name for path in paths] == ["model.gguf", "model-draft.gguf"][: 1 + (draft == "separate")]
    plan = make_plan(asked)
    for planned, path in zip(plan.files.values(), paths, strict=True):
        found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        assert list(found) == [target.name for target in planned.targets]
        for target in planned.targets:
            tensor = found[target.name]
            numbers = (
                tensor.data if target.how == "narrow" else gguf.dequantize(tensor.data, tensor.tensor_type)
            )
            if target.how == "experts":
                wanted = np.stack([decoded(source, name) for name in target.sources[::2]])
            else:
                names = [name for name in target.sources if not name.endswith(".scale")]
                wanted = np.concatenate([decoded(source, name) for name in names], axis=-1)
            assert tuple(reversed(wanted.shape)) == target.shape, target.name
            numbers = numbers.reshape(wanted.shape)
            if target.exact:
                assert np.array_equal(numbers, wanted), target.name
            else:
                largest = np.abs(wanted).reshape(-1, 32).max(axis=1).repeat(32).reshape(wanted.shape)
                bound = largest * (1 / 254 + 2.0**-11) + 127 * 2.0**-25
                assert (np.abs(numbers - wanted) <= bound).all(), target.name


def test_metadata_are_what_llama_cpp_asks_for(sources: dict[str, Path], tmp_path: Path) -> None:
    model, draft = convert(job(sources["0731"], tmp_path / "m.gguf"))
    read = read_gguf_header(model)
    assert (read.architecture, read.name) == ("deepseek4", "DeepSeek-V4-Flash-0731")
    assert read.text("seamount.release") == "DeepSeek-V4-Flash-0731"
    assert read.metadata["deepseek4.attention.compress_ratios"] == [0, 0, 4, 128, 4]
    assert read.number("deepseek4.hash_layer_count") == 1
    assert read.context_length == 1 << 20
    assert read.number("deepseek4.nextn_predict_layers") is None
    drafter = read_gguf_header(draft)
    assert drafter.architecture == "dflash"
    assert drafter.metadata["dflash.target_layers"] == [3, 4, 5]
    assert drafter.number("tokenizer.ggml.mask_token_id") == 259
    assert drafter.number("dflash.block_size") == 5


def test_the_receipt_says_what_is_exact_and_what_is_left_out(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    (model,) = convert(job(sources["preview"], tmp_path / "m.gguf", draft="keep"))
    receipt = json.loads(receipt_path(model).read_text())
    assert (receipt["format"], receipt["version"], receipt["lossless"]) == ("seamount-receipt", 1, False)
    tensors = receipt["tensors"]
    assert tensors["blk.0.ffn_gate_exps.weight"]["exact"] is True
    error = tensors["blk.0.attn_q_a.weight"]["error"]
    assert 0 < error["max"] < 0.01
    assert 0.001 < error["relative_rms"] < 0.01
    assert tensors["blk.5.nextn.eh_proj.weight"]["made_of"][2] == "mtp.0.h_proj.weight"
    assert sorted(receipt["left_out"]) == ["mtp.0.hc_head_base", "mtp.0.hc_head_fn", "mtp.0.hc_head_scale"]
    convert(job(sources["preview"], tmp_path / "b.gguf", draft="skip", dense="bf16"))
    assert json.loads(receipt_path(tmp_path / "b.gguf").read_text())["lossless"] is True


def test_the_same_conversion_gives_the_same_bytes(sources: dict[str, Path], tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        convert(job(sources["0731"], tmp_path / name / "m.gguf"))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert len(digests(tmp_path / "a")) == 4  # two files and their receipts, and nothing left over


def test_progress_is_told(sources: dict[str, Path], tmp_path: Path) -> None:
    told: list[Advance] = []
    convert(job(sources["preview"], tmp_path / "m.gguf"), told.append)
    assert told[-1].done_bytes == told[-1].total_bytes == told[0].total_bytes
    assert [each.done_bytes for each in told] == sorted(each.done_bytes for each in told)
    assert told[0].tensor == "token_embd.weight"
    assert told[-1].bytes_per_s > 0


# --- interrupted -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 40, 150, 300])
def test_it_goes_on_where_it_was(sources: dict[str, Path], tmp_path: Path, count: int) -> None:
    for name in ("straight", "broken"):
        (tmp_path / name).mkdir()
    convert(job(sources["0731"], tmp_path / "straight" / "m.gguf"))
    asked = job(sources["0731"], tmp_path / "broken" / "m.gguf")
    with pytest.raises(StoppedError):
        convert(asked, stop_after(count))
    assert not asked.target.exists()
    done = set(json.loads(progress_path(asked.target).read_text())["groups"])
    told: list[Advance] = []
    convert(asked, told.append)
    again = {each.group for each in told}
    assert not done & again, "a group that was done was done again"
    assert len(done | again) == GROUPS["0731"]
    assert digests(tmp_path / "straight") == digests(tmp_path / "broken")


def test_stopping_is_an_error_that_says_so_and_leaves_it_to_go_on(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    asked = job(sources["preview"], tmp_path / "m.gguf")
    count = 0

    def cancelled() -> bool:
        nonlocal count
        count += 1
        return count > 100

    with pytest.raises(ConversionError) as caught:
        convert(asked, cancelled=cancelled)
    assert caught.value.trouble == "stopped"
    assert convert(asked)[0].exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model-00002-of-00008.safetensors"])
def test_a_source_that_changed_is_refused(source: Path, tmp_path: Path, name: str) -> None:
    asked = job(source, tmp_path / "m.gguf")
    with pytest.raises(StoppedError):
        convert(asked, stop_after(150))
    raw = bytearray((source / name).read_bytes())
    raw[-2] ^= 1 if name.startswith("model") else 0
    if name == "config.json":
        raw = bytearray(raw.replace(b'"use_cache": true', b'"use_cache": null'))
    elif name == "tokenizer.json":
        raw = bytearray(raw.replace(b"DSML", b"DSNL"))
    (source / name).write_bytes(raw)
    with pytest.raises(ConversionError) as caught:
        convert(asked)
    assert caught.value.trouble in ("changed", "options")


def test_a_source_that_changes_underneath_is_noticed(source: Path, tmp_path: Path) -> None:
    shard = source / "model-00003-of-00008.safetensors"

    def report(advance: Advance) -> None:
        if advance.tensor == "blk.1.attn_norm.weight":
            os.utime(shard, ns=(1, 1))

    with pytest.raises(ConversionError, match="has changed"):
        convert(job(source, tmp_path / "m.gguf"), report)


def test_a_shard_that_is_cut_short_meanwhile_is_noticed(source: Path, tmp_path: Path) -> None:
    shard = source / "model-00004-of-00008.safetensors"

    def report(advance: Advance) -> None:
        if advance.tensor == "blk.1.attn_norm.weight":
            os.truncate(shard, 1000)

    with pytest.raises(ConversionError, match="has changed"):
        convert(job(source, tmp_path / "m.gguf"), report)


def test_other_options_are_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        convert(job(sources["preview"], tmp_path / "m.gguf"), stop_after(60))
    with pytest.raises(ConversionError) as caught:
        convert(job(sources["preview"], tmp_path / "m.gguf", dense="bf16"))
    assert caught.value.trouble == "options"
    convert(job(sources["preview"], tmp_path / "m.gguf"))


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"format": "seamount-conversion", "version": 2}'])
def test_a_damaged_progress_file_is_refused(sources: dict[str, Path], tmp_path: Path, damage: bytes) -> None:
    asked = job(sources["preview"], tmp_path / "m.gguf")
    progress_path(asked.target).write_bytes(damage)
    with pytest.raises(ConversionError, match=r"progress"):
        convert(asked)


def test_a_part_that_is_gone_is_told(sources: dict[str, Path], tmp_path: Path) -> None:
    asked = job(sources["preview"], tmp_path / "m.gguf")
    with pytest.raises(StoppedError):
        convert(asked, stop_after(150))
    part_of(asked.target).unlink()
    with pytest.raises(ConversionError, match="not there any more"):
        convert(asked)


def test_a_second_conversion_to_the_same_target_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    asked = job(sources["preview"], tmp_path / "m.gguf")
    with FileLock(tmp_path / "m.gguf.part.lock"), pytest.raises(ConversionError) as caught:
        convert(asked)
    assert caught.value.trouble == "busy"
    convert(asked)
    with pytest.raises(ConversionError, match="there already"):
        convert(asked)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """A few kills of the campaign; `make campaign` does a hundred."""
    count = kill_campaign.run(tmp_path, kills=6, seed=11)
    assert count.kills >= 6
    assert count.conversions


# --- consuming -------------------------------------------------------------------------------------


def test_consuming_keeps_little_more_than_the_result(source: Path, tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    straight.mkdir()
    convert(job(source, straight / "m.gguf"))
    target = tmp_path / "target"
    target.mkdir()
    asked = job(source, target / "m.gguf", consume=True)
    shards = sorted(path.stat().st_size for path in source.glob("*.safetensors"))
    result = sum(file.header.file_bytes for file in make_plan(asked).files.values())
    peak = 0

    def report(_: Advance) -> None:
        nonlocal peak
        used = sum(path.stat().st_blocks * 512 for path in [*source.glob("*.safetensors"), *target.iterdir()])
        peak = max(peak, used)

    with pytest.raises(StoppedError):
        convert(asked, stop_after(200))
    assert len(list(source.glob("*.safetensors"))) < len(shards)
    convert(asked, report)
    assert not list(source.glob("*.safetensors"))
    assert digests(straight) == digests(target)
    assert peak <= result + sum(shards[-2:]) + (1 << 20)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("noted", [False, True])
def test_a_kill_before_a_deletion_leaves_nothing_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: bool, noted: bool
) -> None:
    """Before the shard is noted as consumed, or between that and its deletion; the last shard, or another."""
    asked = job(source, tmp_path / "m.gguf", consume=True)
    name = "model-00008-of-00008.safetensors" if last else "model-00003-of-00008.safetensors"
    unlink, save = Path.unlink, ConversionProgress.save

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        if noted and path.name == name:
            raise StoppedError
        unlink(path, missing_ok)

    def saved(progress: ConversionProgress) -> None:
        if not noted and name in progress.consumed:
            raise StoppedError
        save(progress)

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(Path, "unlink", unlinked)
        patch.setattr(ConversionProgress, "save", saved)
        convert(asked)
    assert (source / name).exists()
    convert(asked)
    assert not list(source.glob("*.safetensors"))


def test_a_consumed_shard_that_is_back_is_no_matter(source: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(source, tmp_path / "whole")
    with pytest.raises(StoppedError):
        convert(job(source, tmp_path / "m.gguf", consume=True), stop_after(200))
    for shard in whole.glob("*.safetensors"):
        if not (source / shard.name).exists():
            shutil.copyfile(shard, source / shard.name)
    assert convert(job(source, tmp_path / "m.gguf", consume=True))[0].exists()


def test_a_shard_that_cannot_be_deleted_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".safetensors":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(ConversionError, match="could not be deleted: Permission denied"):
            convert(job(source, tmp_path / "m.gguf", consume=True))
    assert convert(job(source, tmp_path / "m.gguf"))[0].exists()


def test_consuming_keeps_what_was_left_out(source: Path, tmp_path: Path) -> None:
    convert(job(source, tmp_path / "m.gguf", draft="keep", consume=True))
    assert [path.name for path in source.glob("*.safetensors")] == ["model-00008-of-00008.safetensors"]


def test_consuming_stops_where_the_disk_does_not_give_back_what_was_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TargetFile, "digest", lambda *_: "0" * 64)
    shards = len(list(source.glob("*.safetensors")))
    with pytest.raises(ConversionError, match="does not give back"):
        convert(job(source, tmp_path / "m.gguf", consume=True))
    assert len(list(source.glob("*.safetensors"))) == shards


def test_links_are_not_consumed(source: Path, tmp_path: Path) -> None:
    shard = next(source.glob("*.safetensors"))
    shard.rename(tmp_path / "blob")
    shard.symlink_to(tmp_path / "blob")
    with pytest.raises(ConversionError, match="links"):
        convert(job(source, tmp_path / "m.gguf", consume=True))
    convert(job(source, tmp_path / "m.gguf"))


def test_a_shard_missing_without_being_consumed_is_told(source: Path, tmp_path: Path) -> None:
    asked = job(source, tmp_path / "m.gguf")
    with pytest.raises(StoppedError):
        convert(asked, stop_after(150))
    (source / "model-00006-of-00008.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        convert(asked)


# --- what a disk refuses ---------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 5 MB, which a conversion of 8 MB does not fit."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)], capture_output=True, check=False
        )
    except OSError as error:
        pytest.skip(f"no mount command here: {error}")
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def test_a_disk_that_is_too_small_is_told_at_once(small_disk: Path, source: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        convert(job(source, small_disk / "m.gguf"))
    assert caught.value.trouble == "disk_full"
    assert not part_of(small_disk / "m.gguf").exists()
    assert not progress_path(small_disk / "m.gguf").exists()


def test_a_disk_that_fills_up_leaves_what_can_go_on(small_disk: Path, source: Path, tmp_path: Path) -> None:
    straight = tmp_path / "straight"
    straight.mkdir()
    convert(job(source, straight / "m.gguf"))
    asked = job(source, small_disk / "m.gguf", consume=True)  # which asks for room group by group
    with pytest.raises(ConversionError) as caught:
        convert(asked)
    assert caught.value.trouble == "disk_full"
    assert 1 < len(json.loads(progress_path(asked.target).read_text())["groups"]) < GROUPS["preview"]
    with pytest.raises(ConversionError, match="full"):
        convert(asked)
    remount(small_disk, "size=20m")
    convert(asked)
    assert digests(small_disk) == digests(straight)


def test_a_read_only_target_is_told(small_disk: Path, source: Path) -> None:
    remount(small_disk, "ro")
    with pytest.raises(ConversionError) as caught:
        convert(job(source, small_disk / "m.gguf"))
    assert (caught.value.trouble, caught.value.why) == ("target", "the folder is read-only")


def test_a_folder_without_permission_is_told(sources: dict[str, Path], tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convert.target_file.os.open", refused)
        with pytest.raises(ConversionError, match="may not write there"):
            convert(job(sources["preview"], tmp_path / "m.gguf"))


def test_a_folder_that_is_not_there_is_told(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConversionError) as caught:
        convert(job(sources["preview"], tmp_path / "nowhere" / "m.gguf"))
    assert caught.value.trouble == "target"


# --- what a checkpoint must not be -----------------------------------------------------------------


def planted(kind: Literal["scale", "weight", "table"]) -> Any:
    """An edit that puts one number where none may be."""

    def edit(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array = array.copy()
        if kind == "scale" and name == "layers.2.ffn.experts.5.w2.scale":
            array[3, 1] = 255
        if kind == "weight" and name == "layers.1.attn.wo_b.weight":
            array[100, 100] = 0x7F
        if kind == "table" and name == "layers.0.ffn.gate.tid2eid":
            array[9, 1] = 1 << 40
        return array

    return edit


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("scale", "layers.2.ffn.experts"),
        ("weight", "layers.1.attn.wo_b"),
        ("table", "layers.0.ffn.gate.tid2eid"),
    ],
)
def test_numbers_that_are_none_are_refused(
    tmp_path: Path, kind: Literal["scale", "weight", "table"], named: str
) -> None:
    source = checkpoint(tmp_path, "preview", edit=planted(kind))
    with pytest.raises(ConversionError) as caught:
        convert(job(source, tmp_path / "m.gguf"))
    assert caught.value.trouble == "checkpoint"
    assert named in caught.value.why


def test_numbers_too_small_for_bf16_are_refused_there_and_rounded_in_q8_0(tmp_path: Path) -> None:
    def edit(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if name == "layers.0.attn.wkv.scale":
            return np.zeros_like(array)  # 2^-127
        return np.full_like(array, 0x01) if name == "layers.0.attn.wkv.weight" else array  # 2^-9

    source = checkpoint(tmp_path, "preview", edit=edit)
    with pytest.raises(ConversionError, match="too small for BF16; choose --dense q8_0"):
        convert(job(source, tmp_path / "b.gguf", dense="bf16"))
    convert(job(source, tmp_path / "q.gguf"))


def test_base_checkpoints_are_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "preview", expert_dtype="fp8")
    with pytest.raises(ConversionError, match="experts are FP8"):
        convert(job(source, tmp_path / "m.gguf"))


def test_a_checkpoint_without_tokeniser_is_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, "preview", tokenizer="none")
    with pytest.raises(ConversionError, match="no tokenizer"):
        convert(job(source, tmp_path / "m.gguf"))


def test_the_bytes_of_experts_are_only_moved(sources: dict[str, Path], tmp_path: Path) -> None:
    """Every scale and every code of the checkpoint is in the file, minus zero included."""
    (model, _) = convert(job(sources["preview"], tmp_path / "m.gguf"))
    tensor = next(t for t in gguf.GGUFReader(model).tensors if t.name == "blk.4.ffn_down_exps.weight")
    blocks = np.asarray(tensor.data).reshape(8, 256, 4, 17)
    for expert in range(8):
        scale = stored(sources["preview"], f"layers.4.ffn.experts.{expert}.w2.scale")
        assert np.array_equal(blocks[expert, :, :, 0], scale)
        packed = stored(sources["preview"], f"layers.4.ffn.experts.{expert}.w2.weight").reshape(256, 4, 16)
        codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(256, 4, 32)
        quants = blocks[expert, :, :, 1:]
        assert np.array_equal(np.concatenate([quants & 15, quants >> 4], axis=-1), codes)
