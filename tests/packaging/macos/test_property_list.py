"""What macOS is told of the app, compared with what the other systems are told; and the scripts' grammar."""

import importlib.util
import plistlib
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[3]
MACOS = ROOT / "packaging" / "macos"


@pytest.fixture(scope="module")
def property_list() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seamount_property_list", MACOS / "property_list.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_names_the_projects_version(property_list: Any) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    found = property_list.properties()
    assert found["CFBundleShortVersionString"] == version
    assert plistlib.loads(plistlib.dumps(found)) == found


@pytest.mark.parametrize(("version", "numbers"), [("0.2.0rc1", "0.2.0"), ("1.2.3.4", "1.2.3"), ("2", "2")])
def test_the_system_compares_numbers(property_list: Any, version: str, numbers: str) -> None:
    found = property_list.properties(version)
    assert (found["CFBundleShortVersionString"], found["CFBundleVersion"]) == (version, numbers)


def test_a_version_without_a_number_is_refused(property_list: Any) -> None:
    with pytest.raises(ValueError, match="has to begin with a number"):
        property_list.properties("next")


def test_the_type_that_is_opened_is_described_and_not_taken_from_others(property_list: Any) -> None:
    found = property_list.properties()
    (document,) = found["CFBundleDocumentTypes"]
    (described,) = found["UTImportedTypeDeclarations"]
    assert document["LSItemContentTypes"] == [described["UTTypeIdentifier"]]
    assert document["LSHandlerRank"] == "Alternate"


def test_types_and_links_are_those_that_linux_is_told(property_list: Any) -> None:
    found = property_list.properties()
    linux = ROOT / "packaging" / "linux"
    names = "{http://www.freedesktop.org/standards/shared-mime-info}"
    (kind,) = ElementTree.parse(linux / "seamount-mime.xml").getroot().iter(f"{names}mime-type")
    (tags,) = (each["UTTypeTagSpecification"] for each in found["UTImportedTypeDeclarations"])
    assert tags["public.mime-type"] == [kind.get("type")]
    globs = [glob.get("pattern") for glob in kind.iter(f"{names}glob")]
    assert [f"*.{extension}" for extension in tags["public.filename-extension"]] == globs
    (links,) = (each["CFBundleURLSchemes"] for each in found["CFBundleURLTypes"])
    desktop = (linux / "seamount.desktop").read_text("utf-8")
    types = {*tags["public.mime-type"], *(f"x-scheme-handler/{link}" for link in links)}
    (line,) = (line for line in desktop.splitlines() if line.startswith("MimeType="))
    assert set(line.removeprefix("MimeType=").strip(";").split(";")) == types
    identifier = ElementTree.parse(linux / "seamount.metainfo.xml").findtext("id")
    assert found["CFBundleIdentifier"] == identifier


def test_windows_is_told_the_same_extension_and_link(property_list: Any) -> None:
    found = property_list.properties()
    script = (ROOT / "packaging" / "windows" / "seamount.nsi").read_text("utf-8")
    (tags,) = (each["UTTypeTagSpecification"] for each in found["UTImportedTypeDeclarations"])
    for extension in tags["public.filename-extension"]:
        assert f'FileAssociations" ".{extension}"' in script
    for link in found["CFBundleURLTypes"][0]["CFBundleURLSchemes"]:
        assert f'URLAssociations" "{link}"' in script


def test_the_hardened_runtime_is_asked_for_no_more_than_is_explained() -> None:
    asked: dict[str, Any] = plistlib.loads((MACOS / "entitlements.plist").read_bytes())
    assert asked == {
        "com.apple.security.cs.allow-unsigned-executable-memory": True,
        "com.apple.security.cs.disable-library-validation": True,
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")
def test_the_script_is_one_for_bash() -> None:
    done = subprocess.run(["bash", "-n", str(MACOS / "make_app.sh")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is missing (Debian: shellcheck)")
def test_shellcheck_finds_nothing_in_the_script() -> None:
    done = subprocess.run(["shellcheck", str(MACOS / "make_app.sh")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")
def test_elsewhere_than_on_a_mac_it_says_so() -> None:
    if shutil.which("sw_vers"):
        pytest.skip("this is a Mac: the script would make the app")
    done = subprocess.run([str(MACOS / "make_app.sh")], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "seamount app: an app is made on a Mac only; on Linux, make dist makes the packages for Linux\n"
    )
