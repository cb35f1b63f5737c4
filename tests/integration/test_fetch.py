"""Downloads in processes of their own: killed at any moment, behind proxies, with a full disk, by several at once."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from engine.library.fetching.fetch_manifest import read_manifest
from engine.library.fetching.fetch_stream import BATCH_BYTES
from engine.library.fetching.file_fetch import PartFile
from tests.support.local_hub import LocalHub, write_random_files
from tests.support.recording_proxy import RecordingProxy

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NAME = "deepseek-ai/DeepSeek-V4-Flash"
TOKEN = "hf_SecretSecretSecret"
STREAMS = 3
SHARDS = {f"model-0000{number}-of-00004.safetensors": 12_000_000 for number in range(1, 5)}
SIZES = SHARDS | {"config.json": 700}
_CHILD = """
import json, os, sys
from engine.errors import SeamountError
from engine.library.fetching.fetch_work import fetch
from engine.protocol import Settings
from engine.protocol_jobs import FetchRequest
name, folder, streams, token, file_limit = json.loads(sys.argv[1])
if file_limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
settings = Settings(download_streams=streams)
print("ready", flush=True)
try:
    fetch(FetchRequest(what=name, folder=folder), settings=lambda: settings,
          access=token and (os.environ["HF_ENDPOINT"], token),
          report=lambda _: None, stopped=lambda: False)
except SeamountError as error:
    sys.exit(f"{error.code}: {error.text}")
