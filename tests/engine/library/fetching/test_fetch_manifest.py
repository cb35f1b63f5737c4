"""The pinned listing of a fetched folder: kept as it is, read with suspicion."""

import json
from pathlib import Path
from typing import Any

import pytest

from engine.errors import FetchFailed
from engine.library.fetching.fetch_manifest import Manifest, manifest_path, read_manifest, write_manifest
from engine.library.fetching.remote_file import RemoteFile

FULL = Manifest(
    "deepseek-ai/DeepSeek-V4-Flash-0731",
    "7872f01b1d1fe23eabc4c98b48bffcef5a386062",
    (
        RemoteFile("config.json", 1888, None, "a" * 40),
        RemoteFile("modèle.safetensors", 3 << 30, "b" * 64),
        RemoteFile("x.txt", 0),
    ),
    ("*.json",),
    1785484800_000_000_000,
    1785484900.5,
    "DeepSeek-V4-Flash-0731",
    "main",
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_manifest(tmp_path / "not there") is None
    write_manifest(tmp_path / "Größe", FULL)
    assert read_manifest(tmp_path / "Größe") == FULL
    assert FULL.total_bytes == 1888 + (3 << 30)


def change(folder: Path, **changes: Any) -> None:
    write_manifest(folder, FULL)
    table = json.loads(manifest_path(folder).read_bytes()) | changes
    manifest_path(folder).write_text(json.dumps(table), "utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": "other"},
        {"commit": "main"},
        {"commit": 5},
        {"files": [{"path": "a", "size_bytes": -1}]},
        {"files": [{"path": "a", "size_bytes": True}]},
        {"files": [{"path": "a", "size_bytes": 2**60}]},
        {"files": [{"path": "a", "size_bytes": 1, "sha256": "A" * 64}]},
        {"files": [{"path": "a", "size_bytes": 1, "sha256": "a" * 40}]},
        {"files": [{"size_bytes": 1}]},
        {"files": "config.json"},
        {"files": None},
        {"modified_ns": -1},
        {"modified_ns": 1.5},
        {"noted_s": "now"},
        {"patterns": [1]},
    ],
)
def test_a_broken_one_is_told_in_one_sentence(tmp_path: Path, changes: dict[str, Any]) -> None:
    change(tmp_path, **changes)
    with pytest.raises(FetchFailed, match="list of files is broken"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_manifest_at_all_is_told(tmp_path: Path, raw: bytes) -> None:
    change(tmp_path)
    manifest_path(tmp_path).write_bytes(raw)
    with pytest.raises(FetchFailed, match="list of files is broken"):
        read_manifest(tmp_path)


def test_one_that_was_carried_here_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    change(tmp_path, files=[{"path": "../../evil", "size_bytes": 1}])
    with pytest.raises(FetchFailed, match="outside"):
        read_manifest(tmp_path)


def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    change(tmp_path, version=2)
    with pytest.raises(FetchFailed, match="newer Seamount"):
        read_manifest(tmp_path)
