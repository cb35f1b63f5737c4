"""`seamount experts`, on a small model whose choices are known."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from engine import experts_command
from engine.cli import main
from engine.errors import BadRequest, ModelFileError, TraceError
from engine.placement.routing_trace import TraceHead, TraceWriter, read_trace
from tests.benchmarks.routing_patterns import PATTERNS
from tests.benchmarks.synthetic_v4 import synthetic_shape, write_synthetic
from tests.convert.seeded_checkpoint import SMALL

TEXT = "The ship left Portsmouth to sound the deep sea."


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.gguf"
    small = {key: value for key, value in SMALL.items() if key != "num_hash_layers"}
    write_synthetic(path, synthetic_shape(layers=2, hashed=True, overrides=small))
    return path


def record(path: Path, model: Path, text: Path | None, tokens: int = 6, context_tokens: int = 256) -> int:
    return experts_command.record(path, model, text, tokens=tokens, context_tokens=context_tokens, threads=1)


def run(*arguments: str) -> int:
    return main(["experts", *arguments], open_window=lambda _: 99)


def test_a_trace_is_recorded_and_shown(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, path = tmp_path / "text", tmp_path / "trace"
    text.write_text(TEXT)
    assert (
        run(str(path), "--record", str(model), "--text", str(text), "--tokens", "6", "--context", "256") == 0
    )
    trace = read_trace(path)
    assert f"{trace.tokens} tokens of DeepSeek-V4-Flash-0731" in capsys.readouterr().out
    assert trace.head == TraceHead("DeepSeek-V4-Flash-0731", 8, 2, (0, 1))
    # Both layers are routed by the token, so one tells which tokens they were, and the other must agree.
    tables = [PATTERNS["uniform"](layer, 512, 8, 2, 0) for layer in (0, 1)]
    both = {(tuple(a), tuple(b)) for a, b in zip(*(t.tolist() for t in tables), strict=True)}
    assert all(
        (tuple(a), tuple(b)) in both
        for a, b in zip(*(trace.choices[n].tolist() for n in (0, 1)), strict=True)
    )
    assert run(str(path)) == 0
    shown = capsys.readouterr().out
    assert f"{trace.tokens} tokens, 2 of 8 experts in each of 2 layers" in shown
    assert run(str(path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tokens"] == trace.tokens and told["experts"] == 8
    assert [layer["layer"] for layer in told["layers"]] == [0, 1]


def test_the_same_text_is_recorded_the_same_and_from_stdin(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text(TEXT)
    record(tmp_path / "one", model, tmp_path / "text")
    stdin = io.TextIOWrapper(io.BytesIO(TEXT.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    record(tmp_path / "two", model, None)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_file_that_is_there_is_kept(model: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(TEXT)
    with pytest.raises(TraceError, match="there is a file of that name"):
        record(tmp_path / "text", model, tmp_path / "text")
    assert (tmp_path / "text").read_text() == TEXT


def test_what_cannot_be_recorded_is_a_sentence_and_leaves_nothing(
    model: Path, starter_path: Path, tmp_path: Path
) -> None:
    good, bad, empty = tmp_path / "good", tmp_path / "bad", tmp_path / "empty"
    good.write_text(TEXT)
    bad.write_bytes(b"\xff\xfe")
    empty.write_text("")
    before = sorted(tmp_path.iterdir())
    path = tmp_path / "trace"
    for error, why, arguments in (
        (ModelFileError, "it has no routed experts", (starter_path, good)),
        (ModelFileError, "it is not a GGUF", (good, good)),
        (ModelFileError, "there is no such file", (tmp_path / "no", good)),
        (BadRequest, "it is not UTF-8", (model, bad)),
        (BadRequest, "No such file", (model, tmp_path / "no")),
        (BadRequest, "it has 0 tokens", (model, empty)),
        (BadRequest, "room for 2", (model, good, 6, 8)),
    ):
        with pytest.raises(error, match=why):
            record(path, *arguments)  # type: ignore[arg-type]
    assert sorted(tmp_path.iterdir()) == before


def test_a_trace_that_cannot_be_written_on_is_told(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: TraceWriter, layer: int, chosen: object) -> None:
        raise TraceError("The trace t cannot be written any further", "No space left on device", "free some")

    (tmp_path / "text").write_text(TEXT)
    monkeypatch.setattr(TraceWriter, "add", full)
    with pytest.raises(TraceError, match="could not be noted any further"):
        record(tmp_path / "trace", model, tmp_path / "text")
    assert not (tmp_path / "trace").exists()


def test_a_broken_trace_is_a_sentence_and_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trace").write_text("hello")
    assert run(str(tmp_path / "trace")) == 1
    assert "it is not a routing trace" in capsys.readouterr().err


def test_a_torn_trace_says_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trace"
    writer = TraceWriter(path, TraceHead("m", 8, 2, (0,)))
    writer.add(0, np.array([[1, 2]] * 30, np.int32))
    writer.close()
    with path.open("ab") as file:
        file.write(b"torn")
    assert run(str(path)) == 0
    shown = capsys.readouterr().out
    assert "Its last 4 bytes are cut off" in shown
    assert "from token" in shown
