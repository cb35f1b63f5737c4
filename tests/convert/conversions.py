"""Conversions of seeded checkpoints, as the tests of `convert` begin them."""

from pathlib import Path
from typing import Literal

from convert.conversion_plan import Job
from convert.metadata import Origin
from convert.tensor_map import Dense, Draft, Options
from tests.convert.seeded_checkpoint import write_checkpoint

Release = Literal["preview", "0731"]
NAMES = {"preview": "DeepSeek-V4-Flash", "0731": "DeepSeek-V4-Flash-0731"}


def checkpoint(folder: Path, release: Release = "preview", **changes: object) -> Path:
    """A small checkpoint in `folder`, under the name of its release."""
    return write_checkpoint(folder / NAMES[release], release=release, **changes)  # type: ignore[arg-type]


def job(
    source: Path,
    target: Path,
    *,
    dense: Dense = "q8_0",
    draft: Draft = "separate",
    consume: bool = False,
) -> Job:
    """A conversion of `source`, of the release that its folder is named for."""
    return Job(source, target, Origin(source.name), Options(dense, draft), consume)
