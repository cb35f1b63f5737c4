"""The choice of a build of llama.cpp."""

import pytest
from pytestqt.qtbot import QtBot

from app.views.machine_fields import OWN, MachineFields
from app.views.settings_dialog import SettingsDialog
from engine.protocol import BackendChoice, ErrorBody, LoadedModel, Settings
from engine.protocol_library import LlamaBuildEntry, LlamaBuildList

OWN_BUILD = LlamaBuildEntry(folder=None, name="llama-cpp-python's own", devices=[])
CUDA = LlamaBuildEntry(folder="/data/llama.cpp/cuda", name="cuda", devices=["H100 (CUDA, 85 GB)"])
BROKEN = LlamaBuildEntry(
    folder="/data/llama.cpp/old",
    name="old",
    devices=[],
    problem=ErrorBody(
        code="llama_build", text="The llama.cpp in old is not used: it is ggml 0.1; build it anew."
    ),
)


def made(qtbot: QtBot, settings: Settings) -> SettingsDialog:
    dialog = SettingsDialog(settings, None)
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


@pytest.mark.parametrize("backend", ["auto", "llamacpp", "native"])
def test_what_computes_is_chosen_here(qtbot: QtBot, backend: BackendChoice) -> None:
    dialog = made(qtbot, Settings(backend=backend))
    assert dialog.settings().backend == backend
    dialog.machine.backend.setCurrentIndex(2)
    assert dialog.settings().backend == "native"


@pytest.mark.parametrize(
    ("chosen", "computing", "words"),
    [
        (
            "llamacpp",
            "native",
            "In use now: Seamount's own engine, named by a command, until another one is chosen here.",
        ),
        (
            "auto",
            "native",
            "In use now: Seamount's own engine, named by a command, until another one is chosen here.",
        ),
        (
            "native",
            "llama.cpp",
            "In use now: llama.cpp, named by a command, until another one is chosen here.",
        ),
        ("native", "native", "Seamount's own engine needs PyTorch, and is exact rather than fast."),
        ("auto", "llama.cpp", "Seamount's own engine needs PyTorch, and is exact rather than fast."),
    ],
)
def test_what_a_command_named_is_told(
    chosen: BackendChoice, computing: str, words: str, qtbot: QtBot
) -> None:
    model = LoadedModel(id="m", name="Model", context_tokens=8, threads=1, backend=computing)
    fields = MachineFields(Settings(backend=chosen), model)
    for _, field, _ in fields.rows:
        qtbot.addWidget(field)
    assert fields.rows[0][2] == words


@pytest.mark.parametrize("folder", [None, "/data/llama.cpp/cuda", "/gone"])
def test_untouched_it_stays_what_it_is(qtbot: QtBot, folder: str | None) -> None:
    dialog = made(qtbot, Settings(llama_cpp_folder=folder))
    assert dialog.settings().llama_cpp_folder == folder
    dialog.machine.show(LlamaBuildList(builds=[OWN_BUILD, CUDA, BROKEN], chosen=folder))
    assert dialog.settings().llama_cpp_folder == folder


def test_what_is_chosen_is_stored(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    dialog.machine.show(LlamaBuildList(builds=[OWN_BUILD, CUDA]))
    build = dialog.machine.build
    assert [build.itemText(at) for at in range(build.count())] == [
        f"{OWN}: the processor alone",
        "cuda: H100 (CUDA, 85 GB)",
    ]
    build.setCurrentIndex(1)
    assert dialog.settings().llama_cpp_folder == "/data/llama.cpp/cuda"
    # Another answer does not undo the choice.
    dialog.machine.show(LlamaBuildList(builds=[OWN_BUILD, CUDA]))
    assert dialog.settings().llama_cpp_folder == "/data/llama.cpp/cuda"
    build.setCurrentIndex(0)
    assert dialog.settings().llama_cpp_folder is None


def test_one_that_cannot_be_used_says_why_and_cannot_be_chosen(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    dialog.machine.show(LlamaBuildList(builds=[OWN_BUILD, BROKEN]))
    build = dialog.machine.build
    assert "cannot be used" in build.itemText(1)
    assert not build.model().index(1, 0).flags() & build.model().index(0, 0).flags().ItemIsEnabled
    assert dialog.machine.state.text() == BROKEN.problem.text  # type: ignore[union-attr]


def test_what_is_in_use_now_is_told(qtbot: QtBot) -> None:
    dialog = made(qtbot, Settings())
    state = dialog.machine.state
    assert "Looking" in state.text()
    dialog.machine.show(LlamaBuildList(builds=[OWN_BUILD], in_use="/l", source="environment"))
    assert state.text().startswith("In use now: /l, named by the variable LLAMA_CPP_LIB_PATH")
    refused = ErrorBody(code="llama_build", text="It is not used: it crashed.")
    dialog.machine.show(LlamaBuildList(builds=[OWN_BUILD], refused=refused))
    assert state.text() == refused.text
    dialog.machine.show_failure(ErrorBody(code="engine", text="The engine does not answer."))
    assert state.text() == "The engine does not answer."


def test_a_driver_that_crashed_is_told(qtbot: QtBot) -> None:
    why = "Vulkan is not used, because its driver crashed (SIGSEGV) when it was tried"
    fields = made(qtbot, Settings()).machine
    own = OWN_BUILD.model_copy(update={"failed": [why]})
    fields.show(LlamaBuildList(builds=[own]))
    assert fields.state.text() == f"{why}."
