"""What can be had, and what of it is here already."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.library.catalogue_entries import load_catalogue, own_catalogue
from engine.library.holdings import Holding
from engine.library.offers import Circumstances, offers, working_bytes
from engine.paths import DataFolder
from engine.protocol_library import LibraryItem, Offer

NOW = Circumstances(memory_bytes=24_000_000_000, gpu_bytes=0, free_bytes=1 << 50, streams=4, holdings=())


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def by_name(folder: DataFolder, now: Circumstances = NOW) -> dict[str, Offer]:
    return {offer.name: offer for offer in offers(load_catalogue(folder), now)}


def holding(item_id: str, *, names: tuple[str, ...] = (), file: str = "m.gguf", **fields: object) -> Holding:
    item = LibraryItem.model_validate(
        {"id": item_id, "kind": "model", "name": "n", "path": "/m", "size_bytes": 1, **fields}
    )
    return Holding(item, (Path("/models") / file,), "folder", names)


def test_costs_and_fit(folder: DataFolder) -> None:
    found = by_name(folder)
    flash = found["flash-0731"]
    assert (flash.pinned, flash.own, flash.item_id, flash.licence) == (True, False, None, "MIT")
    assert flash.working_bytes == 7 * 3_692_606_316
    assert flash.fit is not None
    assert flash.fit.verdict == "disk"
    assert "156 GB" in flash.fit.text
    assert "24 GB" in flash.fit.text
    assert found["flash-gguf-2bit"].working_bytes is None
    assert working_bytes(None, 4) is None
    small = by_name(folder, replace(NOW, free_bytes=10))["flash-0731"].fit
    assert small is not None
    assert small.verdict == "too_large"


def test_a_persons_own_come_first(folder: DataFolder) -> None:
    own_catalogue(folder).write_text(
        '[[model]]\nname="zz"\ntitle="Z"\nkind="checkpoint"\nrepository="me/Z"\n'
    )
    found = list(by_name(folder).values())
    assert (found[0].name, found[0].own, found[1].own) == ("zz", True, False)
    assert found[0].fit is not None
    assert found[0].fit.verdict == "unknown"


def test_what_came_of_an_offer(folder: DataFolder) -> None:
    repository = "deepseek-ai/DeepSeek-V4-Flash-0731"
    model = holding("model", repository=repository)
    fetched = holding("checkpoint:/x", kind="checkpoint", repository=repository.lower())
    unnamed = holding("old", names=("DeepSeek-V4-Pro-0813",))
    two_bits = holding(
        "gguf",
        repository="antirez/deepseek-v4-gguf",
        file="DeepSeek-V4-Flash-IQ2XXS-w2Q2K-AProjQ8-SExpQ8-OutQ8-chat-v2.gguf",
    )
    found = by_name(folder, replace(NOW, holdings=(fetched, model, unnamed, two_bits), free_bytes=10))
    assert found["flash-0731"].item_id == "model"
    assert found["pro-0813"].item_id == "old"
    assert found["flash-gguf-2bit"].item_id == "gguf"
    assert found["flash-gguf-4bit"].item_id is None
    assert found["flash"].item_id is None
    # The room on the disk does not matter for what is here.
    assert found["flash-0731"].fit is not None
    assert found["flash-0731"].fit.verdict == "disk"
    assert by_name(folder, replace(NOW, holdings=(fetched,)))["flash-0731"].item_id == "checkpoint:/x"
