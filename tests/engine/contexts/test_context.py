"""A backend as it is."""

from engine.contexts.context import BareContext
from tests.support.sensitive_backend import SensitiveBackend


def test_it_reads_everything_and_promises_nothing() -> None:
    backend = SensitiveBackend(rewinds=True)
    context = BareContext(backend)
    told: list[tuple[int, int, int]] = []
    prepared = context.prepare((1, 2, 3), (), lambda a, b, c: told.append((a, b, c)), lambda: False)
    assert (prepared.read_tokens, prepared.exact) == (3, None)
    assert prepared.reading_s > 0
    assert told[-1] == (3, 3, 0)
    assert (context.logits() == backend.logits()).all()
    context.step(4)
    prepared = context.prepare((1, 2, 3), (4, 5), lambda _a, _b, _c: None, lambda: False)
    assert (prepared.read_tokens, prepared.exact) == (1, False)
    assert list(backend.held) == [1, 2, 3, 4, 5]
    assert context.facts is backend.facts
    assert context.expert_counts is None
    assert context.token_bytes(1) == b"A"
