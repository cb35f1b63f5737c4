"""Optional parts for real: by pip from an index on this machine that misbehaves, and PyTorch itself into a program that
has none, which the native engine then computes with."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from convert.conversion import convert
from engine.errors import PartBrokeOff, PartUnreachable
from engine.parts.installation import Watch, install
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import read_lock
from engine.paths import DataFolder
from tests.convert.conversions import checkpoint, job
from tests.integration.live_engine import LiveEngine
from tests.support.python_without import python_without
from tests.support.wheel_index import served, small_part

pytestmark = pytest.mark.slow
INSTALL_TIMEOUT_S = 900.0
KILLED_TIMEOUT_S = 30.0


@pytest.fixture
def part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PartFolder:
    """A small one, and a pip that is told of nothing."""
    for name in [each for each in os.environ if each.startswith("PIP_") or each.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return PartFolder(tmp_path / "data" / "parts", small_part(tmp_path / "wheels"))


def left(part: PartFolder) -> list[str]:
    return sorted(each.name for each in part.root.iterdir() if each.name not in (".lock", ".used"))


def test_from_an_index(part: PartFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "wheels") as index:
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        assert install(part, part.lock.variant[0]).current
    assert [each for each in index.asked if each.startswith("/wheels/")] == [
        f"/wheels/{each.file}" for each in part.lock.variant[0].wheel
    ]


def test_through_the_proxy_that_pip_is_told_of(
    part: PartFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "wheels") as proxy:
        monkeypatch.setenv("PIP_INDEX_URL", "http://index.invalid/simple")
        monkeypatch.setenv("PIP_TRUSTED_HOST", "index.invalid")
        monkeypatch.setenv("PIP_PROXY", proxy.url)
        assert install(part, part.lock.variant[0]).current
    assert proxy.asked and all(each.startswith("http://index.invalid/") for each in proxy.asked)


def test_a_connection_that_breaks_in_the_middle_is_taken_up_again(
    part: PartFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "wheels") as index:
        index.cut = 1
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        assert install(part, part.lock.variant[0]).current
        assert index.cut == 0
        part.remove_all()
        index.cut = 10_000
        with pytest.raises(PartBrokeOff):
            install(part, part.lock.variant[0])
    assert left(part) == []


@pytest.mark.parametrize("status", [403, 500])
def test_an_index_that_refuses(
    part: PartFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    with served(tmp_path / "wheels") as index:
        index.status = status
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        with pytest.raises(PartUnreachable, match=rf"could not be fetched over the network .*{status}"):
            install(part, part.lock.variant[0])
    assert left(part) == []


def test_no_network(part: PartFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "wheels") as index:
        url = index.url
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(PartUnreachable) as refused:
        install(part, part.lock.variant[0])
    assert "check the network, and the index and proxy that pip is told of" in refused.value.text
    assert left(part) == []


INSTALL = """
import sys
from pathlib import Path
from engine.parts.installation import install
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import PartLock
part = PartFolder(Path(sys.argv[1]), PartLock.model_validate_json(sys.argv[2]))
install(part, part.lock.variant[0])
"""


def test_pip_ends_with_the_program_that_started_it(
    part: PartFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "wheels") as index:
        index.hold = True
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        process = subprocess.Popen(
            [sys.executable, "-c", INSTALL, str(part.root), part.lock.model_dump_json()]
        )
        assert index.holding.wait(60), "pip is in the middle of a wheel"
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(children, KILLED_TIMEOUT_S)
        assert alive == []
        index.hold = False
        index.go_on.set()
        assert part.installed() is None and len(left(part)) == 1
        assert install(part, part.lock.variant[0], Watch()).current
    assert len(left(part)) == 1


def test_the_routes(engine: LiveEngine) -> None:
    """Where the Python that runs the tests has a PyTorch, that one counts; nothing is fetched in any case."""
    [entry] = engine.get("/api/parts")["parts"]
    assert (
        entry["name"] == "native"
        and entry["state"] in ("outside", "absent", "elsewhere")
        and not entry["in_use"]
    )

    def refused(method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = engine.client.request(method, path, json=body)
        return answer.status_code, answer.json()["error"]["text"]

    assert refused("POST", "/api/parts/other/install", {})[0] == 404
    assert refused("POST", "/api/parts/other/remove")[0] == 404
    assert refused("DELETE", "/api/parts/native/task")[0] == 404
    assert refused("POST", "/api/parts/native/install", {"variant": 7})[0] == 400
    expected = (409, "which is used") if entry["state"] == "outside" else (400, "it has no variant")
    status, text = refused("POST", "/api/parts/native/install", {"variant": "rocm"})
    assert status == expected[0] and expected[1] in text
    assert engine.post("/api/parts/native/remove")["state"] == entry["state"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("model")
    source = checkpoint(root / "source", "0731", layers=4, seed=8)
    return convert(job(source, root / "DeepSeek-V4-Flash-0731.gguf", draft="skip"))[0]


def until(live: LiveEngine, wanted: str) -> Any:
    """The part once it is in that state, or its task is over."""
    deadline = time.monotonic() + INSTALL_TIMEOUT_S
    while True:
        entry = live.get("/api/parts")["parts"][0]
        over = entry["task"] is not None and entry["task"]["state"] in ("failed", "stopped")
        if entry["state"] == wanted or over:
            return entry
        assert time.monotonic() < deadline, entry
        time.sleep(0.2)


@pytest.mark.timeout(INSTALL_TIMEOUT_S + 300)
def test_pytorch_into_a_program_that_has_none(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The native engine is asked for, says what it lacks, gets it, and answers."""
    torch = read_lock().variant[0].wheel[0]
    if not read_lock().fits_here:
        pytest.skip("the part is for another Python or machine")
    command = [sys.executable, "-m", "pip", "index", "versions", "torch"]
    if torch.version not in subprocess.run(command, capture_output=True, text=True).stdout:
        pytest.skip(f"pip finds no {torch.title}: name an index or folder that has it")
    lacking = ("torch", "functorch", "sympy", "isympy", "mpmath", "networkx")
    monkeypatch.setattr(sys, "executable", str(python_without(tmp_path / "bare", *lacking)))
    data = DataFolder(tmp_path / "data")
    data.create()
    (data.models / model.name).hardlink_to(model)
    settings = "format = 1\ncontext_tokens = 2048\nanswer_tokens = 16\nthreads = 1\nmodel_titles = false\n"
    data.settings.write_text(settings + 'backend = "native"\n')
    live = LiveEngine(data.root, "--model", f"folder:{model.name}")
    try:
        entry = until(live, "absent")
        assert entry["pays"] and entry["suited"] in ("cpu", "cuda")
        error = live.wait_status(lambda status: status["error"])["error"]
        assert "needs PyTorch, which is not installed; get it in Settings → Machine" in error["text"]
        live.post("/api/parts/native/install", {"variant": "cpu"})
        entry = until(live, "installed")
        assert entry["state"] == "installed", entry["task"]
        assert entry["version"] == torch.version
        status = live.wait_status(
            lambda told: told["model"] or "needs PyTorch" not in (told["error"] or error)["text"],
            timeout_s=120,
        )
        assert status["error"] is None
        assert status["model"]["backend"] == "native"
        answer = live.answer("What is a sea?", mode="non-think")
        assert answer["status"] == "complete" and answer["usage"]["generated_tokens"] > 0
        refused = live.client.post("/api/parts/native/remove")
        assert refused.status_code == 409
        assert "this engine has it loaded" in refused.json()["error"]["text"]
    finally:
        live.close()
    assert str(data.parts) in where_torch_is(data, sys.executable)
    data.settings.write_text(settings)
    live = LiveEngine(data.root, "--model", f"folder:{model.name}")
    try:
        live.wait_model()
        gone = live.client.post("/api/parts/native/remove", timeout=120).json()
        assert (gone["state"], gone["unpacked_bytes"]) == ("absent", 0)
    finally:
        live.close()
    assert [each.name for each in data.parts.iterdir()] == [".lock"]


def where_torch_is(data: DataFolder, python: str) -> str:
    """Where a process of that Python finds torch once the data folder's part is settled."""
    program = (
        "import importlib.util, sys; from pathlib import Path\n"
        "from engine.parts import search_path; from engine.paths import DataFolder\n"
        "search_path.settle(search_path.native_part(DataFolder(Path(sys.argv[1]))))\n"
        "print(importlib.util.find_spec('torch').origin)\n"
    )
    done = subprocess.run([python, "-c", program, str(data.root)], capture_output=True, text=True, check=True)
    return done.stdout
