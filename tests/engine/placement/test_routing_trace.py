import errno
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import TraceError
from engine.placement import routing_trace
from engine.placement.routing_trace import RoutingTrace, TraceHead, TraceWriter, read_trace
from tests.benchmarks.routing_patterns import PATTERNS

HEAD = TraceHead("DeepSeek-V4-Flash", experts=64, used=6, layers=(3, 4, 9))


def choices(tokens: int, seed: int = 0) -> dict[int, np.ndarray]:
    return {layer: PATTERNS["skewed"](layer, tokens, HEAD.experts, HEAD.used, seed) for layer in HEAD.layers}


def write(path: Path, batches: list[dict[int, np.ndarray]], head: TraceHead = HEAD) -> None:
    writer = TraceWriter(path, head)
    for batch in batches:
        for layer, chosen in batch.items():
            writer.add(layer, chosen)
    writer.close()
    writer.close()


def same(trace: RoutingTrace, batches: list[dict[int, np.ndarray]]) -> bool:
    return all(
        np.array_equal(trace.choices[layer], np.concatenate([batch[layer] for batch in batches]))
        for layer in HEAD.layers
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    batches = [choices(100), *(choices(1, seed) for seed in range(30))]
    write(path, batches)
    trace = read_trace(path)
    assert trace.head == HEAD
    assert trace.tokens == 130
    assert trace.cut_bytes == 0
    assert same(trace, batches)


def test_more_than_256_experts_take_two_bytes(tmp_path: Path) -> None:
    head = TraceHead("Pro", experts=384, used=6, layers=(0,))
    rows = PATTERNS["uniform"](0, 500, 384, 6, 0)
    assert rows.max() > 255
    write(tmp_path / "trace", [{0: rows}], head)
    assert np.array_equal(read_trace(tmp_path / "trace").choices[0], rows)


def one_by_one(tokens: int) -> list[dict[int, np.ndarray]]:
    all_of_them = choices(tokens)
    return [{layer: rows[at : at + 1] for layer, rows in all_of_them.items()} for at in range(tokens)]


def test_a_trace_is_shorter_than_its_numbers(tmp_path: Path) -> None:
    write(tmp_path / "trace", one_by_one(1000))
    assert (tmp_path / "trace").stat().st_size < 1000 * len(HEAD.layers) * HEAD.used


def test_frames_may_end_anywhere_between_two_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing_trace, "_FRAME_BYTES", 2000)
    monkeypatch.setattr(routing_trace, "MAX_FRAME_BYTES", 777)
    batches = one_by_one(200)
    write(tmp_path / "trace", batches)
    assert same(read_trace(tmp_path / "trace"), batches)


def test_a_batch_that_was_broken_off_is_left_out(tmp_path: Path) -> None:
    whole, broken = choices(5), {3: choices(7)[3], 4: choices(7)[4]}
    uneven = choices(4) | {9: choices(1)[9]}  # the last layer computed for one token only
    write(tmp_path / "trace", [whole, broken, uneven, whole])
    assert same(read_trace(tmp_path / "trace"), [whole, whole])


@pytest.mark.parametrize(
    ("layer", "chosen"),
    [(5, [[0] * 6]), (3, [[0] * 5]), (3, [[64] * 6]), (3, [[-1] * 6]), (3, np.zeros((0, 6), np.int32))],
)
def test_what_does_not_fit_is_not_noted(tmp_path: Path, layer: int, chosen: object) -> None:
    writer = TraceWriter(tmp_path / "trace", HEAD)
    with pytest.raises(ValueError, match=f"layer {layer}"):
        writer.add(layer, np.array(chosen, np.int32))
    writer.close()


