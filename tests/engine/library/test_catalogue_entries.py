"""The catalogue's own entries agree with what the shapes make of them, and a person's file cannot do harm."""

from pathlib import Path
from typing import Any

import pytest

from convert.expected_tensors import expected_tensors
from convert.inspection import result_sizes
from convert.model_shape import ModelShape
from engine.encoding.release import choose_release
from engine.library.catalogue_entries import (
    MAX_BYTES,
    MOST_ENTRIES,
    Catalogue,
    load_catalogue,
    own_catalogue,
    why_refused,
)
from engine.paths import DataFolder
from engine.protocol_jobs import ResultBytes
from tests.convert.released_configs import FLASH, FLASH_0731, PRO, PRO_0813

CONFIGS: dict[str, dict[str, Any]] = {
    "flash": FLASH,
    "flash-dspark": FLASH_0731,
    "flash-0731": FLASH_0731,
    "pro": PRO,
    "pro-dspark": PRO_0813,
    "pro-0813": PRO_0813,
}
OWN = """
[[model]]
name = "mine"
title = "Mine"
kind = "checkpoint"
repository = "someone/Mine"
"""


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def own(folder: DataFolder, content: str | bytes) -> Catalogue:
    raw = content.encode() if isinstance(content, str) else content
    own_catalogue(folder).write_bytes(raw)
    return load_catalogue(folder)


@pytest.mark.parametrize("config", [FLASH, FLASH_0731, PRO, PRO_0813])
def test_sizes_are_what_the_shapes_make_of_them(folder: DataFolder, config: dict[str, Any]) -> None:
    expected = expected_tensors(ModelShape.from_config(config))
    shards: dict[str, int] = {}
    for name, each in expected.items():
        first, _, rest = name.partition(".")
        # The official rule: embedding; a shard for each layer and each block of the drafter; the head.
        shard = f"{first}.{rest.partition('.')[0]}" if first in ("layers", "mtp") else first
        shards[shard] = shards.get(shard, 0) + each.size_bytes
    results = [
        ResultBytes(dense=each.dense, model_bytes=each.model_bytes, draft_bytes=each.draft_bytes)
        for each in result_sizes(expected)
    ]
    of_it = [name for name, known in CONFIGS.items() if known is config]
    assert of_it
    for name in of_it:
        entry = load_catalogue(folder).entries[name]
        assert entry.download_bytes == sum(each.size_bytes for each in expected.values())
        assert entry.largest_shard_bytes == max(shards.values())
        assert entry.results == results


def test_every_entry_has_a_release_that_is_known(folder: DataFolder) -> None:
    catalogue = load_catalogue(folder)
    assert set(CONFIGS) < set(catalogue.entries)
    assert catalogue.problem is None
    for entry in catalogue.entries.values():
        assert entry.release is not None
        release = choose_release([entry.release])
        assert (release.id == "0731") == (entry.name in ("flash-0731", "pro-0813"))
        for file in entry.files if entry.kind == "gguf" else [entry.repository]:
            assert choose_release([file]) is release
        assert entry.pinned == (entry.name in ("flash-0731", "pro", "pro-0813"))


def test_a_name_or_a_repository_finds_its_entry(folder: DataFolder) -> None:
    catalogue = load_catalogue(folder)
    flash = catalogue.entries["flash"]
    assert catalogue.find("FLASH") is flash
    assert catalogue.find("deepseek-ai/deepseek-v4-flash") is flash
    assert catalogue.find("antirez/deepseek-v4-gguf") is None
    assert len(catalogue.of_repository("antirez/deepseek-v4-gguf")) == 2


def test_what_cannot_be_used_is_refused_with_its_reason() -> None:
    assert "Base" in (why_refused("deepseek-ai/DeepSeek-V4-Flash-Base") or "")
    assert "V4.1" in (why_refused("DEEPSEEK-AI/deepseek-v4.1-flash") or "")
    assert why_refused("deepseek-ai/DeepSeek-V4-Flash") is None


def test_a_persons_file_adds_and_replaces(folder: DataFolder) -> None:
    replaced = OWN.replace('"mine"', '"flash"')
    catalogue = own(folder, f"format = 1\n{OWN}{replaced}")
    assert catalogue.problem is None
    assert catalogue.own == {"mine", "flash"}
    assert catalogue.entries["mine"].revision == "main"
    assert catalogue.entries["flash"].repository == "someone/Mine"
    assert catalogue.entries["pro"].repository == "deepseek-ai/DeepSeek-V4-Pro"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('repository = "../../etc"', "repository"),
        ('name = "Not A Name"', "name"),
        ('title = "two\\nlines"', "title"),
        ('title = "\\u001b[2Jred"', "title"),
        ('revision = "../x"', "revision"),
        ('files = ["../../*.gguf"]', "files"),
        ('files = ["/etc/*"]', "files"),
        ('files = ["C:\\\\x.gguf"]', "files"),
        ("download_bytes = -1", "download_bytes"),
        ("download_bytes = 1e9", "download_bytes"),
        ("download_bytes = 9223372036854775807", "download_bytes"),
        ('results = [{ dense = "q8_0", model_bytes = -1, draft_bytes = 0 }]', "results"),
        ('results = [{ dense = "q2_k", model_bytes = 1, draft_bytes = 0 }]', "results"),
        ('kind = "program"', "kind"),
        ('kind = "gguf"', "files must say"),
        ('command = "rm"', "command"),
        (f'about = "{"x" * 401}"', "about"),
    ],
)
def test_a_wrong_entry_is_said_and_the_rest_counts(folder: DataFolder, line: str, said: str) -> None:
    key = line.partition(" ")[0]
    kept = "\n".join(each for each in OWN.splitlines() if not each.startswith(f"{key} "))
    other = OWN.replace('"mine"', '"other"')
    catalogue = own(folder, f"{kept}\n{line}\n{other}")
    assert catalogue.own == {"other"}
    assert catalogue.problem is not None
    assert said in catalogue.problem.text
    assert catalogue.problem.text.isprintable()
    assert "flash" in catalogue.entries


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe",
        b"[[model",
        b"format = 2",
        b"model = 3",
        b"x = " + b"[" * 5000,
        b"#" * (MAX_BYTES + 1),
        b"\x00",
    ],
)
def test_a_file_that_is_none_leaves_the_programs_entries(folder: DataFolder, content: bytes) -> None:
    catalogue = own(folder, content)
    assert catalogue.problem is not None
    assert catalogue.problem.text.isprintable()
    assert len(catalogue.entries) >= 8
    assert not catalogue.own


def test_bounds_and_doubles_are_said(folder: DataFolder) -> None:
    assert "again" in _said(own(folder, OWN + OWN))
    many = "".join(
        f'[[model]]\nname="m{number}"\ntitle="t"\nkind="checkpoint"\nrepository="a/b"\n'
        for number in range(MOST_ENTRIES + 1)
    )
    catalogue = own(folder, many)
    assert len(catalogue.own) == MOST_ENTRIES
    assert "more than" in _said(catalogue)
    assert "surprise" in _said(own(folder, f"surprise = 1\n{OWN}"))


def test_a_file_that_may_not_be_read(folder: DataFolder) -> None:
    own_catalogue(folder).mkdir()
    assert "catalogue" in _said(load_catalogue(folder))


def _said(catalogue: Catalogue) -> str:
    assert catalogue.problem is not None
    return catalogue.problem.text
