"""What is said of a model and this machine has the true numbers in it."""

import pytest

from engine.library.fit import fit_of

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("result", "memory", "gpu", "free", "verdict"),
    [
        (156, 192, 0, 300, "memory"),
        (156, 160, 0, None, "memory"),
        (156, 159, 0, None, "memory_and_disk"),
        (156, 64, 96, 300, "memory"),
        (156, 64, 24, 300, "memory_and_disk"),
        (156, 24, 0, 300, "disk"),
        (156, 24, 0, 155, "too_large"),
        (156, 24, 0, None, "disk"),
        (1, 2, 0, 10, "disk"),
    ],
)
def test_verdicts(result: int, memory: int, gpu: int, free: int | None, verdict: str) -> None:
    fit = fit_of(
        result * GB,
        memory_bytes=memory * GB,
        gpu_bytes=gpu * GB,
        free_bytes=None if free is None else free * GB,
    )
    assert fit.verdict == verdict
    text = fit.text
    assert f"{result}.0 GB" in text or f"{result} GB" in text
    told = [free] if verdict == "too_large" else [memory, *([gpu] if gpu else [])]
    assert all(f"{each} GB" in text or f"{each}.0 GB" in text for each in told)
    assert text.endswith(".")
    assert "second" not in text


def test_what_nobody_knows() -> None:
    assert fit_of(None, memory_bytes=GB).verdict == "unknown"
