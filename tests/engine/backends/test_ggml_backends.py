"""Backends that are files of their own: the best for this processor, and drivers asked in a process of their own.

The libraries are made by the test, of a few lines of C; where there is no C compiler it skips.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.backends import ggml_backends
from engine.backends.ggml_backends import WITHOUT_VARIABLE, Backends, load
from engine.backends.ggml_library import FOLDER_VARIABLE

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("cc"), reason="there is no C compiler to make libraries with"
)
# Stands for libllama, libggml and libggml-base in one: it counts what is loaded, and writes it to a file.
GGML = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
static int loaded;
void *ggml_backend_load(const char *path) {
    void *library = dlopen(path, RTLD_NOW), *(*init)(void);
    if (!library || !(init = dlsym(library, "ggml_backend_init")) || !init()) return 0;
    FILE *log = fopen(getenv("LOADED"), "a");
    fprintf(log, "%d %s\n", getpid(), path);
    fclose(log);
    loaded++;
    return library;
}
static void (*say)(int, const char *, void *);
void ggml_log_get(void **callback, void **data) { *callback = say; *data = 0; }
void ggml_log_set(void *callback, void *data) { say = callback; }
size_t ggml_backend_dev_count(void) { return loaded; }
void *ggml_backend_dev_get(size_t number) { return (void *)(number + 1); }
const char *ggml_backend_dev_description(void *device) { return "device"; }
void ggml_backend_dev_memory(void *device, size_t *free, size_t *total) { *free = *total = 1; }
"""
LINKED = "void ggml_backend_cpu_reg(void) {}\n"


def library(path: Path, source: str, *flags: str) -> None:
    command = ["cc", "-w", "-shared", "-fPIC", *flags, "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input="#include <unistd.h>\n" + source, text=True, check=True)


def backend(folder: Path, name: str, *, score: int | None = None, init: str = "return (void *)1;") -> None:
    scored = "" if score is None else f"int ggml_backend_score(void) {{ return {score}; }}\n"
    source = f"#include <stdlib.h>\n{scored}void *ggml_backend_init(void) {{ {init} }}"
    library(folder / f"libggml-{name}.so", source)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty build of llama.cpp whose backends are files, which this process uses."""
    build = tmp_path / "a build"
    build.mkdir()
    library(build / "libllama.so", GGML, "-ldl")
    shutil.copy(build / "libllama.so", build / "libllama.dylib")
    monkeypatch.setenv(FOLDER_VARIABLE, str(build))
    monkeypatch.setenv("LOADED", str(tmp_path / "loaded"))
    monkeypatch.setenv(WITHOUT_VARIABLE, "")
    monkeypatch.setenv("SEAMOUNT_GGML_TRIED", "{}")
    (tmp_path / "loaded").touch()
    return build


def loaded(folder: Path) -> list[tuple[int, str]]:
    """Which process loaded which file, in order."""
    lines = (folder.parent / "loaded").read_text().splitlines()
    return [(int(pid), Path(path).name) for pid, path in (line.split(" ", 1) for line in lines)]


def test_nothing_is_loaded_where_the_backends_are_linked(folder: Path) -> None:
    backend(folder, "cpu")
    library(folder / "libllama.so", GGML + LINKED, "-ldl")
    assert load() == Backends()
    assert loaded(folder) == []


def test_the_variant_that_scores_most_is_loaded_and_one_that_does_not_run_here_never(folder: Path) -> None:
    for name, score in (("none", 0), ("low", 3), ("high", 40), ("middle", 7)):
        backend(folder, f"cpu-{name}", score=score, init="abort();" if not score else "return (void *)1;")
    assert load() == Backends("high")
    assert loaded(folder) == [(os.getpid(), "libggml-cpu-high.so")]


def test_a_processor_without_any_code_is_an_error_that_says_so(folder: Path) -> None:
    with pytest.raises(ImportError, match="no code that runs on this processor: there is no file of it"):
        load()
    backend(folder, "cpu-none", score=0)
    with pytest.raises(ImportError, match="none of its files is for this processor"):
        load()


def test_a_driver_is_tried_in_a_process_of_its_own_first_and_only_once(folder: Path) -> None:
    backend(folder, "cpu")
    backend(folder, "vulkan")
    assert load() == Backends()
    (tried, first), (here, second), (_, third) = loaded(folder)
    assert (first, second, third) == ("libggml-vulkan.so", "libggml-vulkan.so", "libggml-cpu.so")
    assert tried != here == os.getpid()
    # A process that this one starts relies on it.
    load()
    assert [pid for pid, _ in loaded(folder)[3:]] == [os.getpid()] * 2


@pytest.mark.parametrize(
    ("init", "why"),
    [
        ("abort();", "its driver crashed (SIGABRT)"),
        ("*(volatile int *)0 = 1;", "its driver crashed (SIGSEGV)"),
        ("return 0;", "no driver that it can use is installed here"),
        ("exit(3);", "it ended with status 3"),
    ],
)
def test_a_driver_that_does_not_survive_is_left_out_and_the_processor_computes(
    folder: Path, init: str, why: str
) -> None:
    backend(folder, "cpu")
    backend(folder, "vulkan", init=init)
    assert load() == Backends("", (("vulkan", why),))
    assert [name for pid, name in loaded(folder) if pid == os.getpid()] == ["libggml-cpu.so"]
    assert json.loads(os.environ["SEAMOUNT_GGML_TRIED"]) == {str(folder / "libggml-vulkan.so"): why}


def test_a_driver_that_hangs_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ggml_backends, "TIMEOUT_S", 0.5)
    backend(folder, "cpu")
    backend(folder, "vulkan", init="for (;;) pause();")
    ((kind, why),) = load().left_out
    assert kind == "vulkan"
    assert "did not answer" in why


def test_a_backend_whose_own_libraries_are_missing_is_left_out_by_their_name(folder: Path) -> None:
    backend(folder, "cpu")
    # Of a name that no system has.
    loader = folder.parent / "libvulkan-of-a-test.so.1"
    library(loader, "void vkCreateInstance(void) {}", f"-Wl,-soname,{loader.name}")
    source = "void vkCreateInstance(void); void *ggml_backend_init(void) { vkCreateInstance(); return 0; }"
    library(folder / "libggml-vulkan.so", source, "-Wl,--no-as-needed", str(loader))
    loader.unlink()
    ((kind, why),) = load().left_out
    assert kind == "vulkan"
    assert loader.name in why


def test_a_person_may_have_one_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend(folder, "cpu")
    backend(folder, "vulkan", init="abort();")
    monkeypatch.setenv(WITHOUT_VARIABLE, "cuda,vulkan")
    assert load().left_out == (("vulkan", f"the variable {WITHOUT_VARIABLE} says so"),)


def test_a_record_of_what_was_tried_that_is_broken_is_as_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend(folder, "cpu")
    backend(folder, "vulkan")
    for broken in ("{", "[]", "7"):
        monkeypatch.setenv("SEAMOUNT_GGML_TRIED", broken)
        assert load() == Backends()
