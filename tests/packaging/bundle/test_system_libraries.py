"""Which of the building system's libraries travel along."""

import sys
from pathlib import Path

import pytest

from tests.support.packaging_script import script

system_libraries = script("bundle/system_libraries")

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only on Linux are there any")
FOLDER = "/usr/lib/x86_64-linux-gnu"


@pytest.mark.parametrize(
    "name", ["libssl.so.3", "libxcb-cursor.so.0", "libpython3.11.so.1.0", "libgomp.so.1"]
)
def test_it_is_taken_along(name: str) -> None:
    assert system_libraries.wanted(name, f"{FOLDER}/{name}", "BINARY")


@pytest.mark.parametrize(
    "name",
    # A copy that is older than a driver's or a desktop's keeps these from loading.
    [
        "libstdc++.so.6",
        "libgcc_s.so.1",
        "libX11.so.6",
        "libxcb.so.1",
        "libGL.so.1",
        "libfontconfig.so.1",
        "libglib-2.0.so.0",
        "libgtk-3.so.0",
        "libwayland-client.so.0",
        "libz.so.1",
        "libexpat.so.1",
        "libreadline.so.8",
    ],
)
def test_it_is_asked_of_the_system(name: str) -> None:
    assert not system_libraries.wanted(name, f"{FOLDER}/{name}", "BINARY")


def test_what_packages_bring_is_not_the_systems() -> None:
    place, source = "libscipy_openblas64_.so", "/x/site-packages/numpy.libs/libscipy_openblas64_.so"
    assert system_libraries.wanted(place, source, "BINARY")
    assert not system_libraries.from_system(place, source)
    assert system_libraries.from_system("libssl.so.3", f"{FOLDER}/libssl.so.3")


def test_llama_cpps_libraries_are_the_folders(tmp_path: Path) -> None:
    for name in ("libllama.so", "libggml.so.0", "LICENSE.llama.cpp", "ggml.dll", "notes.txt"):
        (tmp_path / name).touch()
    names = [path.name for path in system_libraries.llama_files(tmp_path)]
    assert names == ["ggml.dll", "libggml.so.0", "libllama.so"]
