"""What llama.cpp says of itself, as a line of JSON."""

import ctypes
import json

import pytest

pytest.importorskip("engine.backends.llama_library", reason="llama_cpp is not installed")

from engine.backends import llama_report
from engine.backends.llama_library import backends, llama


def test_the_answer_is_one_line_that_names_what_computes(capsys: pytest.CaptureFixture[str]) -> None:
    llama_report.main()
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line.removeprefix("llama.cpp says "))
    assert "CPU" in answer["backends"]
    assert answer["variant"] == backends.variant
    assert answer["gpu_offload"] is bool(answer["gpus"])
    model, context = json.loads(answer["defaults"])
    assert len(model) == len(llama.llama_model_params._fields_)
    assert context[:2] == [512, 2048]  # n_ctx and n_batch of llama_context_default_params


def test_defaults_are_read_as_the_structure_is_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shape(ctypes.Structure):
        _fields_ = (("count", ctypes.c_int), ("share", ctypes.c_float), ("call", ctypes.c_void_p))

    def function(name: str, result: type[ctypes.Structure]) -> object:
        def call() -> ctypes.Structure:
            made = result()
            made.value = Shape(3, 0.5, None)  # type: ignore[attr-defined]
            return made

        return call

    monkeypatch.setattr(llama_report, "ggml_function", function)
    assert llama_report._defaults("any", Shape) == [3, 0.5, None]
