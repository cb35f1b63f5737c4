"""What can be had, and what of it is here already."""

from dataclasses import replace
from pathlib import Path

import pytest

from convert.model_shape import ModelShape
from engine.errors import DoesNotFit
from engine.library.catalogue_entries import load_catalogue, own_catalogue
from engine.library.fit import Foretold
from engine.library.holdings import Holding
from engine.library.offers import Circumstances, fit_for, offers, working_bytes
from engine.paths import DataFolder
from engine.placement.forecast import Forecast, Range
from engine.placement.planner import Room, Wishes, plan
from engine.protocol_library import LibraryItem, Offer
from tests.convert.released_configs import FLASH
from tests.engine.placement.models import flash

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


# --- how it would run ------------------------------------------------------------------------------

GB = 1_000_000_000
NOTHING = Range(0, 0, 0)


def foretold(_result_bytes: int, shape: ModelShape | None) -> Foretold:
    """Slow for what is of the catalogue, fast for what was looked up."""
    rate = Range(2, 3, 4) if shape is None else Range(20, 30, 40)
    forecast = Forecast(rate, NOTHING, NOTHING, None, NOTHING, 1, 0, 1, NOTHING, False)
    return Foretold(plan(flash(), Room(64 * GB, 60 * GB, 8), Wishes(8192)), forecast)


def test_every_offer_whose_weight_is_known_has_its_speed(tmp_path: Path) -> None:
    now = Circumstances(64 * GB, 0, 2000 * GB, 4, [], foretold)
    found = offers(load_catalogue(DataFolder(tmp_path)), now)
    assert found
    for each in found:
        assert each.fit is not None
        assert "about 2.0 to 4.0 tokens a second" in each.fit.text
        assert each.fit.verdict == "disk"


def test_what_was_looked_up_is_foretold_by_its_shape() -> None:
    now = Circumstances(64 * GB, 0, 2000 * GB, 4, [], foretold)
    fit = fit_for(156 * GB, now, is_here=False, shape=ModelShape.from_config(FLASH))
    assert "20 to 40 tokens a second" in fit.text
    assert fit_for(None, now, is_here=False).verdict == "unknown"


def test_without_a_forecast_the_sentence_has_no_speed(tmp_path: Path) -> None:
    now = Circumstances(64 * GB, 0, 2000 * GB, 4, [])
    for each in offers(load_catalogue(DataFolder(tmp_path)), now):
        assert each.fit is not None
        assert "second" not in each.fit.text


def test_what_cannot_run_here_is_told() -> None:
    refused = DoesNotFit("Pro does not fit", "it needs 30 GB of 12 GB", "choose a smaller model")
    now = Circumstances(16 * GB, 0, 2000 * GB, 4, [], lambda _bytes, _shape: refused)
    assert fit_for(852 * GB, now, is_here=True).verdict == "too_large"
