"""How rows are kept: their sizes, and what comes back."""

import pytest

torch = pytest.importorskip("torch", reason="the native engine needs torch")

from engine.model.row_formats import CacheFormat, RowFormat  # noqa: E402
from kernels import ops  # noqa: E402


@pytest.mark.parametrize(
    ("cache_format", "row_bytes", "key_bytes"), [("f32", 2048, 512), ("bf16", 1024, 256), ("mixed", 584, 68)]
)
def test_rows_take_what_the_report_says(cache_format: CacheFormat, row_bytes: int, key_bytes: int) -> None:
    row, key = RowFormat(cache_format, 512, 64), RowFormat(cache_format, 128, None)
    assert (row.row_bytes, key.row_bytes) == (row_bytes, key_bytes)
    for form in (row, key):
        stored = form.stored(torch.randn(3, form.columns, generator=torch.Generator().manual_seed(0)))
        assert (stored.dtype, tuple(stored.shape)) == (form.dtype, (3, form.width))
        assert stored.nbytes == 3 * form.row_bytes


def test_what_comes_back_is_rounded_once() -> None:
    numbers = torch.randn(5, 512, generator=torch.Generator().manual_seed(1))
    for form in (RowFormat("f32", 512, 64), RowFormat("bf16", 512, 64), RowFormat("mixed", 512, 64)):
        once = form.read(form.stored(numbers), torch.float32)
        assert torch.equal(form.read(form.stored(once), torch.float32), once)
    mixed = RowFormat("mixed", 512, 64)
    found = mixed.read(mixed.stored(numbers), torch.float32)
    assert torch.equal(found[:, :448], ops.fake_fp8(numbers[:, :448]))
    assert torch.equal(found[:, 448:], numbers[:, 448:].bfloat16().float())


def test_a_key_in_fp4_is_known_as_one() -> None:
    assert [RowFormat("mixed", 128, rotated).packed_key for rotated in (None, 64)] == [True, False]
    assert not RowFormat("bf16", 128, None).packed_key
    numbers = torch.randn(5, 128, generator=torch.Generator().manual_seed(2))
    key = RowFormat("mixed", 128, None)
    assert torch.equal(key.read(key.stored(numbers), torch.float32), ops.fake_fp4(numbers))
