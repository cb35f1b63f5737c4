"""What is chosen for a model is kept, and nothing in the file can do harm."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataFolderError, DiskFull
from engine.placement import choices as choices_module
from engine.placement.choices import MAX_BYTES, MOST_MODELS, NAME, KeptChoices
from engine.protocol_placement import Choices

CHOSEN = Choices(context_tokens=32_768, cache_type="q8_0", gpu_budget_bytes=0, favour="prompts", threads=3)


def test_what_is_chosen_is_there_after_a_restart(tmp_path: Path) -> None:
    kept = KeptChoices(tmp_path)
    assert kept.of("folder:a/b.gguf") == Choices()
    kept.keep("folder:a/b.gguf", CHOSEN)
    kept.keep("other", Choices(context_tokens=512))
    again = KeptChoices(tmp_path)
    assert again.of("folder:a/b.gguf") == CHOSEN
    assert again.of("other") == Choices(context_tokens=512)
    again.keep("other", Choices())
    assert list(json.loads((tmp_path / NAME).read_text())["models"]) == ["folder:a/b.gguf"]


def test_the_file_stays_bounded(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(
        json.dumps({"format": 1, "models": {f"m{at}": {"threads": 1} for at in range(MOST_MODELS)}})
    )
    kept = KeptChoices(tmp_path)
    kept.keep("new", CHOSEN)
    models = json.loads((tmp_path / NAME).read_text())["models"]
    assert len(models) == MOST_MODELS
    assert "m0" not in models and "new" in models


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'{"format": 2, "models": {}}', b'{"format": 1, "models": []}', b"\xff\xfe",
        b"[" * 100_000, b" " * (MAX_BYTES + 1),
    ],
)  # fmt: skip
def test_a_broken_file_is_as_none_and_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    kept = KeptChoices(tmp_path)
    assert kept.of("m") == Choices()
    assert not (tmp_path / NAME).exists()
    [aside] = tmp_path.iterdir()
    assert aside.read_bytes() == content
    kept.keep("m", CHOSEN)
    assert KeptChoices(tmp_path).of("m") == CHOSEN


@pytest.mark.parametrize(
    "hostile",
    [
        {"context_tokens": 255}, {"context_tokens": 1 << 40}, {"context_tokens": "many"}, {"cache_type": "q2"},
        {"gpu_budget_bytes": -1}, {"favour": "nobody"}, {"threads": 1e9}, [], 7, None,
    ],
)  # fmt: skip
def test_values_that_cannot_be_are_left_out_and_the_others_stay(tmp_path: Path, hostile: object) -> None:
    good = CHOSEN.model_dump()
    (tmp_path / NAME).write_text(json.dumps({"format": 1, "models": {"bad": hostile, "good": good}}))
    kept = KeptChoices(tmp_path)
    assert kept.of("bad") == Choices()
    assert kept.of("good") == CHOSEN
    assert (tmp_path / NAME).exists()


def test_what_cannot_be_written_is_told_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptChoices(tmp_path)
    kept.keep("m", CHOSEN)
    for number, kind in ((28, DiskFull), (13, DataFolderError)):

        def refuse(_path: Path, _content: bytes, number: int = number) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr(choices_module, "write_atomically", refuse)
        with pytest.raises(kind, match="The choices for the model cannot be kept"):
            kept.keep("m", Choices())
        assert kept.of("m") == CHOSEN


@settings(max_examples=12, deadline=None)  # each of them is made durable on the disk
@given(
    st.dictionaries(
        st.text(max_size=30),
        st.builds(
            Choices,
            context_tokens=st.none() | st.integers(256, 1_048_576),
            gpu_budget_bytes=st.none() | st.integers(0, 1 << 50),
            threads=st.none() | st.integers(0, 1024),
        ),
        max_size=6,
    )
)
def test_any_choices_come_back(tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, Choices]) -> None:
    folder = tmp_path_factory.mktemp("kept")
    kept = KeptChoices(folder)
    for name, each in wanted.items():
        kept.keep(name, each)
    again = KeptChoices(folder)
    assert all(again.of(name) == each for name, each in wanted.items())
