"""The lock of an optional part: in order, of the versions that the tests run with, and whole."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from engine.parts.part_lock import NATIVE, PartLock, read_lock
from tests.support.wheel_index import small_part

LOCKS = Path(__file__).resolve().parents[3] / "packaging" / "locks"
PINNED = re.compile(r"^([\w.-]+)==([\w.+!]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    """Those of Python 3.11, which a lock lists first."""
    found: dict[str, str] = {}
    for package, version in PINNED.findall((LOCKS / name).read_text("utf-8")):
        found.setdefault(canonicalize_name(package), version)
    return found


def test_each_wheel_is_named_for_its_package_its_version_and_the_locks_python() -> None:
    lock = read_lock()
    assert [each.name for each in lock.variant] == ["cpu", "cuda"]
    interpreter = "cp" + lock.python.replace(".", "")
    for variant in lock.variant:
        assert variant.wheel[0].name == lock.probe
        assert len({each.name for each in variant.wheel}) == len(variant.wheel)
        for wheel in variant.wheel:
            name, version, _, tags = parse_wheel_filename(wheel.file)
            assert (name, version) == (canonicalize_name(wheel.name), Version(wheel.version))
            assert {each.interpreter for each in tags} <= {interpreter, "py3", "py2"}
            assert {"any"} == {each.platform for each in tags} or all(
                each.platform.endswith("_x86_64") for each in tags
            )
    assert 150e6 < lock.variant[0].size_bytes < 300e6 < lock.variant[1].size_bytes


def test_what_is_installed_is_what_the_tests_run_with() -> None:
    cpu = read_lock().variant[0]
    torch = (LOCKS / "reference-torch.txt").read_text("utf-8")
    assert f"torch=={cpu.wheel[0].version}" in torch and cpu.wheel[0].sha256 in torch
    tested = pins("check.txt")
    assert {each.name: each.version for each in cpu.wheel[1:]} == {
        each.name: tested[each.name] for each in cpu.wheel[1:]
    }


def test_the_lock_is_what_is_written_of_the_chosen_versions() -> None:
    chosen = tomllib.loads((LOCKS / "native.in").read_text("utf-8"))
    lock = read_lock()
    told = [(each.name, [f"{w.name}=={w.version}" for w in each.wheel]) for each in lock.variant]
    assert told == [(each["name"], each["packages"]) for each in chosen["variant"]]
    assert (lock.python, lock.platform, lock.probe) == (chosen["python"], chosen["platform"], chosen["probe"])


def test_all_that_pytorch_needs_is_in_the_part_or_in_the_program() -> None:
    try:
        requires = importlib.metadata.requires("torch") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("PyTorch is not installed")
    left_out = tomllib.loads((LOCKS / "native.in").read_text("utf-8"))["left_out"]
    there = pins("run.txt") | {canonicalize_name(w.name): w.version for w in read_lock().variant[0].wheel}
    for text in requires:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(wanted.name)
        assert name in left_out or wanted.specifier.contains(there[name]), text


def test_another_wheel_makes_another_digest(tmp_path: Path) -> None:
    old, new = small_part(tmp_path / "a"), small_part(tmp_path / "b", "1.1")
    assert old.digest(old.variant[0]) == old.digest(old.variant[0]) != new.digest(new.variant[0])
    assert old.fits_here and not old.model_copy(update={"python": "2.7"}).fits_here


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('sha256 = "6746', 'sha256 = "zzzz'),
        ('file = "torch-', 'file = "../torch-'),
        ("size_bytes = 191794682", "size_bytes = -1"),
        ("format = 1", "format = 2"),
        ('name = "torch"', 'name = "--index-url=x"'),
        ('version = "2.13.0+cpu"', 'version = "2.13 ; x"'),
    ],
)
def test_a_lock_that_is_not_in_order_is_refused(tmp_path: Path, old: str, new: str) -> None:
    text = NATIVE.read_text("utf-8")
    assert old in text
    (tmp_path / "lock.toml").write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ValueError, match="validation error"):
        read_lock(tmp_path / "lock.toml")


def test_room_for_one_wheel_twice_beside_all_of_it(tmp_path: Path) -> None:
    lock: PartLock = small_part(tmp_path)
    variant, wheels = lock.variant[0], lock.variant[0].wheel
    largest: Any = max(wheels, key=lambda each: each.size_bytes)
    assert variant.needed_bytes == sum(w.unpacked_bytes for w in wheels) + 2 * largest.size_bytes
