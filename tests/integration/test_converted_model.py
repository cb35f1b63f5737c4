"""What `seamount convert` writes runs in llama.cpp: the model, MTP beside it or in it, DSpark."""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np
import pytest
from llama_cpp.llama_cpp import llama_memory_clear

from convert.conversion import convert
from convert.tensor_map import Dense, Draft
from engine.backends.llamacpp import LlamaCppBackend
from tests.convert.conversions import Release, checkpoint, job
from tests.convert.seeded_checkpoint import stored

pytestmark = pytest.mark.slow

TEXT = "Seamounts rise from the sea floor and end below the surface. " * 16


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return {
        "preview": checkpoint(folder, "preview", ratios="flash", seed=7),
        "0731": checkpoint(folder, "0731", ratios="pro", seed=8),
    }


@llama.llama_log_callback
def quiet(_level: int, _text: bytes, _data: object) -> None:
    """What llama.cpp says while it loads is of no use here."""


def load(path: Path, *, with_mtp: bool = False) -> Any:
    llama.llama_backend_init()
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    parameters = llama.llama_model_default_params()
    parameters.load_mtp = with_mtp
    return llama.llama_model_load_from_file(str(path).encode(), parameters)


@pytest.mark.parametrize(
    ("release", "draft", "dense"),
    [("preview", "keep", "q8_0"), ("preview", "skip", "bf16"), ("0731", "separate", "q8_0")],
)
def test_the_model_reads_and_writes(
    sources: dict[str, Path], tmp_path: Path, release: Release, draft: Draft, dense: Dense
) -> None:
    path = convert(job(sources[release], tmp_path / "m.gguf", dense=dense, draft=draft))[0]
    backend = LlamaCppBackend.open(path, name="m", context_tokens=1024, threads=2, on_progress=lambda _: True)
    try:
        assert backend.facts.architecture == "deepseek4"
        assert backend.facts.release_names[0] == sources[release].name
        assert backend.facts.begin_token_id is None  # the prompt writes it
        tokens = backend.tokenize(TEXT)
        assert len(tokens) > 300  # a window, and rows of both ratios
        backend.sync(tokens, lambda *_: None, lambda: False)
        written: list[int] = []
        for _ in range(6):
            logits = backend.logits()
            assert np.isfinite(logits).all()
            written.append(int(logits.argmax()))
            backend.step(written[-1])
        assert float(logits.std()) > 0.01
    finally:
        backend.close()


@pytest.mark.parametrize("release", ["preview", "0731"])
def test_drafters_of_their_own_load(sources: dict[str, Path], tmp_path: Path, release: Release) -> None:
    draft = convert(job(sources[release], tmp_path / "m.gguf"))[1]
    model = load(draft, with_mtp=True)
    assert model
    llama.llama_model_free(model)


def test_mtp_in_the_models_file_loads_with_and_without_it(sources: dict[str, Path], tmp_path: Path) -> None:
    (path,) = convert(job(sources["preview"], tmp_path / "m.gguf", draft="keep"))
    for with_mtp in (True, False):
        model = load(path, with_mtp=with_mtp)
        assert model
        llama.llama_model_free(model)


def logits_of(path: Path, tokens: list[int]) -> Any:
    """Logits of every position: F32 memory, no flash attention, which two files can be compared with."""
    model = load(path)
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_threads = parameters.n_threads_batch = 2
    parameters.type_k = parameters.type_v = 0
    parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama.llama_init_from_model(model, parameters)
    size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    llama_memory_clear(llama.llama_get_memory(context), True)
    batch = llama.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        batch.token[place], batch.pos[place] = token, place
        batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
    assert llama.llama_decode(context, batch) == 0
    found = np.ctypeslib.as_array(llama.llama_get_logits(context), shape=(len(tokens), size)).copy()
    llama.llama_batch_free(batch)
    llama.llama_free(context)
    llama.llama_model_free(model)
    return found


def divergence(first: Any, second: Any) -> float:
    """Mean KL divergence of the second's distributions from the first's."""
    logs = [each.astype(np.float64) - np.logaddexp.reduce(each.astype(np.float64), axis=1, keepdims=True)
            for each in (first, second)]  # fmt: skip
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=1).mean())


def test_both_dense_formats_agree_and_a_permuted_expert_does_not(tmp_path: Path) -> None:
    """Every expert is asked for each token, so that rounding cannot tip the choice of them."""
    changes: dict[str, Any] = {"n_routed_experts": 4, "num_experts_per_tok": 4, "index_topk": 512, "seed": 9}
    swapped = {f"layers.1.ffn.experts.{a}.w2": f"layers.1.ffn.experts.{b}.w2" for a, b in ((0, 1), (1, 0))}
    source = checkpoint(tmp_path / "a", "0731", **changes)

    def swap(name: str, array: Any) -> Any:
        stem, _, kind = name.rpartition(".")
        return stored(source, f"{swapped[stem]}.{kind}") if stem in swapped else array

    other = checkpoint(tmp_path / "b", "0731", edit=swap, **changes)
    paths = {
        "bf16": convert(job(source, tmp_path / "bf16.gguf", dense="bf16", draft="skip"))[0],
        "q8_0": convert(job(source, tmp_path / "q8_0.gguf", dense="q8_0", draft="skip"))[0],
        "swapped": convert(job(other, tmp_path / "swapped.gguf", dense="bf16", draft="skip"))[0],
    }
    tokens = [int(each) for each in np.random.default_rng(0).integers(3, 259, 300)]
    found = {name: logits_of(path, tokens) for name, path in paths.items()}
    near, far = (divergence(found["bf16"], found[name]) for name in ("q8_0", "swapped"))
    assert near < far / 50, (near, far)


def test_chat_talks_to_it(sources: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "DeepSeek-V4-Flash-0731.gguf"
    settings = ["--data", str(tmp_path / "data")]
    seamount = [sys.executable, "-m", "seamount", *settings]
    subprocess.run([*seamount, "convert", str(sources["0731"]), str(target)], check=True, capture_output=True)
    done = subprocess.run(
        [*seamount, "chat", "--model", str(target), "--prompt", "Hello"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
