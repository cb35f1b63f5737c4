"""What is said about a checkpoint and a conversion of it."""

from app.conversion_words import inspection_words, result_bytes, space_words, suggested_target
from engine.protocol_jobs import Inspection, ResultBytes

FOUND = Inspection(
    path="/c/DeepSeek-V4-Flash-0731", name="DeepSeek-V4-Flash-0731", release="DeepSeek-V4 0731", shards=46,
    tensors=70_000, tensor_bytes=159_600_000_000, parameters=291_000_000_000, drafter="dspark",
    results=[ResultBytes(dense="q8_0", model_bytes=156_400_000_000, draft_bytes=4_000_000_000)],
    free_bytes=158_000_000_000,
)  # fmt: skip


def test_what_it_takes_and_what_is_free() -> None:
    assert space_words(FOUND, "q8_0", "skip", consume=False) == (
        "It takes 156.4 GB; 158.0 GB are free there.", True,
    )  # fmt: skip
    words, fits = space_words(FOUND, "q8_0", "separate", consume=False)
    assert not fits
    assert "not enough" in words
    assert space_words(FOUND, "q8_0", "separate", consume=True)[1]
    assert space_words(FOUND, "bf16", "skip", consume=False) == ("", True)
    assert result_bytes(FOUND.results, "q8_0") == 160_400_000_000
    assert result_bytes([], "q8_0") is None


def test_a_checkpoint_line_by_line() -> None:
    assert inspection_words(FOUND) == [
        "DeepSeek-V4-Flash-0731 · DeepSeek-V4 0731",
        "291.0B parameters · a DSpark drafter",
        "46 shards, 70,000 tensors, 159.6 GB",
    ]
    assert suggested_target(FOUND) == "/c/DeepSeek-V4-Flash-0731.gguf"
