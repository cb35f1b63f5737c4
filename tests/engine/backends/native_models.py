"""Small V4 models for the tests of the native engine's backend, each converted once in a test run."""

import atexit
import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from convert.conversion import convert
from tests.convert.conversions import checkpoint, job

TOKENS = [3 + 37 * number * number % 256 for number in range(2000)]


@cache
def model(*, drafts: bool = False) -> Path:
    """A GGUF of layers of all kinds; `drafts`: with an MTP block in it."""
    root = Path(mkdtemp(prefix="native-model-"))
    atexit.register(shutil.rmtree, root)
    source = checkpoint(root / "source", "preview" if drafts else "0731", layers=4, seed=8)
    (path,) = convert(job(source, root / f"{source.name}.gguf", draft="keep" if drafts else "skip"))
    return path


def opened(path: Path, **more: Any) -> Any:
    """The backend over it, with one thread."""
    from engine.backends.native import NativeBackend

    return NativeBackend.open(path, **({"name": "Model", "context_tokens": 1024, "threads": 1} | more))


def read(backend: Any, tokens: Iterable[int]) -> Any:
    """The report of a `sync` that nobody follows."""
    return backend.sync(list(tokens), lambda *_: None, lambda: False)
