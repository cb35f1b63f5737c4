"""The hub of the tests is one: the real library downloads from it, with its own checks."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_hub import ROOT, Control, HubProcess, LocalHub, write_random_files, write_repository

NAME = "deepseek-ai/DeepSeek-V4-Flash-0731"
_CHILD = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2])
"""


def download(address: str, name: str, target: Path, token: str = "") -> subprocess.CompletedProcess[str]:
    """`snapshot_download` of the real library, in a fresh process that knows the hub by HF_ENDPOINT."""
    environment = os.environ | {
        "HF_ENDPOINT": address,
        "HF_HOME": str(target.parent / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if token:
        environment["HF_TOKEN"] = token
    command = [sys.executable, "-c", _CHILD, name, str(target)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_real_library_downloads_a_seeded_checkpoint_from_it(tmp_path: Path) -> None:
    folder = write_repository(tmp_path / "hub", NAME)
    with HubProcess(tmp_path / "hub") as hub:
        done = download(hub.address, NAME, tmp_path / "got")
        assert done.returncode == 0, done.stderr
        for path in folder.iterdir():
            assert (tmp_path / "got" / path.name).read_bytes() == path.read_bytes()
        assert hub.sent() == sum(path.stat().st_size for path in folder.iterdir())
        behind = hub.asked("*.safetensors", "cdn")
        assert {each["host"] for each in behind} == {"localhost"}
        assert not any(each["authorized"] for each in behind)


def test_a_gate_lets_only_its_readers_through(tmp_path: Path) -> None:
    with LocalHub() as hub:
        hub.add("some/one", str(write_random_files(tmp_path / "r", {"a.bin": 10})))
        hub.gate("some/one", "gated", ["hf_good"])
        hub.tokens(["hf_other"])
        assert "restricted" in download(hub.address, "some/one", tmp_path / "n").stderr
        assert "restricted" in download(hub.address, "some/one", tmp_path / "o", "hf_other").stderr
        assert download(hub.address, "some/one", tmp_path / "g", "hf_good").returncode == 0


def test_faults_strike_the_requests_they_are_for(tmp_path: Path) -> None:
    folder = write_random_files(tmp_path / "r", {"a.bin": 300_000, "b.txt": 50})
    with LocalHub() as hub:
        hub.add("some/one", str(folder))
        Control(hub.address).fault("cut", path="a.bin", at=100_000)
        done = download(hub.address, "some/one", tmp_path / "got")
        assert done.returncode == 0, done.stderr
        bodies = [each["sent_bytes"] for each in hub.asked("a.bin", "cdn") if each["method"] == "GET"]
        assert bodies == [100_000, 300_000]
        assert (tmp_path / "got" / "a.bin").read_bytes() == (folder / "a.bin").read_bytes()


def test_a_branch_moves_and_a_commit_stays(tmp_path: Path) -> None:
    with LocalHub() as hub:
        first = hub.add("some/one", str(write_random_files(tmp_path / "r", {"a.bin": 10})))
        second = hub.add("some/one", str(write_random_files(tmp_path / "s", {"a.bin": 20})))
        repository = hub.repositories.find("some/one")
        assert repository is not None
        for revision, commit, size in ((first, first, 10), ("main", second, 20)):
            found = hub.repositories.files(repository, revision)
            assert found is not None
            assert (found[0], found[1]["a.bin"].size_bytes) == (commit, size)
            content = found[1]["a.bin"].path.read_bytes()
            assert found[1]["a.bin"].sha256 == hashlib.sha256(content).hexdigest()


def test_it_can_go_away_and_come_back_at_the_same_address(tmp_path: Path) -> None:
    with LocalHub() as hub:
        hub.go_away()
        with pytest.raises(ConnectionRefusedError):
            Control(hub.address).asked()
        hub.come_back()
        assert Control(hub.address).asked() == []
