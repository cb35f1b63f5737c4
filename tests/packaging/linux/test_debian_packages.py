"""Depends and Recommends follow from what the bundle's files are linked with."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.packaging_script import script

debian_packages = script("linux/debian_packages")
shared_libraries = script("linux/shared_libraries")


def linked(monkeypatch: Any, found: dict[str, list[Path]]) -> None:
    monkeypatch.setattr(debian_packages, "outside", lambda _: found)


def test_each_library_brings_its_package_once(monkeypatch: Any) -> None:
    qt = Path("/b/libQt6Core.so.6")
    linked(monkeypatch, {"libc.so.6": [qt], "libm.so.6": [qt], "libglib-2.0.so.0": [qt]})
    depends, recommends = debian_packages.dependencies(Path("/b"))
    assert depends == ["libc6 (>= 2.35)", "libglib2.0-0 | libglib2.0-0t64"]
    assert "seamount-starter" in recommends
    assert "libvulkan1" not in recommends


def test_what_only_an_optional_file_wants_is_no_condition(monkeypatch: Any) -> None:
    vulkan, gtk = Path("/b/libggml-vulkan.so"), Path("/b/platformthemes/libqgtk3.so")
    linked(
        monkeypatch,
        {"libvulkan.so.1": [vulkan], "libgtk-3.so.0": [gtk], "libX11.so.6": [gtk, Path("/b/x.so")]},
    )
    depends, recommends = debian_packages.dependencies(Path("/b"))
    assert depends == ["libc6 (>= 2.35)", "libx11-6"]
    assert "libvulkan1" in recommends
    assert not [each for each in depends + recommends if "gtk" in each]


def test_a_library_of_nobody_fails_the_build(monkeypatch: Any) -> None:
    linked(monkeypatch, {"libmystery.so.1": [Path("/b/a.so")]})
    with pytest.raises(shared_libraries.LibraryError, match=r"a\.so is linked with libmystery\.so\.1"):
        debian_packages.dependencies(Path("/b"))
