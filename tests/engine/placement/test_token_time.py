"""The formula against what an H100 gave.

Flash's shapes, eight layers of random weights, llama.cpp 0.3.36's sources built with CUDA, an H100 with 80 GB on
PCIe 5.0 beside 16 cores (Sapphire Rapids) and 125 GB of RAM; tokens per second by llama-bench, and for the rows of
`EARLIER` by llama.cpp through its library. `RATES`, `PLAIN` and `RECORD` are what `seamount bench --hardware` found on
such a machine. The constants were fitted to these same rows.
"""

from dataclasses import replace
from functools import cache

import pytest

from convert.model_shape import ModelShape
from engine.placement.hardware_record import (
    DeviceRates,
    Fingerprint,
    HardwareRecord,
    MeasuredDisk,
    MeasuredGpu,
    Multiplying,
)
from engine.placement.load_plan import LoadPlan, Part
from engine.placement.model_sizes import ModelSizes, sizes_of_shape
from engine.placement.token_time import TokenTime, gpu_rates
from tests.convert.released_configs import FLASH

LAYERS = 8
GPU = "H100"
WITHIN = 0.30
RATES = DeviceRates(
    copy_bytes_per_s=2.963e12,
    pinned_bytes_per_s=5.531e10,
    pageable_bytes_per_s=1.015e10,
    back_bytes_per_s=5.516e10,
    operation_s=8.042e-7,
    exchange_s=2.776e-5,
    q8_0=Multiplying(one_bytes_per_s=2.750e12, many_per_s=9.912e13),
    mxfp4=Multiplying(one_bytes_per_s=1.629e12, many_per_s=9.589e13),
)
PLAIN = RATES.model_copy(
    update={
        "threads": 15,
        "pinned_bytes_per_s": None,
        "q8_0": Multiplying(one_bytes_per_s=1.337e11, many_per_s=3.334e11),
        "mxfp4": Multiplying(one_bytes_per_s=9.815e10, many_per_s=2.404e11),
    }
)
RECORD = HardwareRecord(
    measured_at=1795657800.0,
    fingerprint=Fingerprint(processor="Xeon", cores=16, memory_bytes=135_148_564_480, disk="d"),
    memory_threads=16,
    memory_bytes_per_s=9.40e10,
    memory_one_bytes_per_s=1.377e10,
    arithmetic_per_s=7.857e10,
    disk=MeasuredDisk(sequential_bytes_per_s=2.12e9, random_bytes_per_s=2.33e9, mapped_bytes_per_s=7.57e8),
    gpus=[MeasuredGpu(name=GPU, rates=RATES)],
    plain=PLAIN,
)

# layers with experts in RAM, mapped, threads, micro-batch, prompt, depth, tokens read per second
PROMPTS = [
    (8, False, 15, 2048, 8192, 0, 2847.8),
    (8, False, 15, 4096, 8192, 0, 4430.8),
    (8, False, 15, 8192, 8192, 0, 5540.1),
    (0, False, 15, 512, 8192, 0, 5611.7),
    (0, False, 15, 2048, 8192, 0, 11174.7),
    (0, False, 15, 8192, 8192, 0, 8748.6),
    (0, False, 15, 2048, 512, 32_768, 4773.8),
    (4, False, 15, 2048, 8192, 0, 4690.3),
    (4, False, 15, 8192, 8192, 0, 6754.7),
    (7, False, 15, 2048, 8192, 0, 3239.9),
    (7, False, 15, 8192, 8192, 0, 5797.9),
    (8, True, 15, 2048, 2048, 0, 622.3),
    (8, False, 15, 512, 512, 0, 854.9),
    (8, False, 15, 512, 2048, 0, 844.7),
    (8, False, 15, 2048, 2048, 0, 2942.2),
    (8, False, 15, 2048, 512, 32_768, 843.3),
]
EARLIER = [
    (0, False, 15, 2048, 2048, 0, 11077),
    (0, False, 15, 2048, 512, 32_768, 6068),
    (0, False, 15, 2048, 512, 131_072, 4497),
    (8, True, 15, 2048, 2048, 0, 841),
    (8, False, 15, 2048, 2048, 0, 3777),
    (8, False, 15, 8192, 8192, 0, 5608),
    (4, True, 15, 2048, 2048, 0, 1308),
]
# layers with experts in RAM, mapped, threads, depth, tokens written per second
ANSWERS = [
    (8, False, 15, 0, 66.2),
    (8, False, 8, 0, 50.8),
    (8, False, 12, 0, 62.8),
    (8, False, 14, 0, 70.9),
    (8, False, 15, 0, 73.2),
    (0, False, 15, 0, 316.6),
    (0, False, 15, 0, 296.7),
    (0, False, 15, 32_768, 233.0),
    (4, False, 15, 0, 117.4),
    (7, False, 15, 0, 82.3),
    (8, True, 15, 0, 66.5),
    (8, False, 15, 32_768, 63.5),
    # Earlier.
    (0, False, 15, 0, 313.0),
    (0, False, 15, 32_768, 287.0),
    (0, False, 15, 131_072, 256.0),
    (8, True, 15, 0, 62.0),
    (8, False, 15, 0, 68.0),
    (8, False, 8, 0, 49.0),
    (8, False, 12, 0, 58.0),
    (4, True, 15, 0, 116.0),
]


