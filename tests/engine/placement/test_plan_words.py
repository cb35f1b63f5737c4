"""The sentences of a plan's decisions."""

from engine.placement.load_plan import Part
from engine.placement.model_sizes import LayerSizes
from engine.placement.plan_words import batch_decision, gpu_batch_decision, gpu_decisions, memory_decisions
from tests.engine.placement.models import GB, dense_model, flash


def test_of_a_gpu_whole_layers_of_experts_and_parts_are_told_apart() -> None:
    layers = flash().layers
    whole = layers[42].expert_bytes
    parts = [Part("experts", 42, gpu_bytes=whole), Part("experts", 41, gpu_bytes=whole // 3, ram_bytes=1)]
    placed, rest = gpu_decisions(flash(), "H100", 70 * GB, parts, 43, {42: whole, 41: whole // 3, 40: 0}, 0)
    assert placed.what == (
        "4.6 GB on H100: 43 of 43 layers without their experts, and the experts of 1 and a part of those of 1 more"
    )
    assert "70 GB may be used" in placed.why
    assert rest.why == "prompts go several times faster"
    (_, mapped) = gpu_decisions(flash(), "H100", 70 * GB, parts, 43, {}, 9 * GB)
    assert "9.0 GB of it beyond RAM" in mapped.what


def test_of_a_model_without_experts_none_are_spoken_of() -> None:
    assert dense_model().layers[0] == LayerSizes(0, 3_000_000, 0, 6_000_000)
    placed, _ = gpu_decisions(dense_model(), "G", GB, [Part("dense", 0, gpu_bytes=GB)], 30, {}, 0)
    assert placed.what == "1.0 GB on G: 30 of 30 layers"


def test_memory_and_batches() -> None:
    parts = [Part("dense", 0, ram_bytes=8 * GB)]
    copied = memory_decisions(flash(), parts, 9 * GB, copied=True, on_disk_bytes=0)
    assert copied[0].what == "All of it in RAM, 8.0 GB with its context"
    mapped = memory_decisions(flash(), parts, 9 * GB, copied=False, on_disk_bytes=GB)
    assert "6 of 256 experts" in mapped[0].why
    assert "gains nothing" in batch_decision(512, 512, streamed=False).why
    assert "do not fit" in batch_decision(512, 512, streamed=True).why
    assert "nearly all experts" in batch_decision(2048, 512, streamed=True).why
    assert "prompt of 32,000 tokens" in gpu_batch_decision(8192, "prompts").why
