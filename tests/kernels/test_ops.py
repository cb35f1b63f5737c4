"""What is promised of every operator: few tokens have the bits of each alone, and nothing gives nothing."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the native engine has nothing to run on")

from kernels import dispatch, ops  # noqa: E402
from kernels.matrices import ExpertMatrices  # noqa: E402
from tests.kernels.seeded_operands import KINDS, Seeded  # noqa: E402

Rows = tuple[torch.Tensor, ...]
Case = tuple[Rows, Callable[..., Any]]
TOKENS = 8


def cases() -> dict[str, Case]:
    """For each operator, operands with a row for each token, and what is computed of them.

    Sizes are no multiples of a vector's, so that rows which are computed together are cut otherwise than alone.
    """
    seeded = Seeded(1)
    normal = seeded.normal
    found: dict[str, Case] = {}
    for kind in KINDS:
        matrix, _ = seeded.matrix(kind, 141, 224)
        found[f"product {kind}"] = (normal(TOKENS, 224),), lambda x, m=matrix: ops.product(x, m)
        found[f"rows_of {kind}"] = (seeded.whole(0, 141, TOKENS),), lambda i, m=matrix: ops.rows_of(m, i)
        found[f"grouped_projection {kind}"] = (
            (normal(TOKENS, 3 * 224),),
            lambda x, m=matrix: ops.grouped_projection(x, m, 3),
        )
        found[f"router_scores {kind}"] = (normal(TOKENS, 224),), lambda x, m=matrix: ops.router_scores(x, m)
        bias = normal(141)
        found[f"route {kind}"] = (
            (normal(TOKENS, 224),),
            lambda x, m=matrix, b=bias: ops.route(x, m, bias=b, chosen=None, used=6, scaling=1.5),
        )
        bank = seeded.bank(7, 96, 160, kind)
        three: ExpertMatrices = bank.matrices(0)
        found[f"expert {kind}"] = (
            (normal(TOKENS, 96) / 8, normal(TOKENS)),
            lambda x, w, m=three: ops.expert(x, m, 1.0, w),
        )
        found[f"experts {kind}"] = (
            (normal(TOKENS, 96) / 8, seeded.whole(0, 7, TOKENS, 3), normal(TOKENS, 3)),
            lambda x, c, w, b=bank: ops.experts(x, c, w, b, 1.0),
        )
    w = normal(37, 101)
    found["linear"] = (normal(TOKENS, 101),), lambda x: ops.linear(x, w)
    weight = normal(101)
    found["rms_norm"] = (normal(TOKENS, 101),), lambda x: ops.rms_norm(x, weight, 1e-6)
    found["rms_norm of heads"] = (normal(TOKENS, 5, 77),), lambda x: ops.rms_norm(x, None, 1e-6)
    frequencies = ops.rotary_frequencies(10000.0, 14, None)
    found["rotate"] = (
        (normal(TOKENS, 3, 21), seeded.whole(0, 100000, TOKENS)),
        lambda x, p: ops.rotate(x, p, frequencies, inverse=True),
    )
    found["hadamard"] = (normal(TOKENS, 3, 128),), ops.hadamard
    keys = normal(75, 40)
    found["index_scores"] = (
        (normal(TOKENS, 5, 40), normal(TOKENS, 5), seeded.whole(0, 76, TOKENS)),
        lambda q, w, limits: ops.index_scores(q, keys, w, limits),
    )
    found["causal_top_k"] = (
        (normal(TOKENS, 75), seeded.whole(0, 76, TOKENS)),
        lambda scores, limits: ops.causal_top_k(scores, limits, 9),
    )
    fn, base, scale = normal(24, 4 * 53), normal(24), normal(3)
    eps = {"norm_eps": 1e-6, "eps": 1e-6}
    found["mix_streams"] = (
        (normal(TOKENS, 4, 53),),
        lambda s: ops.mix_streams(s, fn, base, scale, **eps, iterations=20),
    )
    found["merge_streams"] = (
        (normal(TOKENS, 53), normal(TOKENS, 4, 53), normal(TOKENS, 4), normal(TOKENS, 4, 4)),
        ops.merge_streams,
    )
    found["collapse_streams"] = (
        (normal(TOKENS, 4, 53),),
        lambda s: ops.collapse_streams(s, fn[:4], base[:4], scale[:1], **eps),
    )
    found["swiglu"] = (normal(TOKENS, 77), normal(TOKENS, 77)), lambda g, u: ops.swiglu(g, u, 1.0)
    found["fake_fp8"] = (normal(TOKENS, 101),), ops.fake_fp8
    found["fake_fp4"] = (normal(TOKENS, 96),), ops.fake_fp4
    found["pack_row"] = (normal(TOKENS, 101),), lambda x: ops.pack_row(x, 10)
    found["unpack_row"] = (ops.pack_row(normal(TOKENS, 101), 10),), lambda p: ops.unpack_row(p, 101, 10)
    found["pack_index_row"] = (normal(TOKENS, 96),), ops.pack_index_row
    found["unpack_index_row"] = (ops.pack_index_row(normal(TOKENS, 96)),), ops.unpack_index_row
    return found


CASES = cases()
ELSEWHERE = {"dequantised", "rotary_frequencies", "compress_csa", "compress_hca", "attend"}
"""Without rows for tokens, or with rows that depend on others: tested beside their references."""


def results(found: Any) -> Rows:
    return found if isinstance(found, tuple) else (found,)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_no_operator_is_left_out() -> None:
    public = {name for name in vars(ops) if getattr(vars(ops)[name], "__module__", "") == ops.__name__}
    assert {name.split(" ")[0] for name in CASES} | ELSEWHERE == public


@pytest.mark.parametrize("kernels", ["reference", "fast"])
@pytest.mark.parametrize("name", CASES)
def test_few_tokens_have_the_bits_of_each_alone(
    name: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, kernels)
    rows, operator = CASES[name]
    alone = [results(operator(*(row[t : t + 1].clone() for row in rows))) for t in range(TOKENS)]
    for first, last in ((0, 8), (0, 2), (3, 6), (1, 8), (7, 8)):
        together = results(operator(*(row[first:last] for row in rows)))
        for i, found in enumerate(together):
            wanted = torch.cat([alone[t][i] for t in range(first, last)])
            assert found.dtype == wanted.dtype
            assert torch.equal(found, wanted), (i, first, last)


@pytest.mark.parametrize("kernels", ["reference", "fast"])
@pytest.mark.parametrize("name", CASES)
def test_no_token_gives_no_row(name: str, kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, kernels)
    rows, operator = CASES[name]
    for nothing, one in zip(
        results(operator(*(row[:0] for row in rows))),
        results(operator(*(row[:1] for row in rows))),
        strict=True,
    ):
        assert nothing.shape == (0, *one.shape[1:])
        assert nothing.dtype == one.dtype


@pytest.mark.parametrize("name", CASES)
def test_many_tokens_have_the_numbers_of_few(name: str) -> None:
    """Beyond eight, rows go together: the same but for the last bits (a tie of choices does not occur here)."""
    rows, operator = CASES[name]
    many = results(operator(*(torch.cat((row, row)) for row in rows)))
    for found, few in zip(many, results(operator(*rows)), strict=True):
        wide = torch.cat((few, few))
        torch.testing.assert_close(found, wide, atol=2e-5 * float(wide.abs().max() + 1), rtol=0)


def test_two_runs_have_the_same_bits() -> None:
    for rows, operator in CASES.values():
        many = [torch.cat((row, row, row)) for row in rows]
        for first, second in zip(results(operator(*many)), results(operator(*many)), strict=True):
            assert torch.equal(first, second)
