import logging

import pytest

from engine.backends.llama_log import LlamaLog

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
