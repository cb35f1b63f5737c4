"""A repository as the hub tells of it: checkpoints, GGUFs, and what cannot be used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import HubUnreachable, RepositoryGone, TokenNeeded
from engine.library import lookup
from engine.library.catalogue import wanted
from engine.library.fetching.hub import Hub
from engine.library.lookup import look_up
from engine.library.offers import Circumstances
from engine.paths import DataFolder
from engine.protocol import Settings
from engine.protocol_library import Lookup
from tests.convert.released_configs import FLASH_0731
from tests.support.local_hub import LocalHub, write_repository

NOW = Circumstances(memory_bytes=64 << 30, gpu_bytes=0, free_bytes=1 << 50, streams=4, holdings=())


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with LocalHub() as hub:
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path / "data")


def ask(hub: LocalHub, folder: DataFolder, what: str, token: str | None = None) -> Lookup:
    meant = wanted(what, None, Settings(hub_endpoint=hub.address), folder)
    return look_up(meant, Hub(hub.address, token), NOW, own=False)


def repository(hub: LocalHub, tmp_path: Path, name: str, **files: Any) -> str:
    """Offer a repository of these files: a number is a size, a dict is JSON. `__` in a name is a slash."""
    root = tmp_path / name.replace("/", "-")
    for key, content in files.items():
        path = root / key.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(content) if isinstance(content, int) else json.dumps(content).encode())
    return hub.add(name, str(root))


def test_a_checkpoint(hub: LocalHub, folder: DataFolder, tmp_path: Path) -> None:
    source = write_repository(tmp_path / "hub")
    commit = hub.add("someone/DeepSeek-V4-Flash-0731", str(source))
    found = ask(hub, folder, f"{hub.address}/someone/DeepSeek-V4-Flash-0731")
    assert found.problem is None
    assert found.choices == []
    offer = found.offer
    assert (offer.kind, offer.revision, offer.pinned) == ("checkpoint", commit, True)
    assert (offer.name, offer.release) == ("someone/DeepSeek-V4-Flash-0731", "DeepSeek-V4 0731/0813")
    shards = [path.stat().st_size for path in source.glob("*.safetensors")]
    assert offer.download_bytes is not None
    assert offer.download_bytes > sum(shards)
    assert offer.working_bytes == 7 * max(shards)
    assert {each.dense for each in offer.results} == {"q8_0", "bf16"}
    assert offer.fit is not None
    assert offer.fit.verdict == "memory"
    assert {each.path for each in found.files} >= {"config.json", "tokenizer.json"}


def test_an_entry_keeps_its_name(hub: LocalHub, folder: DataFolder, tmp_path: Path) -> None:
    repository(
        hub, tmp_path, "deepseek-ai/DeepSeek-V4-Flash", config_dot_json=FLASH_0731, m_dot_safetensors=9
    )
    found = ask(hub, folder, "flash")
    assert (found.offer.name, found.offer.title) == ("flash", "DeepSeek-V4-Flash (preview)")
    assert found.offer.pinned
    assert found.offer.results[0].model_bytes == 156_373_010_496


def test_ggufs_are_chosen_from(hub: LocalHub, folder: DataFolder, tmp_path: Path) -> None:
    name = "someone/DeepSeek-V4-Flash-GGUF"
    repository(
        hub,
        tmp_path,
        name,
        **{
            "Q4/m-00001-of-00002_dot_gguf": 100,
            "Q4/m-00002-of-00002_dot_gguf": 50,
            "m-Q8_dot_gguf": 300,
            "mmproj-m_dot_gguf": 5,
            "README_dot_md": 7,
        },
    )
    found = ask(hub, folder, name)
    assert [(each.path, each.size_bytes) for each in found.choices] == [
        ("Q4/m-?????-of-00002.gguf", 150),
        ("m-Q8.gguf", 300),
    ]
    assert (found.offer.kind, found.offer.download_bytes, found.problem) == ("gguf", None, None)
    assert found.offer.release == "DeepSeek-V4 preview"
    one = ask(hub, folder, f"{hub.address}/{name}/blob/main/Q4/m-00002-of-00002.gguf")
    assert one.offer.files == ["Q4/m-?????-of-00002.gguf"]
    assert one.offer.download_bytes == 150
    gone = ask(hub, folder, f"{hub.address}/{name}/blob/main/gone.gguf")
    assert gone.problem is not None
    assert "gone.gguf" in gone.problem


def test_a_single_gguf_needs_no_choice(hub: LocalHub, folder: DataFolder, tmp_path: Path) -> None:
    repository(hub, tmp_path, "someone/one", m_dot_gguf=100)
    found = ask(hub, folder, "someone/one")
    assert found.offer.files == ["m.gguf"]
    assert found.offer.download_bytes == 100


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README_dot_md": 3}, "holds no weights"),
        ({"m_dot_safetensors": 9}, "no config.json"),
        ({"m_dot_safetensors": 9, "config_dot_json": {"model_type": "llama"}}, "llama"),
        ({"m_dot_safetensors": 9, "config_dot_json": {"model_type": "\x1b[31mred"}}, "another kind"),
        ({"m_dot_safetensors": 9, "config_dot_json": []}, "cannot be read"),
        ({"m_dot_safetensors": 9, "config_dot_json": 0}, "is empty"),
        ({"m_dot_safetensors": 9, "config_dot_json": (1 << 20) + 1}, "too large"),
        ({"m_dot_safetensors": 9, "config_dot_json": FLASH_0731 | {"expert_dtype": "fp8"}}, "not in FP4"),
        ({"m_dot_safetensors": 9, "config_dot_json": FLASH_0731 | {"hidden_size": 10**30}}, "hidden_size"),
    ],
)
def test_what_cannot_be_used_here(
    hub: LocalHub, folder: DataFolder, tmp_path: Path, files: dict[str, Any], said: str
) -> None:
    name = f"someone/{said.replace(' ', '-').replace('.', '')}"
    repository(hub, tmp_path, name, **files)
    found = ask(hub, folder, name)
    assert found.problem is not None
    assert said in found.problem
    assert found.problem.isprintable()
    assert found.problem.endswith(".")
    assert found.offer.results == []


def test_what_is_not_there_or_not_for_everybody(hub: LocalHub, folder: DataFolder, tmp_path: Path) -> None:
    repository(hub, tmp_path, "someone/gated", m_dot_gguf=100)
    hub.gate("someone/gated", "private", ["hf_reader"])
    with pytest.raises((TokenNeeded, RepositoryGone)):
        ask(hub, folder, "someone/gated")
    assert ask(hub, folder, "someone/gated", token="hf_reader").offer.download_bytes == 100
    with pytest.raises((TokenNeeded, RepositoryGone)):
        ask(hub, folder, "someone/nothing")


def test_a_hub_that_is_too_slow_is_not_waited_for(
    hub: LocalHub, folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(hub, tmp_path, "someone/slow", m_dot_safetensors=9, config_dot_json=FLASH_0731)
    monkeypatch.setattr(lookup, "CONFIG_TIMEOUT_S", -1.0)
    with pytest.raises(HubUnreachable, match="too slowly"):
        ask(hub, folder, "someone/slow")
