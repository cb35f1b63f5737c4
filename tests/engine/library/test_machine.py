"""What is found on this machine, its GPUs a little later."""

import threading

import pytest

from engine.library.machine import Machine
from engine.placement import hardware


def test_gpus_are_told_once_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, told = threading.Event(), threading.Event()
    count = 0

    def llama_cpp() -> hardware.LlamaCpp:
        nonlocal count
        count += 1
        asked.wait(20)
        return hardware.LlamaCpp("1", True, (), (hardware.Gpu("Card", 24_000_000_000, 1),))

    monkeypatch.setattr(hardware, "llama_cpp", llama_cpp)
    machine = Machine(told.set)
    before = machine.summary()
    assert (before.gpus, machine.gpu_bytes) == ([], 0)
    assert before.memory_bytes == hardware.memory().total_bytes
    assert before.cores >= 1
    asked.set()
    assert told.wait(20)
    assert machine.summary().gpus == ["Card, 24 GB"]
    assert machine.seen() == machine.gpus
    assert machine.gpu_bytes == 24_000_000_000
    assert count == 1


def test_a_llama_cpp_that_cannot_be_loaded_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()

    def llama_cpp() -> str:
        asked.set()
        return "it is not here"

    monkeypatch.setattr(hardware, "llama_cpp", llama_cpp)
    machine = Machine()
    assert machine.seen() == ()  # it has waited for the answer
    assert asked.is_set()
    assert machine.summary().gpus == []
