"""Which model a checkpoint is, by its folder or by the person's word."""

from pathlib import Path

import pytest

from convert.gguf_header import read_gguf_header
from engine.checkpoint_origin import origin_of
from engine.cli import main
from engine.errors import UnknownRelease
from tests.convert.seeded_checkpoint import write_checkpoint


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments], open_window=lambda _: 99)


def test_the_release_is_told_by_the_folder_or_by_the_person(tmp_path: Path) -> None:
    unnamed = write_checkpoint(tmp_path / "download", release="0731")
    with pytest.raises(UnknownRelease, match="--release"):
        origin_of(unnamed, None)
    assert origin_of(unnamed, "DeepSeek-V4-Flash-0731").release == "DeepSeek-V4-Flash-0731"


def test_a_drafter_that_is_not_the_named_models_is_refused(tmp_path: Path) -> None:
    trap = write_checkpoint(tmp_path / "DeepSeek-V4-Flash", release="0731")
    with pytest.raises(UnknownRelease, match="has a DSpark drafter"):
        origin_of(trap, None)
    assert origin_of(trap, "DeepSeek-V4-Flash-DSpark").release == "DeepSeek-V4-Flash-DSpark"


def test_repository_and_revision_of_the_hubs_cache(tmp_path: Path) -> None:
    revision = "7872f01b1d1fe23eabc4c98b48bffcef5a386062"
    folder = tmp_path / "models--deepseek-ai--DeepSeek-V4-Flash-0731" / "snapshots" / revision
    origin = origin_of(write_checkpoint(folder, release="0731"), None)
    assert (origin.release, origin.revision) == ("DeepSeek-V4-Flash-0731", revision)
    assert origin.repository == "deepseek-ai/DeepSeek-V4-Flash-0731"
    assert run("convert", folder, tmp_path / "m.gguf") == 0
    read = read_gguf_header(tmp_path / "m.gguf")
    assert read.text("general.source.huggingface.repository") == "deepseek-ai/DeepSeek-V4-Flash-0731"
    assert read.text("seamount.source.revision") == revision


def test_the_revision_that_a_download_notes(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "DeepSeek-V4-Flash", release="preview")
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / "config.json.metadata").write_text(f"{'60d8d707' * 5}\netag\n1.5\n")
    assert origin_of(folder, None).revision == "60d8d707" * 5
