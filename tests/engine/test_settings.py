"""Settings come back as they were chosen, and nothing in the file can stop the start."""

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataFolderError, NewerData
from engine.protocol import Sampling, Settings
from engine.settings import load_settings, save_settings

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.floats(0, 10),
    top_p=st.floats(0, 1, exclude_min=True),
    min_p=st.floats(0, 1),
    seed=st.none() | st.integers(0, 2**63 - 1),
)
SETTINGS = st.builds(
    Settings,
    model_id=st.none() | TEXTS,
    system_message=TEXTS,
    sampling=st.none() | SAMPLINGS,
    context_tokens=st.integers(256, 1_048_576),
    threads=st.integers(0, 1024),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


@given(SETTINGS)
def test_what_was_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> None:
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    save_settings(path, settings)
    assert load_settings(path) == (settings, None)
    assert [each.name for each in path.parent.glob("*settings.toml*")] == ["settings.toml"]


@pytest.mark.parametrize("text", ["\x7f", "\x00\ud800", '"""\\\n\r\t\b\f', "[a]\n#", "\u2028\u0085", "😀"])
def test_strange_texts_come_back(path: Path, text: str) -> None:
    save_settings(path, Settings(system_message=text, model_id=text))
    settings, problem = load_settings(path)
    assert problem is None
    assert settings.system_message == settings.model_id == text.replace("\0", "�").replace("\ud800", "�")


def test_the_file_is_toml_with_its_format(path: Path) -> None:
    save_settings(path, Settings(sampling=Sampling()))
    table = tomllib.loads(path.read_text("utf-8"))
    assert table["format"] == 1 and table["sampling"]["top_p"] == 0.95 and "model_id" not in table


def test_no_file_means_the_defaults(path: Path) -> None:
    assert load_settings(path) == (Settings(), None)


def test_unknown_entries_are_ignored(path: Path) -> None:
    path.write_text('threads = 3\nfrom_the_future = "x"\n[table]\na = 1\n')
    assert load_settings(path) == (Settings(threads=3), None)


def test_a_value_out_of_range_is_named_and_the_others_hold(path: Path) -> None:
    content = 'threads = -1\ncontext_tokens = "many"\nsystem_message = "Be brief."\n'
    content += "[sampling]\ntemperature = 12\ntop_p = 0.5\n"
    path.write_text(content)
    settings, problem = load_settings(path)
    assert settings == Settings(system_message="Be brief.", sampling=Sampling(top_p=0.5))
    assert problem is not None and problem.code == "data_folder"
    for part in (
        str(path),
        "threads is -1: input should be greater than or equal to 0",
        'context_tokens is "many"',
        "sampling.temperature is 12: input should be less than or equal to 10",
    ):
        assert part in problem.text
    assert path.read_text() == content


@pytest.mark.parametrize("line", ["sampling = 3", "threads = nan", "model_id = 1979-05-27", "threads = [1]"])
def test_a_value_of_the_wrong_kind_is_named(path: Path, line: str) -> None:
    path.write_text(line)
    settings, problem = load_settings(path)
    assert settings == Settings()
    assert problem is not None and line.split()[0] in problem.text


@pytest.mark.parametrize(
    "content",
    [
        b"threads = ",
        b"\xff\xfe",
        b"threads = 1\nthreads = 2",
        b"a=" + b"[" * 20_000,
        b"format = 0\nthreads = 3",
    ],
)
def test_a_broken_file_is_set_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    settings, problem = load_settings(path)
    assert settings == Settings() and problem is not None
    assert not path.exists()
    [aside] = path.parent.glob("settings.toml.broken-*")
    assert aside.read_bytes() == content
    assert aside.name in problem.text
    assert load_settings(path) == (Settings(), None)


def test_what_a_newer_seamount_wrote_stays_and_is_not_written_over(path: Path) -> None:
    path.write_bytes(b"format = 2\nthreads = 3\n")
    settings, problem = load_settings(path)
    assert settings == Settings() and problem is not None and "newer Seamount" in problem.text
    with pytest.raises(NewerData, match="format 2"):
        save_settings(path, Settings(threads=4))
    assert path.read_bytes() == b"format = 2\nthreads = 3\n"
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_two_broken_files_in_one_second_are_both_kept(path: Path) -> None:
    for content in (b"1", b"2", b"3"):
        path.write_bytes(content)
        load_settings(path)
    assert {file.read_bytes() for file in path.parent.iterdir()} == {b"1", b"2", b"3"}


def test_a_file_that_cannot_be_read_or_moved_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.mkdir()
    settings, problem = load_settings(path)
    assert settings == Settings() and problem is not None and "cannot be read" in problem.text
    path.rmdir()
    path.write_text("broken")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    settings, problem = load_settings(path)
    assert settings == Settings() and problem is not None and "correct the file" in problem.text
    assert path.read_text() == "broken"


@pytest.mark.parametrize(("number", "code"), [(28, "disk_full"), (13, "data_folder")])
def test_settings_that_cannot_be_saved_stay_as_they_were(
    path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
) -> None:
    save_settings(path, Settings(threads=3))

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("engine.atomic_file.os.fsync", refuse)
    with pytest.raises(DataFolderError) as caught:
        save_settings(path, Settings(threads=4))
    assert caught.value.code == code
    assert load_settings(path) == (Settings(threads=3), None)
    assert [file.name for file in path.parent.iterdir()] == ["settings.toml"]
