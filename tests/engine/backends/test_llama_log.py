import logging

import pytest

from engine.backends.llama_log import Buffer, LlamaLog, taken_bytes

INFO, ERROR, CONTINUES = 2, 4, 5


def reason(*lines: str) -> str:
    log = LlamaLog()
    for line in lines:
        log.line(ERROR, f"{line}\n".encode())
    return log.reason()


def test_the_reason_is_the_line_that_says_most() -> None:
    last = "llama_model_load_from_file_impl: failed to load model"
    assert reason("llama_model_load: error loading model: tensor 'x' is cut", last) == "tensor 'x' is cut"
    nothing = "llama_model_load: error loading model: llama_model_loader: failed to load model from /x"
    assert reason("gguf_init: bad magic", "gguf_init: failed to read header", nothing, last) == "bad magic"
    assert reason("no colon here") == "no colon here"
    assert reason(nothing, last) == "llama.cpp gave no reason"
    assert reason() == "llama.cpp gave no reason"


def test_errors_from_before_are_forgotten() -> None:
    log = LlamaLog()
    log.line(ERROR, b"f: old")
    log.forget()
    log.line(INFO, b"f: fine")
    log.line(ERROR, b"f: new")
    assert log.reason() == "new"


def test_levels_and_continued_lines(caplog: pytest.LogCaptureFixture) -> None:
    log = LlamaLog()
    with caplog.at_level(logging.DEBUG, "seamount.llama.cpp"):
        for level, text in [
            (3, b"careful\n"),
            (CONTINUES, b"and more"),
            (INFO, b"...."),
            (1, b"\xff"),
            (99, b"?"),
        ]:
            log.line(level, text)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "careful"),
        ("WARNING", "and more"),
        ("DEBUG", "\ufffd"),
        ("DEBUG", "?"),
    ]


def test_nothing_is_raised_into_c() -> None:
    LlamaLog().line(ERROR, None)


def buffers(*lines: str) -> tuple[Buffer, ...]:
    log = LlamaLog()
    for line in lines:
        log.line(INFO, f"{line}\n".encode())
    return log.buffers


TOLD = (
    "load_tensors:   CPU_Mapped model buffer size =   960.50 MiB",
    "load_tensors:        CUDA0 model buffer size =   306.00 MiB",
    "load_tensors:    CUDA_Host model buffer size =   100.00 MiB",
    "llama_context:        CPU  output buffer size =     0.50 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =     4.50 MiB",
    "llama_kv_cache:      CUDA0 KV buffer size =     2.00 MiB",
    "llama_dsv4_comp_state:      CUDA0 DSV4 csa state buffer size =     0.25 MiB",
    "sched_reserve:      CUDA0 compute buffer size =   192.00 MiB",
    "sched_reserve:  CUDA_Host compute buffer size =    16.00 MiB",
)
MIB = 1 << 20


def test_the_buffers_that_were_made() -> None:
    found = buffers(
        *TOLD, "llama_kv_cache: size = 7.50 MiB (256 cells)", "x: CPU model buffer size = many MiB"
    )
    assert len(found) == len(TOLD)
    assert found[0] == ("model", "CPU_Mapped", 960.5 * MIB)
    assert [each.kind for each in found[3:7]] == ["output", "KV", "KV", "DSV4 csa state"]
    assert [each.device for each in found if each.in_ram] == ["CPU_Mapped", "CUDA_Host", "CPU", "CUDA_Host"]


def test_buffers_to_compute_in_that_are_made_anew_count_once() -> None:
    again = "sched_reserve:      CUDA0 compute buffer size =   200.00 MiB"
    assert buffers(TOLD[7], again) == (("compute", "CUDA0", 200 * MIB),)


def test_what_is_taken_and_what_is_mapped() -> None:
    taken = taken_bytes(buffers(*TOLD), loaded_bytes=900 * MIB)
    assert taken.gpu_bytes == (306 + 4.5 + 2 + 0.25 + 192) * MIB
    assert taken.ram_bytes == (100 + 0.5 + 16) * MIB
    # Of 900 MiB, 406 were read into memory of their own, so the others are what is used of the mapping.
    assert taken.mapped_bytes == (900 - 406) * MIB


def test_buffers_from_before_are_forgotten() -> None:
    log = LlamaLog()
    log.line(INFO, TOLD[0].encode())
    log.forget()
    assert log.buffers == ()
