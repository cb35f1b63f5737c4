"""Fixtures shared by the engine's tests: a small scripted model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.backends.scripted import ScriptedBackend


@pytest.fixture
def scripted(tmp_path: Path) -> Callable[..., ScriptedBackend]:
    """Opens a script made of replies and other fields: `scripted({"text": "Hello"}, chunk_tokens=4)`."""

    def make(*replies: dict[str, Any], context: int = 4096, **fields: Any) -> ScriptedBackend:
        path = tmp_path / "model.script.json"
        path.write_text(json.dumps({"replies": replies or [{"text": "Hello"}], **fields}), encoding="utf-8")
        return ScriptedBackend.open(
            path, name="Scripted", context_tokens=context, on_progress=lambda _fraction: True
        )

    return make
