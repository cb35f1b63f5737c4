"""Engines for the tests: one shared by a module, others as a test wants them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.paths import DataFolder
from tests.integration.live_engine import SCRIPT_MODEL, LiveEngine, write_script

StartEngine = Callable[..., LiveEngine]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    """A scripted engine shared by the module."""
    root = tmp_path_factory.mktemp("shared")
    write_script(DataFolder(root))
    live = LiveEngine(root, "--model", SCRIPT_MODEL)
    live.wait_model()
    yield live
    live.close()


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    """A scripted engine shared by the modules that leave it as it was."""
    root = tmp_path_factory.mktemp("shared-by-modules")
    write_script(DataFolder(root))
    live = LiveEngine(root, "--model", SCRIPT_MODEL)
    live.wait_model()
    yield live
    live.close()


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[StartEngine]:
    """Start engines that end with the test; by default scripted, on the test's own folder, and leaving an answer that
    was cut off as it is."""
    started: list[LiveEngine] = []

    def start(
        *arguments: str,
        root: Path | None = None,
        linger_s: float | None = None,
        scripted: bool = True,
        resume: str = "offer",
    ) -> LiveEngine:
        root = root or tmp_path / "data"
        settings = DataFolder(root).settings
        if not settings.exists():
            root.mkdir(parents=True, exist_ok=True)
            settings.write_text(f'resume = "{resume}"\n')
        if scripted:
            write_script(DataFolder(root))
            arguments = ("--model", SCRIPT_MODEL, *arguments)
        live = LiveEngine(root, *arguments, linger_s=linger_s)
        started.append(live)
        return live

    yield start
    for live in started:
        live.close()