def test_a_torn_tail_is_cut_and_what_is_before_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing_trace, "_FRAME_BYTES", 1)  # a frame for each batch
    path = tmp_path / "trace"
    batches = [choices(10, seed) for seed in range(5)]
    write(path, batches)
    content = path.read_bytes()
    frame = (len(content) - len(routing_trace._opening(HEAD))) // 5
    for cut in (1, frame // 2, frame + 20):
        path.write_bytes(content[:-cut])
        trace = read_trace(path)
        assert trace.cut_bytes > 0
        assert trace.tokens in (30, 40)
        assert same(trace, batches[: trace.tokens // 10])
    path.write_bytes(content[:-5] + bytes(5))  # the right length, other bytes
    assert read_trace(path).tokens == 40


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, 1 << 20), value=st.integers(0, 255), length=st.integers(0, 1 << 20))
def test_a_damaged_file_is_an_error_or_a_shorter_trace(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, length: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.unlink(missing_ok=True)
    write(path, [choices(40)])
    content = bytearray(path.read_bytes())
    content[at % len(content)] = value
    path.write_bytes(content[: 1 + length % len(content)])
    try:
        trace = read_trace(path)
    except TraceError as error:
        assert error.remedy
    else:
        assert trace.head.layers == HEAD.layers
        assert all(each.max() < HEAD.experts for each in trace.choices.values())


def test_a_frame_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    write(path, [choices(5)])
    bomb = zlib.compress(bytes(100 << 20))
    with path.open("ab") as file:
        file.write(struct.pack("<III", len(bomb), 1000, zlib.crc32(bomb)) + bomb)
    trace = read_trace(path)
    assert trace.tokens == 5
    assert trace.cut_bytes == len(bomb) + 12


def test_a_trace_is_read_up_to_its_greatest_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace"
    batches = [choices(100)]
    write(path, batches)
    length = len(HEAD.layers) * (6 + 100 * HEAD.used)
    monkeypatch.setattr(routing_trace, "MAX_UNPACKED_BYTES", length)
    assert same(read_trace(path), batches)
    monkeypatch.setattr(routing_trace, "MAX_UNPACKED_BYTES", length - 1)
    with pytest.raises(TraceError, match="is longer than"):
        read_trace(path)


def test_a_record_of_no_token_ends_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    write(path, [choices(2)])
    whole = path.read_bytes()
    empty = zlib.compress(struct.pack("<HI", 3, 0) * 1000)
    frame = struct.pack("<III", len(empty), 6000, zlib.crc32(empty)) + empty
    start = len(routing_trace._opening(HEAD))
    path.write_bytes(whole + frame)
    assert same(read_trace(path), [choices(2)])
    path.write_bytes(whole[:start] + frame + whole[start:])
    with pytest.raises(TraceError, match="no token"):
        read_trace(path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    write(path, [choices(5)])
    content = bytearray(path.read_bytes())
    content[8] = 2
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"of version 2, and this program reads 1; use a newer Seamount"):
        read_trace(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "not a routing trace"), (b"GGUF" + bytes(100), "not a routing trace"), (None, "no such file")],
)
def test_other_files_are_refused_in_a_sentence(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "trace"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TraceError, match=why):
        read_trace(path)


def test_a_trace_without_a_token_says_so(tmp_path: Path) -> None:
    write(tmp_path / "trace", [])
    with pytest.raises(TraceError, match="no token is in it"):
        read_trace(tmp_path / "trace")


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("mine")
    with pytest.raises(TraceError, match="there is a file of that name"):
        TraceWriter(path, HEAD)
    assert path.read_text() == "mine"
    with pytest.raises(TraceError, match="was not begun"):
        TraceWriter(tmp_path / "no folder" / "trace", HEAD)


def test_a_full_disk_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = TraceWriter(tmp_path / "trace", HEAD)
    for layer, chosen in choices(5).items():
        writer.add(layer, chosen)

    class Full:
        closed = False

        def write(self, content: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self.closed = True

    writer._file.close()
    writer._file = Full()  # type: ignore[assignment]
    with pytest.raises(TraceError, match=r"cannot be written any further: No space left .*free some space"):
        writer.close()
    assert writer._file.closed
