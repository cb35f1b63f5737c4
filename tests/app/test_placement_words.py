"""How a placement is put into words."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.placement_words import (
    NAMES,
    SCALE_STEPS,
    Piece,
    bar_bytes,
    budget_words,
    forecast_note,
    forecast_rows,
    headline,
    pieces,
    place_words,
    spoken,
    state_words,
    step_of,
    taken_words,
    tokens_at,
)
from engine.protocol_placement import Foretelling, Place, PlacedPart, Placement, Span, Taken

GB = 1_000_000_000


def ram(**more: object) -> Place:
    return Place.model_validate({
        "kind": "ram", "name": "Memory", "total_bytes": 64 * GB, "used_bytes": 9 * GB, "reserve_bytes": 4 * GB,
        "parts": [{"what": "experts", "size_bytes": 40 * GB, "layers": 43},
                  {"what": "dense", "size_bytes": 7 * GB, "layers": 43},
                  {"what": "embedding", "size_bytes": 0}], **more,
    })  # fmt: skip


def span(likely: float) -> Span:
    return Span(low=likely / 2, likely=likely, high=likely * 2)


def foretelling(**more: object) -> Foretelling:
    return Foretelling.model_validate({
        "decode_tokens_per_s": span(3), "prefill_tokens_per_s": span(40), "prompt_tokens": 1000,
        "first_token_s": span(25), "long_tokens": 100_000, "load_s": span(12), "ram_bytes": 50 * GB,
        "disk_bytes": 156 * GB, "disk_bytes_per_token": span(0), **more,
    })  # fmt: skip


def test_a_bar_is_whole_and_always_in_the_same_order() -> None:
    found = pieces(ram())
    assert found == [
        Piece("others", 9 * GB), Piece("dense", 7 * GB, 43), Piece("experts", 40 * GB, 43),
        Piece("reserve", 4 * GB), Piece("free", 4 * GB),
    ]  # fmt: skip
    assert bar_bytes(ram()) == 64 * GB
    assert [piece.words for piece in found][1] == "dense part 7.0 GB"
    assert found[1].tip.endswith("of 43 layers")


def test_the_disks_bar_is_of_the_file() -> None:
    disk = Place(
        kind="disk", name="Disk", total_bytes=2000 * GB, used_bytes=1500 * GB, file_bytes=156 * GB,
        parts=[PlacedPart(what="experts", size_bytes=100 * GB, layers=43)],
    )  # fmt: skip
    assert pieces(disk) == [Piece("experts", 100 * GB, 43), Piece("once", 56 * GB)]
    assert place_words(disk) == (
        "Disk: the model’s file of 156.0 GB, of which 100.0 GB are read from the disk again and again"
    )
    whole = disk.model_copy(update={"parts": []})
    assert place_words(whole) == "Disk: the model’s file of 156.0 GB"


def test_the_line_above_a_bar_says_how_much() -> None:
    assert place_words(ram()) == "Memory: 47.0 GB of 64.0 GB, 55.0 GB were free"
    assert place_words(ram(parts=[])) == "Memory: none of 64.0 GB, 55.0 GB are free"
    assert "64.0 GB (this container’s limit)" in place_words(ram(limited=True))
    assert place_words(ram(kind="gpu", name="Some GPU")).startswith("Some GPU: 47.0 GB of")
    assert spoken(ram()).endswith("experts 40.0 GB, kept free 4.0 GB, free 4.0 GB")


@given(
    st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**11),
    st.lists(st.tuples(st.sampled_from(["experts", "dense", "cache", "compute"]), st.integers(0, 10**11))),
)  # fmt: skip
def test_no_bar_has_a_piece_of_less_than_nothing(
    total: int, used: int, reserve: int, parts: list[tuple[str, int]]
) -> None:
    place = ram(
        total_bytes=total, used_bytes=used, reserve_bytes=reserve,
        parts=[{"what": what, "size_bytes": size} for what, size in parts],
    )  # fmt: skip
    found = pieces(place)
    assert all(piece.size_bytes > 0 and piece.kind in NAMES for piece in found)
    assert bar_bytes(place) >= 1
    held = sum(size for _, size in parts)
    if used + held <= total and total:
        assert sum(piece.size_bytes for piece in found) == total


def test_what_is_foretold_is_told_with_its_range() -> None:
    rows = dict(forecast_rows(foretelling()))
    assert rows["Writes"] == "1.5 to 6.0 (3.0) tokens a second"
    assert rows["Reads"] == "20 to 80 (40) tokens a second"
    assert rows["First word"] == "12 s to 50 s (25 s), after a prompt of 1,000 tokens"
    assert rows["Loads"] == "in 6.0 s to 24 s (12 s)"
    assert rows["Takes"] == "50.0 GB of memory, 156.0 GB on the disk"
    assert "From disk" not in rows and "Long prompt" not in rows
    more = dict(forecast_rows(foretelling(disk_bytes_per_token=span(1e9), long_prompt_s=span(7200))))
    assert more["From disk"] == "500.0 MB to 2.0 GB for each word that is written"
    assert more["Long prompt"].endswith("for 100,000 tokens to be read")
    with_gpu = dict(forecast_rows(foretelling(gpu_bytes=22 * GB)))
    assert with_gpu["Takes"] == "22.0 GB of the GPU, 50.0 GB of memory, 156.0 GB on the disk"
    assert "measured of this machine" in forecast_note(foretelling())
    assert "gave here before" in forecast_note(foretelling(seen=True))


def test_the_headline_turns_slow_rates_round() -> None:
    assert headline(foretelling()) == "Writes about 3.0 tokens a second; the first comes after about 25 s."
    slow = foretelling(decode_tokens_per_s=span(0.2))
    assert headline(slow).startswith("Writes a token in about 5.0 s;")


def test_what_was_taken_stands_beside_what_was_planned() -> None:
    taken = Taken(gpu_bytes=0, host_bytes=51 * GB, planned_gpu_bytes=0, planned_host_bytes=52 * GB)
    assert taken_words(taken) == "It is loaded so, and has taken 51.0 GB of memory (planned 52.0 GB)."
    gpu = taken.model_copy(update={"gpu_bytes": 8 * GB, "planned_gpu_bytes": 8 * GB})
    assert "8.0 GB of the GPU (planned 8.0 GB)" in taken_words(gpu)
    bare = Placement.model_validate({
        "model_id": "m", "name": "m", "choices": {}, "context_tokens": 512, "cache_type": "f16", "threads": 1,
        "places": [], "limits": {"context_tokens": 512},
    })  # fmt: skip
    assert state_words(bare) == ""
    assert state_words(bare.model_copy(update={"loaded": True})) == "It is loaded so."
    assert state_words(bare.model_copy(update={"loaded": True, "taken": taken})) == taken_words(taken)
    # More than the memory that there is, where a part of the file stays on the disk.
    disk = Place(kind="disk", name="Disk", total_bytes=99 * GB, used_bytes=0, parts=ram().parts)
    larger = bare.model_copy(update={"loaded": True, "taken": taken, "places": [disk]})
    assert "has taken 51.0 GB of memory and mapped file (planned 52.0 GB)" in state_words(larger)


def test_a_budget_of_nothing_is_the_processor() -> None:
    assert budget_words(None, 22 * GB) == "all that is free, 22.0 GB"
    assert budget_words(0, 22 * GB) == "none: the processor alone"
    assert budget_words(8 * GB, 22 * GB) == "8.0 GB"


@pytest.mark.parametrize("most", [256, 300, 512, 2048, 8192, 131_072, 1_048_576])
def test_the_slider_reaches_both_ends_and_never_goes_back(most: int) -> None:
    tokens = [tokens_at(step, most) for step in range(SCALE_STEPS + 1)]
    assert tokens[-1] == most
    assert tokens == sorted(tokens)
    if most > 256:
        assert tokens[0] == 256
    assert all(256 <= each <= most for each in tokens)


@example(19_752, 1_041_156)
@given(st.integers(256, 1_048_576), st.integers(256, 1_048_576))
def test_a_context_has_a_step_near_it(one: int, other: int) -> None:
    tokens, most = min(one, other), max(one, other)
    step = step_of(tokens, most)
    assert 0 <= step <= SCALE_STEPS
    # Two steps are 3.53 % apart at most, and each is rounded by half of 256.
    off = abs(tokens_at(step, most) - tokens)
    assert off <= 0.018 * tokens + 128
    for beside in (step - 1, step + 1):
        assert not 0 <= beside <= SCALE_STEPS or off <= abs(tokens_at(beside, most) - tokens)
