"""Long words that have to fit."""

from app.wrapping import breakable


def test_a_long_path_can_be_broken_and_is_the_same_otherwise() -> None:
    path = "/data/" + "very_long_name-of.a/folder/" * 4 + "x" * 100
    broken = breakable(f"in {path}: no")
    assert broken.replace("\u200b", "") == f"in {path}: no"
    assert max(len(part) for part in broken.split("\u200b")) <= 26
    assert breakable("short words only, in any number of them") == "short words only, in any number of them"
