"""An engine that was told of another build of llama.cpp."""

import shutil
import sys
from pathlib import Path

import pytest

from engine.backends.ggml_library import packaged_folder
from tests.integration.conftest import StartEngine

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform == "win32", reason="libraries that are in use cannot be copied")
def test_it_uses_the_build_and_a_model_runs_with_it(
    start_engine: StartEngine, tmp_path: Path, starter_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    build = tmp_path / "data" / "llama.cpp" / "again"
    shutil.copytree(packaged_folder(), build / "llama_cpp" / "lib", symlinks=True)
    engine = start_engine("--llama-cpp", str(build), "--model", str(starter_path), scripted=False)
    engine.wait_model()
    found = engine.get("/api/llama-builds")
    assert [(each["name"], each["problem"]) for each in found["builds"]] == [
        ("llama-cpp-python's own", None),
        ("again", None),
    ]
    assert (found["in_use"], found["source"]) == (str(build / "llama_cpp" / "lib"), "command")
    assert found["refused"] is None
    if sys.platform == "linux":
        mapped = Path(f"/proc/{engine.address.pid}/maps").read_text()
        assert str(build / "llama_cpp" / "lib" / "libllama.so") in mapped
        assert str(packaged_folder() / "libllama.so") not in mapped


def test_one_that_cannot_be_used_is_said_and_the_engine_runs(
    start_engine: StartEngine, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in ("libllama.so", "libllama.dylib", "llama.dll"):
        (broken / name).write_bytes(b"not a library")
    engine = start_engine("--llama-cpp", str(broken))
    engine.wait_model()
    assert "broken is not used" in engine.get("/api/status")["error"]["text"]
    found = engine.get("/api/llama-builds")
    assert found["in_use"] is None
    assert "cannot be loaded" in found["refused"]["text"]
