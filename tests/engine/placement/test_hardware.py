"""What this machine is."""

import sys

import pytest

from engine.placement import hardware


def test_the_processor_and_the_memory_make_sense() -> None:
    cpu = hardware.processor()
    assert cpu.name
    assert 1 <= cpu.physical <= cpu.logical
    assert 1 <= cpu.usable <= cpu.logical
    ram = hardware.memory()
    assert 0 < ram.available_bytes <= ram.total_bytes


def test_llama_cpp_says_how_it_was_built() -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    built = hardware.llama_cpp()
    assert isinstance(built, hardware.LlamaCpp), built
    assert built.version
    assert all(feature.isidentifier() for feature in built.features)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ImportError('libfoo.so.1 is missing')", "libfoo.so.1"),
        ("raise SystemExit(3)", "status 3"),
        ("print('hello')", "did not say"),
    ],
)
def test_a_llama_cpp_that_cannot_be_had_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, program: str, said: str
) -> None:
    monkeypatch.setattr(hardware, "_LLAMA_QUESTION", program)
    found = hardware.llama_cpp()
    assert isinstance(found, str)
    assert said in found


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        hardware, "_LLAMA_QUESTION", "input()" if sys.platform == "none" else "while True: pass"
    )
    assert "did not answer" in str(hardware.llama_cpp(timeout_s=0.2))
