from pathlib import Path
from typing import Any

import pytest

from tests.engine.backends.native_models import model, opened

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from engine.backends import native_keys  # noqa: E402 - it needs torch


def keys(path: Path, **more: Any) -> tuple[str, str]:
    backend = opened(path, **more)
    facts = backend.facts
    backend.close()
    return facts.state_key, facts.exact_key


def test_a_state_fits_by_file_form_and_drafts() -> None:
    usual = keys(model())
    assert keys(model()) == usual
    assert keys(model(), context_tokens=512) == usual
    assert len({usual[0], keys(model(), cache_type="f32")[0], keys(model(drafts=True))[0]}) == 3


def test_what_follows_is_the_same_by_everything_that_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = keys(model())
    found = {usual[1]}
    torch.set_num_threads(1)
    more = keys(model(), threads=2)
    torch.set_num_threads(1)
    assert more[0] == usual[0]
    found.add(more[1])
    for name, value in (
        ("_source", lambda: "other operators"),
        ("_machine", lambda *_: ["another processor"]),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(native_keys, name, value)
            changed = keys(model())
            assert changed[0] == usual[0]
            found.add(changed[1])
    monkeypatch.setenv(native_keys.KERNELS_VARIABLE, "reference")
    found.add(keys(model())[1])
    assert len(found) == 5


def test_without_its_file_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_path: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(native_keys, "file_fingerprint", gone)
    backend = opened(model())
    backend.sync([5, 6], lambda *_: None, lambda: False)
    assert (backend.facts.state_key, backend.facts.exact_key, backend.state_bytes()) == ("", "", 0)
    assert backend.save(lambda _bytes: pytest.fail("no room is needed")) is None
    backend.close()
