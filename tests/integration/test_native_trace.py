"""The comparison itself: what it calls a tie, what it calls a difference, and in which order it tells them."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; `make test` says why")

from tests.integration.native_trace import TIE, Reference, Trace  # noqa: E402

RANDOM = np.random.default_rng(3)
SCORES = RANDOM.standard_normal((6, 5)).astype(np.float32)
PARTS = {
    "1.attention": RANDOM.standard_normal((6, 8)).astype(np.float32),
    "0.streams": RANDOM.standard_normal((6, 4, 8)).astype(np.float32),
    "0.router_scores": SCORES,
    "0.router_ranking": SCORES + np.float32(0.25),
    "0.router_choice": np.argsort(-SCORES, axis=1)[:, :2],
    "0.router_weights": RANDOM.random((6, 2)).astype(np.float32),
    "logits": RANDOM.standard_normal((6, 16)).astype(np.float32),
}


def trace(folder: Path, **changed: np.ndarray) -> Trace:
    for name, value in (PARTS | changed).items():
        np.save(folder / f"{name}.npy", value)
    found = Trace(Reference(folder))
    found.at(0, 6)
    return found


def tensor(name: str) -> torch.Tensor:
    return torch.from_numpy(PARTS[name].copy())


def test_equal_parts_have_no_difference_and_are_counted_as_compared(tmp_path: Path) -> None:
    found = trace(tmp_path)
    for name in PARTS:
        if name != "logits" and name != "0.router_ranking":
            layer, part = name.split(".")
            found.note(part, int(layer), tensor(name))
    found.logits(tensor("logits"))
    assert found.misses == [] and found.logits_worst == 0
    assert found.compared == {
        (0, "streams"), (0, "router_scores"), (0, "router_choice"), (0, "router_weights"), (1, "attention"),
    }  # fmt: skip


def test_differences_are_told_in_the_networks_order_with_the_first_position(tmp_path: Path) -> None:
    found = trace(tmp_path)
    for name in ("1.attention", "0.streams", "0.router_scores"):
        wrong = tensor(name)
        wrong[4:] += 0.01
        layer, part = name.split(".")
        found.note(part, int(layer), wrong)
    logits = tensor("logits")
    logits[5] += 0.01
    found.logits(logits)
    told = [(each.layer, each.name, each.position) for each in found.differences]
    assert told[:3] == [(0, "router_scores", 4), (0, "streams", 4), (1, "attention", 4)]
    assert told[3][1:] == ("logits", 5)
    assert "layer 0 router_scores at position 4" in found.misses[0]


def test_a_number_that_is_none_is_a_difference(tmp_path: Path) -> None:
    found = trace(tmp_path)
    logits = tensor("logits")
    logits[2, 3] = torch.nan
    found.logits(logits)
    assert [each.position for each in found.differences] == [2]
    assert found.logits_worst == np.inf


def parted(gap_by_ours: float, gap_by_theirs: float, folder: Path) -> tuple[Trace, torch.Tensor | None]:
    """Position 2: they chose the second best expert, we the third, whose scores lie so far apart."""
    order = np.argsort(-SCORES[2])
    theirs, ours = SCORES.copy(), SCORES.copy()
    theirs[2, order[2]] = theirs[2, order[1]] - np.float32(gap_by_theirs)
    ours[2, order[2]] = ours[2, order[1]] + np.float32(gap_by_ours)
    found = trace(folder, **{"0.router_scores": theirs, "0.router_ranking": theirs + np.float32(0.25)})
    choice = PARTS["0.router_choice"].copy()
    choice[2] = order[2], order[0]
    found.note("router_scores", 0, torch.from_numpy(ours))
    taken = found.choose("router_choice", 0, torch.from_numpy(choice))
    found.note("router_choice", 0, torch.from_numpy(choice) if taken is None else taken)
    return found, taken


def test_a_tie_is_told_with_both_sides_scores_and_theirs_is_taken(tmp_path: Path) -> None:
    found, taken = parted(TIE / 10, TIE / 10, tmp_path)
    order = np.argsort(-SCORES[2])
    (tie,) = found.ties
    assert (tie.layer, tie.name, tie.position) == (0, "router_choice", 2)
    assert (tie.ours, tie.theirs) == ((int(order[2]),), (int(order[1]),))
    assert f"ours [{order[2]}], theirs [{order[1]}]" in str(tie) and f"{order[1]}: " in str(tie)
    assert taken is not None and taken[2].tolist() == [order[0], order[1]]
    assert [each.name for each in found.differences if each.name == "router_choice"] == []


@pytest.mark.parametrize(("by_ours", "by_theirs"), [(TIE * 10, 0.0), (0.0, TIE * 10), (0.2, 0.2)])
def test_what_is_no_tie_by_both_sides_is_a_difference(
    tmp_path: Path, by_ours: float, by_theirs: float
) -> None:
    found, taken = parted(by_ours, by_theirs, tmp_path)
    assert taken is None and found.ties == []
    (miss,) = [str(each) for each in found.differences if each.name == "router_choice"]
    assert "at position 2" in miss and "it is no tie" in miss


def test_rows_chosen_are_compared_as_sets_and_a_forced_row_keeps_its_form(tmp_path: Path) -> None:
    scores = np.array([[0.5, 0.1, 0.1, 0.4]], np.float32).repeat(6, axis=0)
    choice = np.array([[3, 2, 0, -1]]).repeat(6, axis=0)
    found = trace(tmp_path, **{"0.index_scores": scores, "0.index_choice": choice})
    found.note("index_scores", 0, torch.from_numpy(scores.copy()))
    ours = torch.tensor([[-1, 0, 2, 3]] * 5 + [[-1, 0, 1, 3]])
    taken = found.choose("index_choice", 0, ours)
    assert taken is not None and taken.tolist() == [[-1, 0, 2, 3]] * 6
    assert [tie.position for tie in found.ties] == [5]