"""


def child(
    folder: Path, endpoint: str, *, token: str | None = None, file_limit: int = 0, **environment: str
) -> subprocess.Popen[str]:
    """A process that fetches all of NAME into `folder`."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    asked = json.dumps([NAME, str(folder), STREAMS, token, file_limit])
    return subprocess.Popen(
        [sys.executable, "-c", _CHILD, asked],
        cwd=ROOT,
        env=clean | {"HF_ENDPOINT": endpoint} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.fixture
def local(tmp_path: Path) -> Generator[LocalHub]:
    with LocalHub() as hub:
        hub.add(NAME, str(write_random_files(tmp_path / "hub", SIZES)))
        yield hub


def assert_same(source: Path, folder: Path) -> None:
    for path in source.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def arrived(folder: Path) -> dict[str, int]:
    """What is on the disk of each file, whole or not."""
    manifest = read_manifest(folder)
    if manifest is None:
        return {}
    found: dict[str, int] = {}
    for file in manifest.files:
        for path in (folder / file.path, PartFile(folder, file).path):
            if path.exists():
                found[file.path] = path.stat().st_size
    return found


def first_asked(local: LocalHub) -> dict[str, int]:
    """Where the first request for each file's content began since the record was forgotten."""
    begun: dict[str, int] = {}
    for each in local.asked("*.safetensors", "cdn"):
        begun.setdefault(each["path"], int(each["range"].removeprefix("bytes=").partition("-")[0]))
    return begun


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill like that")
def test_a_download_that_is_killed_over_and_over_fetches_next_to_nothing_twice(
    local: LocalHub, tmp_path: Path
) -> None:
    """What was written is never asked for again; what a killed process had in its hands is less than one batch for
    each stream (and what its sockets held: the hub sends slower here than it reads, so that is next to nothing)."""
    chance = random.Random(7)
    local.fault("trickle", path="*.safetensors", times=0, rate=12_000_000)
    target = tmp_path / "Größe 模型"
    kills, sent_in_all, before = 0, 0, {}
    while kills < 6:
        local.forget()
        process = child(target, local.address)
        after_bytes = chance.randrange(0, 9_000_000)
        while local.sent("*.safetensors") < after_bytes and process.poll() is None:
            time.sleep(0.005)
        process.kill()
        assert ended(process)[0] in (-signal.SIGKILL, 0)
        kills += 1
        sent_in_all += local.sent("*.safetensors")
        assert all(before.get(path, 0) == place for path, place in first_asked(local).items())
        before = arrived(target)
    assert 3_000_000 < sum(before.values()) < sum(SHARDS.values())
    local.clear_faults()
    local.forget()
    assert ended(child(target, local.address)) == (0, "")
    sent_in_all += local.sent("*.safetensors")
    assert all(before.get(path, 0) == place for path, place in first_asked(local).items())
    assert_same(tmp_path / "hub", target)
    total = sum(SHARDS.values())
    assert total <= sent_in_all <= total + kills * STREAMS * (BATCH_BYTES + (1 << 19))


def test_everything_goes_through_the_proxy_and_the_token_to_the_hub_alone(
    local: LocalHub, tmp_path: Path
) -> None:
    local.gate(NAME, "gated", [TOKEN])
    with RecordingProxy({"hub.invalid": local.port}) as proxy:
        process = child(tmp_path / "got", "http://hub.invalid", token=TOKEN, HTTP_PROXY=proxy.address)
        assert ended(process) == (0, "")
        assert_same(tmp_path / "hub", tmp_path / "got")
        hosts = {each.split("/")[2].partition(":")[0] for each in proxy.asked}
        assert hosts == {"hub.invalid", "localhost"}
    assert len(proxy.asked) == len(local.asked())
    assert {(each["door"], each["authorized"]) for each in local.asked()} == {
        ("api", True),
        ("resolve", True),
        ("cdn", False),
    }
    kept = b"".join(path.read_bytes() for path in (tmp_path / "got" / ".cache").rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept


def test_a_proxy_that_wants_a_password_gets_it_from_the_environment_or_says_so(
    local: LocalHub, tmp_path: Path
) -> None:
    wanted = base64.b64encode(b"me:secret").decode()
    with RecordingProxy({"hub.invalid": local.port}, wanted) as proxy:
        address = proxy.address.replace("//", "//me:secret@")
        assert ended(child(tmp_path / "got", "http://hub.invalid", HTTP_PROXY=address)) == (0, "")
        status, errors = ended(child(tmp_path / "no", "http://hub.invalid", HTTP_PROXY=proxy.address))
    assert status == 1
    assert errors.startswith("hub_unreachable: ")
    assert "the proxy wants to know who asks" in errors


def test_offline_mode_of_the_environment_is_obeyed(local: LocalHub, tmp_path: Path) -> None:
    status, errors = ended(child(tmp_path / "got", local.address, HF_HUB_OFFLINE="1"))
    assert (status, local.asked()) == (1, [])
    assert "offline mode is on by HF_HUB_OFFLINE" in errors


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no such limit")
def test_a_disk_that_cannot_hold_such_files_is_told_and_what_came_is_kept(
    local: LocalHub, tmp_path: Path
) -> None:
    status, errors = ended(child(tmp_path / "got", local.address, file_limit=5_000_000))
    assert status == 1
    assert errors.startswith("fetch: ")
    assert "this disk cannot hold files of that size" in errors
    assert max(arrived(tmp_path / "got").values()) == 5_000_000
    assert ended(child(tmp_path / "got", local.address)) == (0, "")
    assert_same(tmp_path / "hub", tmp_path / "got")


def test_of_two_processes_for_one_folder_one_works_and_one_says_so(local: LocalHub, tmp_path: Path) -> None:
    local.fault("stall", path="*.safetensors", at=1000, times=STREAMS)
    first = child(tmp_path / "got", local.address)
    until_s = time.monotonic() + 60
    while not local.asked("*.safetensors", "cdn"):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    status, errors = ended(child(tmp_path / "got", local.address))
    assert status == 1
    assert errors.startswith("conflict: ")
    first.kill()
    ended(first)
    assert ended(child(tmp_path / "got", local.address)) == (0, "")  # a killed one holds nothing
    assert_same(tmp_path / "hub", tmp_path / "got")


@pytest.mark.parametrize("broken", [False, True])
def test_what_hugging_faces_cache_has_is_taken_from_there_and_checked(
    local: LocalHub, tmp_path: Path, broken: bool
) -> None:
    home = str(tmp_path / "home")
    program = (
        "import sys; from huggingface_hub import snapshot_download; print(snapshot_download(sys.argv[1]))"
    )
    environment = os.environ | {"HF_ENDPOINT": local.address, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-c", program, NAME]
    cached = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    local.forget()
    if broken:
        with (Path(cached) / next(iter(SHARDS))).open("r+b") as file:
            file.write(b"other")
    assert ended(child(tmp_path / "got", local.address, HF_HOME=home)) == (0, "")
    assert_same(tmp_path / "hub", tmp_path / "got")
    assert local.sent() == (12_000_000 if broken else 0)