@cache
def sizes() -> ModelSizes:
    ratios = [*FLASH["compress_ratios"][:LAYERS]]
    config = FLASH | {
        "num_hidden_layers": LAYERS,
        "compress_ratios": ratios,
        "num_nextn_predict_layers": 0,
    }
    return sizes_of_shape(ModelShape.from_config(config), "q8_0", "eight layers")


def placed(in_ram: int, *, mapped: bool = False, threads: int = 15, batch: int = 2048) -> LoadPlan:
    """Everything on the GPU but the experts of the first layers."""
    parts = [Part("output", None, gpu_bytes=sizes().output_bytes)]
    for at, layer in enumerate(sizes().layers):
        place = "ram_bytes" if at < in_ram else "gpu_bytes"
        parts.append(Part("dense", at, gpu_bytes=layer.dense_bytes))
        parts.append(Part("experts", at, **{place: layer.expert_bytes}))
    return LoadPlan(
        model="m",
        context_tokens=1 << 18,
        cache_type="f16",
        threads=threads,
        micro_batch_tokens=batch,
        memory_mapped=mapped,
        copied=False,
        whole_window=False,
        gpu=GPU,
        gpu_number=0,
        gpu_layers=LAYERS,
        expert_layers_in_ram=tuple(range(in_ram)),
        parts=tuple(parts),
        decisions=(),
    )


@pytest.mark.parametrize(
    ("in_ram", "mapped", "threads", "batch", "prompt", "depth", "seen"), [*PROMPTS, *EARLIER]
)
def test_a_prompt_takes_as_long_as_it_did_on_an_h100(
    in_ram: int, mapped: bool, threads: int, batch: int, prompt: int, depth: int, seen: float
) -> None:
    placement = placed(in_ram, mapped=mapped, threads=threads, batch=batch)
    told = prompt / TokenTime(sizes(), placement, RECORD).prompt_s(prompt, depth)
    assert told == pytest.approx(seen, rel=WITHIN)


@pytest.mark.parametrize(("in_ram", "mapped", "threads", "depth", "seen"), ANSWERS)
def test_a_token_takes_as_long_as_it_did_on_an_h100(
    in_ram: int, mapped: bool, threads: int, depth: int, seen: float
) -> None:
    placement = placed(in_ram, mapped=mapped, threads=threads)
    told = 1 / TokenTime(sizes(), placement, RECORD).token_s(1.0, depth)
    assert told == pytest.approx(seen, rel=WITHIN)


def test_matrices_of_a_layer_on_the_gpu_are_counted_by_their_bytes() -> None:
    """The down matrices on the GPU, gate and up in RAM: 89.5 tokens written and 3,756 read per second there."""
    whole = placed(8)
    parts = [
        Part(
            part.what,
            part.layer,
            gpu_bytes=part.ram_bytes // 3,
            ram_bytes=part.ram_bytes - part.ram_bytes // 3,
        )
        if part.what == "experts"
        else part
        for part in whole.parts
    ]
    time = TokenTime(sizes(), replace(whole, parts=tuple(parts)), RECORD)
    assert 1 / time.token_s(1.0, 0) == pytest.approx(89.5, rel=WITHIN)
    assert 8192 / time.prompt_s(8192) == pytest.approx(3756, rel=WITHIN)


def test_a_gpu_that_was_not_measured_or_cannot_multiply_is_said() -> None:
    for gpus in (
        [],
        [MeasuredGpu(name=GPU, why="shy")],
        [MeasuredGpu(name="another", rates=RATES)],
        [MeasuredGpu(name=GPU, rates=RATES.model_copy(update={"q8_0": None}))],
    ):
        record = RECORD.model_copy(update={"gpus": gpus})
        assert gpu_rates(placed(0), record) is None
        with pytest.raises(ValueError, match="GPU"):
            TokenTime(sizes(), placed(0), record)


def test_of_several_gpus_the_one_of_the_plan_counts() -> None:
    slow = RATES.model_copy(update={"copy_bytes_per_s": 1e11})
    record = RECORD.model_copy(
        update={"gpus": [MeasuredGpu(name="slow", rates=slow), MeasuredGpu(name=GPU, rates=RATES)]}
    )
    assert gpu_rates(placed(0), record) == RATES
    assert gpu_rates(replace(placed(0), gpu_number=1), record) == RATES


@pytest.mark.parametrize("field", ["pinned_bytes_per_s", "copy_bytes_per_s"])
def test_a_faster_gpu_or_bus_is_never_slower(field: str) -> None:
    faster = RATES.model_copy(update={field: 2 * getattr(RATES, field)})
    record = RECORD.model_copy(update={"gpus": [MeasuredGpu(name=GPU, rates=faster)]})
    for in_ram in (0, 4, 8):
        before, after = (TokenTime(sizes(), placed(in_ram), each) for each in (RECORD, record))
        assert after.token_s(1.0, 0) <= before.token_s(1.0, 0)
        assert after.prompt_s(4096) <= before.prompt_s(4096)


def test_a_prompt_is_foretold_with_the_threads_that_read_it() -> None:
    plan = replace(placed(LAYERS, threads=4), gpu=None, gpu_layers=0)
    as_answers, twice = (TokenTime(sizes(), replace(plan, prompt_threads=each), RECORD) for each in (0, 8))
    batches_s = as_answers.prompt_s(2048) - 2 * (as_answers.prompt_s(2048) - twice.prompt_s(2048))
    assert 0 <= batches_s < 0.1 * as_answers.prompt_s(2048)
    assert twice.token_s(1.0, 0) == as_answers.token_s(1.0, 0)
