"""Which of the GPUs that llama.cpp reaches is used, and which is left alone since the processor is faster.

Owns: that rule, and its words. Pure. Does not know what of a model goes there (`planner`), nor measure anything.

A GPU with memory of its own reads several times as fast as a processor, so it is used unless measuring said otherwise.
One that shares the machine's memory reads no faster than the processor, and many such are slower in all they do: it is
used where measuring found it faster, or where a person set a budget for it.
"""

from collections.abc import Sequence

from engine.placement.hardware import Gpu
from engine.placement.hardware_record import HardwareRecord, MeasuredGpu
from engine.placement.load_plan import Decision
from engine.placement.token_time import PREFILL_ARITHMETIC, READING_EFFICIENCY
from engine.placement.turn_time import Favour


def chosen(
    gpus: Sequence[Gpu], record: HardwareRecord | None, favour: Favour, *, asked_for: bool
) -> tuple[int | None, list[Decision]]:
    """The number of the GPU to use, None for none, and why. `asked_for`: a person set how much of it may be taken."""
    said: list[Decision] = []
    usable: list[int] = []
    for number, gpu in enumerate(gpus):
        why = "" if asked_for else _why_not(gpu, _measured(gpu, number, record), record, favour)
        if why:
            said.append(Decision(f"{gpu.name} is not used", why))
        else:
            usable.append(number)
    # What shares the machine's memory has most of it, but no use for it.
    number = max(
        usable, key=lambda each: (not gpus[each].integrated, gpus[each].free_bytes, -each), default=None
    )
    if number is not None and len(usable) > 1:
        shared = any(gpus[each].integrated for each in usable) and not gpus[number].integrated
        why = "it has memory of its own" if shared else "it has most memory free"
        said.append(Decision(f"Of {len(usable)} GPUs {gpus[number].name} is used", why))
    return number, said


def _measured(gpu: Gpu, number: int, record: HardwareRecord | None) -> MeasuredGpu | None:
    if record is None:
        return None
    if number < len(record.gpus) and record.gpus[number].name == gpu.name:
        return record.gpus[number]
    return next((each for each in record.gpus if each.name == gpu.name), None)


def _why_not(gpu: Gpu, measured: MeasuredGpu | None, record: HardwareRecord | None, favour: Favour) -> str:
    if measured is None or record is None:
        if gpu.integrated:
            return "it has no memory of its own, and whether it is faster than the processor was not measured"
        return ""
    if measured.rates is None:
        # Of one with memory of its own that may have been taken by others just then.
        return f"it could not be measured: {measured.why}" if gpu.integrated else ""
    if measured.rates.q8_0 is None:
        return "it cannot multiply with weights in Q8_0"
    cores = max(1, record.fingerprint.cores)
    answers = measured.rates.q8_0.one_bytes_per_s / (READING_EFFICIENCY * record.memory_bytes_per_s)
    prompts = measured.rates.q8_0.many_per_s / (PREFILL_ARITHMETIC * record.arithmetic_per_s * cores)
    gain = {"answers": answers, "prompts": prompts, "balanced": answers * prompts}[favour]
    if gain >= 1:
        return ""
    return (
        f"the processor is faster: by what was measured, the GPU would write answers {answers:.2g} times and read "
        f"prompts {prompts:.2g} times as fast"
    )
