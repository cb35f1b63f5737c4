import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.backends.base import ModelFacts
from engine.backends.ggml_backends import Backends

llama_keys = pytest.importorskip("engine.backends.llama_keys", reason="llama_cpp is not installed")
llamacpp = pytest.importorskip("engine.backends.llamacpp", reason="llama_cpp is not installed")


def keys(path: Path, **options: object) -> tuple[str, str]:
    settings = {"context_tokens": 256, "threads": 1, "on_progress": lambda _fraction: True} | options
    backend = llamacpp.LlamaCppBackend.open(path, name="Starter", **settings)
    facts = backend.facts
    backend.close()
    return facts.state_key, facts.exact_key


@pytest.fixture(scope="module")
def usual(starter_path: Path) -> tuple[str, str]:
    return keys(starter_path)


def test_a_model_has_the_same_keys_every_time_and_under_every_name(
    usual: tuple[str, str], starter_path: Path, tmp_path: Path
) -> None:
    state, exact = usual
    assert state
    assert exact
    assert state != exact
    renamed = tmp_path / "other.gguf"
    shutil.copyfile(starter_path, renamed)
    assert keys(renamed) == usual


def test_another_form_of_the_memory_has_keys_of_its_own(usual: tuple[str, str], starter_path: Path) -> None:
    forms = {usual[0], *(keys(starter_path, kv_type=kind)[0] for kind in ("f32", "q8_0"))}
    assert len(forms) == 3


def test_what_changes_bits_alone_changes_the_exact_key_alone(
    usual: tuple[str, str], starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys(starter_path, context_tokens=768)[0] == usual[0]
    threads = keys(starter_path, threads=2)
    assert (threads[0], threads[1] != usual[1]) == (usual[0], True)
    monkeypatch.setattr(llamacpp, "CHUNK_TOKENS", 64)
    chunks = keys(starter_path)
    assert (chunks[0], chunks[1] != usual[1]) == (usual[0], True)
    monkeypatch.undo()
    monkeypatch.setattr(llama_keys, "_library", lambda _folder: "another build")
    library = keys(starter_path)
    assert (library[0], library[1] != usual[1]) == (usual[0], True)


def test_the_room_for_more_tokens_changes_neither(usual: tuple[str, str], starter_path: Path) -> None:
    assert keys(starter_path, context_tokens=768) == keys(starter_path, context_tokens=1024)


def test_a_file_that_is_gone_leaves_a_model_without_keys(
    starter_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_path: Path) -> str:
        raise OSError("gone")

    monkeypatch.setattr(llama_keys, "file_fingerprint", gone)
    assert keys(starter_path) == ("", "")
    assert "will not be kept" in caplog.text


@pytest.mark.parametrize(
    "system", ["CUDA : ARCHS = 900 | CPU : AVX2 = 1 | ", "Vulkan : X = 1 | ", "CPU : AVX2 = 1 | "]
)
def test_on_a_gpu_only_cuda_promises_another_process_the_same_bits(
    starter_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    llama = llama_keys.llama
    for name in ("llama_n_threads", "llama_n_threads_batch", "llama_n_batch", "llama_n_ubatch"):
        monkeypatch.setattr(llama, name, lambda _context: 1)
    monkeypatch.setattr(llama, "llama_print_system_info", system.encode)
    facts = ModelFacts("n", "a", "b", 9, 9, 9, 1, frozenset(), None, "", "", None, {})
    parameters = llama.llama_context_default_params()

    def found(gpu: str | None, in_ram: tuple[int, ...] = (), *, there_is_one: bool = False) -> ModelFacts:
        monkeypatch.setattr(llama, "llama_supports_gpu_offload", lambda: there_is_one)
        plan: Any = SimpleNamespace(
            gpu=gpu, gpu_number=0, gpu_layers=8, expert_layers_in_ram=in_ram, matrices_in_ram=((3, "up"),)
        )
        return llama_keys.with_keys(
            facts,
            starter_path,
            None,
            parameters,
            chunks=(),
            plan=plan,
            repacked=True,
            watched=False,
            first_tokens=0,
        )

    here, there = found("GPU"), found(None)
    assert found("GPU") == here != there
    monkeypatch.setattr(llama_keys, "_PROCESS", "another")
    assert found(None) == there
    assert found("GPU").state_key == here.state_key
    assert (found("GPU").exact_key == here.exact_key) == system.startswith("CUDA")
    assert found("GPU", (0, 1)).exact_key != here.exact_key
    assert found("other GPU").exact_key != here.exact_key
    # A GPU that the plan does not use is not given to the model, so nothing is computed there.
    assert found(None, there_is_one=True) == there


def test_another_variant_of_the_code_for_the_processor_goes_on_otherwise(
    starter_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama = llama_keys.llama
    for name in ("llama_n_threads", "llama_n_threads_batch", "llama_n_batch", "llama_n_ubatch"):
        monkeypatch.setattr(llama, name, lambda _context: 1)
    facts = ModelFacts("n", "a", "b", 9, 9, 9, 1, frozenset(), None, "", "", None, {})
    found: list[ModelFacts] = []
    for variant in ("", "haswell", "zen4", "zen4"):
        monkeypatch.setattr(llama_keys, "backends", Backends(variant))
        found.append(
            llama_keys.with_keys(
                facts,
                starter_path,
                None,
                llama.llama_context_default_params(),
                chunks=(),
                plan=None,
                repacked=True,
                watched=False,
                first_tokens=0,
            )
        )
    assert len({each.exact_key for each in found}) == 3
    assert len({each.state_key for each in found}) == 1
    assert found[2] == found[3]
