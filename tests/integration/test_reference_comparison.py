"""Converted files compute in llama.cpp what `transformers` computes of the checkpoint, within llama.cpp's own rounding.

More seeds: `python -m tests.integration.reference_comparison`.
"""

from pathlib import Path

import pytest

from tests.integration import reference_comparison as comparison


@pytest.mark.slow
@pytest.mark.skipif(not comparison.READY.exists(), reason=comparison.MISSING)
def test_every_format_is_as_near_as_it_can_be_and_a_wrong_expert_is_far(tmp_path: Path) -> None:
    cases = comparison.cases([1])
    assert {(case.release, case.ratios) for case in cases} == {
        ("preview", "flash"), ("preview", "pro"), ("0731", "flash"), ("0731", "pro"),
    }  # fmt: skip
    for case, found in zip(cases, comparison.compare(tmp_path, cases), strict=True):
        print(f"{case}: {found}")
        assert found.misses() == [], f"{case}: {found}"
