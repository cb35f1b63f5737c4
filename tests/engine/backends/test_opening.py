import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.backends.opening import open_backend
from engine.errors import ModelFileError, ModelLoadError
from engine.protocol import ModelEntry

ROOT = Path(__file__).parents[3]


def entry(path: Path) -> ModelEntry:
    return ModelEntry(id="m", name="My model", path=str(path), size_bytes=0, source="file")


def test_a_script_opens_the_scripted_backend(tmp_path: Path) -> None:
    path = tmp_path / "a.script.json"
    path.write_text(json.dumps({"replies": [{}]}), encoding="utf-8")
    backend = open_backend(entry(path), context_tokens=300, threads=0, on_progress=lambda _fraction: True)
    assert (backend.facts.backend, backend.facts.name, backend.facts.context_tokens) == (
        "scripted",
        "My model",
        300,
    )


def test_anything_else_opens_llama_cpp(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"no GGUF")
    with pytest.raises(ModelLoadError, match="My model could not be loaded"):
        open_backend(entry(path), context_tokens=300, threads=0, on_progress=lambda _fraction: True)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no file"):
        open_backend(entry(tmp_path / "gone.gguf"), context_tokens=1, threads=0, on_progress=lambda _f: True)


def test_choosing_loads_no_library_that_is_not_used() -> None:
    program = (
        "import sys, engine.backends.opening, engine.backends.scripted\n"
        "import engine.generation, engine.encoding.prompt\n"
        "assert 'llama_cpp' not in sys.modules and 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
