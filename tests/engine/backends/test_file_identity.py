import shutil
from pathlib import Path

from engine.backends.file_identity import file_fingerprint, files_fingerprint, key_of


def written(path: Path, changes: dict[int, int], size_bytes: int = 8 << 20) -> Path:
    data = bytearray(size_bytes)
    for at, value in changes.items():
        data[at] = value
    path.write_bytes(data)
    return path


def test_files_of_one_name_and_size_with_other_contents_differ(tmp_path: Path) -> None:
    """What is no GGUF is sampled from its beginning to its end."""
    prints = {file_fingerprint(written(tmp_path / "m.gguf", changes))
              for changes in ({}, {0: 1}, {(8 << 20) - 1: 1}, {100: 1})}  # fmt: skip
    assert len(prints) == 4
    assert file_fingerprint(written(tmp_path / "m.gguf", {}, (8 << 20) + 1)) not in prints


def test_every_byte_of_the_header_counts(starter_path: Path, tmp_path: Path) -> None:
    from convert.gguf_header import read_gguf_header

    copy = tmp_path / "m.gguf"
    shutil.copyfile(starter_path, copy)
    header = read_gguf_header(copy)
    before = file_fingerprint(copy)
    at = copy.read_bytes()[: header.data_offset].index(b"general.architecture") + 3
    with copy.open("r+b") as file:
        file.seek(at)
        file.write(b"X")
    assert file_fingerprint(copy) != before


def test_every_part_of_a_split_model_counts(tmp_path: Path) -> None:
    first = written(tmp_path / "m-00001-of-00002.gguf", {}, 1000)
    second = written(tmp_path / "m-00002-of-00002.gguf", {}, 1000)
    before = file_fingerprint(first)
    written(second, {5: 1}, 1000)
    assert file_fingerprint(first) != before


def test_files_of_any_kind_are_told_apart_by_name_and_contents(tmp_path: Path) -> None:
    one, other = written(tmp_path / "a.bin", {}, 1000), written(tmp_path / "b.bin", {5: 1}, 1000)
    prints = {files_fingerprint(each) for each in ([one], [other], [one, other], [other, one])}
    assert len(prints) == 4
    assert files_fingerprint([one]) in prints


def test_a_key_is_of_its_parts_in_their_order() -> None:
    assert len({key_of("a", 1), key_of(1, "a"), key_of("a", "1"), key_of(["a", 1])}) == 4
    assert key_of("a", 1) == key_of("a", 1)
