"""Files that end where they should not: a sample of `python -m tests.support.torn_files`."""

from collections import Counter
from pathlib import Path

import pytest

from tests.support import torn_files

pytestmark = pytest.mark.slow


def test_no_torn_file_loses_more_than_itself(tmp_path: Path) -> None:
    count = torn_files.run(tmp_path, seed=3, most=90)
    kinds: Counter[str] = Counter()
    for kind, number in count.items():
        kinds[kind.partition(":")[0]] += number
    # All four kinds of file were torn, and each was met by what is meant to meet it.
    assert {"journal", ".db", ".db-wal", ".kv"} <= kinds.keys(), count
    assert count[".kv: set aside"], count
    assert count["journal: whole"], count


def test_a_boundary_is_where_a_record_ends(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("a = 1\nb = 2\n")
    assert sorted(set(torn_files.boundaries(path))) == [0, 6, 12]
