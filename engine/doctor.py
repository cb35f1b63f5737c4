"""What was found on this machine, line by line, and what to do about what is missing.

Owns: the questions that `seamount doctor` asks, in which order, and what it says to each answer. Does not
mend anything. What may crash or hang when it is loaded (Qt, llama.cpp) is tried in a process of its own, so
the command works when neither can be imported.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from engine import own_program
from engine.cli import has_display
from engine.errors import SeamountError
from engine.finding import Finding
from engine.gpu_advice import advice, graphics, left_out
from engine.launch import running_engine
from engine.llama_builds import settle
from engine.model_table import size_text
from engine.parts import search_path
from engine.paths import DataFolder
from engine.placement import hardware
from engine.placement.nvidia import matching, nvidia_gpus, refreshed
from engine.settings import load_settings
from engine.version import version

LEAST_DISK_BYTES = 1_000_000_000
LEAST_MEMORY_BYTES = 2_000_000_000
# What Qt's xcb platform plugin needs on Debian and Ubuntu beside what every system has.
QT_PACKAGES = (
    "libegl1 libgl1 libdbus-1-3 libfontconfig1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 "
    "libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-xkb1"
)
_QT_PROGRAM = "from PySide6.QtWidgets import QApplication; QApplication([]); print('qt is here')"
_GET_PYTORCH = 'pip install "seamount[native]"'
_TORCH_PROGRAM = "import sys; sys.path.extend(sys.argv[1:]); import torch; print(torch.__version__)"
_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+\.so[\w.]*)")
_PROBE_TIMEOUT_S = 30.0
_KEY_TIMEOUT_S = 5.0
_TOKEN_PLACES = {
    "none": "none",
    "keyring": "in the keyring",
    "this_run": "for this run",
    "environment": "as Hugging Face's own tools keep it",
}


def examine(folder: DataFolder) -> int:
    """Print a line for each thing; 1 when anything is not well, else 0."""
    well = True
    for finding in findings(folder):
        print(finding.line, flush=True)
        well &= finding.well
    return 0 if well else 1


def findings(folder: DataFolder) -> Iterator[Finding]:
    """Every line, as soon as it is known. A question that fails itself is a line too."""
    questions: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _qt,
        _computer,
        partial(_llama_cpp, folder),
        partial(_native, folder),
        partial(_measured, folder),
        partial(_data_folder, folder),
        partial(_encryption, folder),
        partial(_models, folder),
        partial(_places, folder),
        partial(_hub, folder),
        _keyring,
        partial(_engine, folder),
    ]
    for question in questions:
        try:
            yield from question()
        except SeamountError as error:
            yield Finding(f"{error.what} ({error.why})", False, error.remedy)
        except Exception as error:  # noqa: BLE001 - a doctor who faints is of no help
            yield Finding(f"a question failed ({type(error).__name__}: {error})", False, "report this")


def _python() -> Iterator[Finding]:
    yield Finding(f"Seamount {version()}")
    old = sys.version_info < (3, 11)
    name = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    yield Finding(name, not old, "install Python 3.11 or newer" if old else "")
    yield Finding(f"system {platform.platform()}")


def _qt() -> Iterator[Finding]:
    trouble = try_qt("offscreen")
    if trouble is None:
        yield Finding("Qt can draw without a display")
    else:
        yield Finding(f"Qt cannot be loaded ({trouble})", False, qt_remedy(trouble))
    if not has_display():
        yield Finding("no display", remedy="`seamount` opens the conversation in the terminal")
        return
    named = os.environ.get("QT_QPA_PLATFORM", "")
    shown = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY") or named or "the system's own"
    trouble = try_qt(None) if trouble is None else trouble
    if trouble is None:
        yield Finding(f"Qt can open a window on the display {shown}")
    else:
        yield Finding(f"Qt cannot open a window on {shown} ({trouble})", False, qt_remedy(trouble))


def try_qt(qt_platform: str | None) -> str | None:
    """Start Qt in a process of its own on a platform plugin (None: the usual one); what went wrong, if so."""
    environment = dict(os.environ)
    if qt_platform is not None:
        environment["QT_QPA_PLATFORM"] = qt_platform
    try:
        done = subprocess.run(
            own_program.code_command(_QT_PROGRAM),
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_TIMEOUT_S:.0f} s"
    if "qt is here" in done.stdout:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if _MISSING_LIBRARY.search(line) or "xcb" in line or "Error" in line]
    return (telling or lines or [f"it ended with status {done.returncode}"])[-1]


def qt_remedy(trouble: str) -> str:
    """One line to paste for a Qt that does not start because of `trouble`."""
    if "No module named" in trouble:
        return "install it with `pip install PySide6-Essentials`"
    if sys.platform != "linux":
        return "install Seamount again"
    missing = _MISSING_LIBRARY.search(trouble)
    named = f"{missing.group(1)} is missing; " if missing else ""
    if shutil.which("apt-get"):
        return f"{named}run `sudo apt-get install {QT_PACKAGES}`"
    return f"{named}install your system's packages for {QT_PACKAGES}"


def _computer() -> Iterator[Finding]:
    cpu = hardware.processor()
    limited = f", {cpu.usable} of them usable here" if cpu.usable < cpu.logical else ""
    granted = f", {cpu.cores} cores granted" if cpu.cores < cpu.physical else ""
    yield Finding(f"processor {cpu.name}: {cpu.physical} cores, {cpu.logical} threads{limited}{granted}")
    ram = hardware.memory()
    whose = " (this container's limit)" if ram.limited else ""
    text = f"memory {size_text(ram.total_bytes)}{whose}, {size_text(ram.available_bytes)} of it free"
    short = ram.available_bytes < LEAST_MEMORY_BYTES
    yield Finding(text, not short, "close other programs, or choose a small model" if short else "")
    if ram.swap_bytes:
        yield Finding(f"swap {size_text(ram.swap_bytes)}, which no model is planned to use")
    around = hardware.surroundings()
    if around.container is not None:
        yield Finding(f"runs in a container ({around.container})")
    if around.on_battery:
        yield Finding("runs on battery", remedy="most machines compute faster once they are plugged in")


def _llama_cpp(folder: DataFolder) -> Iterator[Finding]:
    """Which libraries of llama.cpp are used, what they reach, and how to reach more."""
    builds, settled = settle(folder)
    if settled.refused is not None:
        yield Finding(f"{settled.refused.what} ({settled.refused.why})", False, settled.refused.remedy)
    built = hardware.llama_cpp()
    if isinstance(built, str):
        yield Finding(
            f"llama.cpp cannot be loaded ({built})", False, "install it with `pip install llama-cpp-python`"
        )
        return
    features = " ".join(built.features) or "none"
    variant = f", its variant for processors like {built.variant}" if built.variant else ""
    yield Finding(f"llama.cpp (llama-cpp-python {built.version}), CPU code for {features}{variant}")
    if settled.folder is not None:
        yield Finding(f"its libraries are those in {settled.folder}, named by the {settled.source}")
    for each in builds.folders():
        if settled.folder is None or not settled.folder.is_relative_to(each.resolve()):
            yield Finding(f"another build lies in {each}", remedy="it can be chosen in the settings")
    idle = [each for each in hardware.processor().instructions if each not in built.features]
    if idle:
        yield Finding(
            f"this processor also has {' '.join(idle)}",
            remedy="a llama.cpp that is built on this machine would use it",
        )
    yield from _gpus(folder, built)


def _native(folder: DataFolder) -> Iterator[Finding]:
    """Whether the native engine could run. PyTorch is tried in a process of its own, as what may crash is."""
    part = search_path.native_part(folder)
    added = search_path.settle(part)
    get = "seamount parts install native" if part.lock.fits_here else _GET_PYTORCH
    if importlib.util.find_spec("torch") is None:
        yield Finding(
            "the native engine cannot run, because PyTorch is not installed, which nothing else needs",
            remedy=f"`{get}` brings it",
        )
        return
    if added is not None and (installed := part.installed()) is not None:
        old = (
            ""
            if installed.current
            else "this version of Seamount has a newer set: `seamount parts install native`"
        )
        size = size_text(installed.unpacked_bytes)
        yield Finding(f"PyTorch is installed in {added}, {size} ({installed.variant})", remedy=old)
    try:
        done = subprocess.run(
            own_program.code_command(_TORCH_PROGRAM, *([] if added is None else [str(added)])),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        yield Finding(f"PyTorch cannot be loaded (no answer within {_PROBE_TIMEOUT_S:.0f} s)", False)
        return
    said = done.stdout.strip().splitlines()
    if done.returncode or not said:
        why = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        again = f"remove it with `seamount parts remove native`, and install it again with `{get}`"
        remedy = f"install it again with `{_GET_PYTORCH}`" if added is None else again
        yield Finding(
            f"the native engine cannot run, because PyTorch cannot be loaded ({why})", False, remedy
        )
        return
    yield Finding(f"the native engine can run (PyTorch {said[-1]})", remedy="`--backend native` asks for it")


def _gpus(folder: DataFolder, built: hardware.LlamaCpp) -> Iterator[Finding]:
    """The GPUs that are used, and the slot that each sits in; or why there is none, and what to do."""
    seen = nvidia_gpus()
    for gpu in refreshed(built.gpus):
        by = f" by {gpu.backend} as {gpu.device}" if gpu.device else ""
        text = f"GPU {gpu.name}{by}, {size_text(gpu.total_bytes)}, {size_text(gpu.free_bytes)} of it free"
        yield Finding(text)
        known = matching(gpu, seen)
        if known is not None and known.pcie_generation_most:
            yield Finding(
                f"its slot: PCIe {known.pcie_generation_most} with {known.pcie_lanes_most} lanes, "
                f"now {known.pcie_generation} with {known.pcie_lanes}; driver {known.driver}"
            )
    if seen.absent:
        remedy = "restart the machine, or plug it in"
        yield Finding("a GPU of NVIDIA's does not answer its driver any more", False, remedy)
    makers = () if built.gpus else graphics().makers
    for kind, why in built.left_out:
        yield left_out(kind, why, makers)
    if built.gpus:
        return
    able = [each for each in built.backends if each not in ("CPU", "BLAS")]
    if not makers and (able or built.left_out):
        yield Finding("no GPU is used, because none of a maker that llama.cpp knows is seen here")
    elif able:
        why = f"this llama.cpp, which has code for {' and '.join(able)}, sees none"
        yield Finding(f"no GPU is used, because {why}", remedy="install its driver, or let this user use it")
    elif not built.left_out:
        yield Finding("no GPU is used, because this llama.cpp is built for the processor alone")
        yield from advice(graphics(), built.version, folder.llama_builds)


def _measured(folder: DataFolder) -> Iterator[Finding]:
    """How fast this machine is, if that was measured and the machine is still the same."""
    from engine.bench_command import lines_of
    from engine.placement.hardware_record import read_record
    from engine.placement.measurement import present_fingerprint

    record = read_record(folder.root)
    if record is None:
        yield Finding("not measured how fast this machine is", remedy="`seamount bench --hardware` does it")
        return
    built = hardware.llama_cpp() if record.fingerprint.gpus else None
    gpus = built.gpus if isinstance(built, hardware.LlamaCpp) else ()
    if record.fingerprint.agrees(present_fingerprint(folder.models, gpus)):
        for line in lines_of(record):
            yield Finding(line)
    else:
        yield Finding(
            "the machine changed since it was measured", remedy="`seamount bench --hardware` does it again"
        )


def _data_folder(folder: DataFolder) -> Iterator[Finding]:
    try:
        folder.create()
    except SeamountError as error:
        yield Finding(error.text, False)
        return
    yield Finding(f"data folder {folder.root}, writable")
    yield from _versions(folder)
    free_bytes = shutil.disk_usage(folder.root).free
    short = free_bytes < LEAST_DISK_BYTES
    yield Finding(
        f"{size_text(free_bytes)} free on its disk", not short, "free some space there" if short else ""
    )
    yield _store(folder.sessions_db)


def _versions(folder: DataFolder) -> Iterator[Finding]:
    """Which Seamount used the folder last, and what was backed up before a newer one did."""
    from engine.data_version import backups, read_note, refuse_newer

    note = read_note(folder)
    if note is not None:
        kept = backups(folder)
        said = f"; backed up before newer versions: {', '.join(path.name for path in kept)}" if kept else ""
        yield Finding(f"Seamount {note.version} used it last{said}")
    try:
        refuse_newer(folder)
    except SeamountError as error:
        yield Finding(f"{error.what} ({error.why})", False, error.remedy)


def _store(path: Path) -> Finding:
    from engine.store.migrations import APPLICATION_ID, MIGRATIONS, SEALED_APPLICATION_ID

    newest = MIGRATIONS[-1].version
    try:
        # The file's own header (SQLite file format, 1.3): looking must neither lock nor change anything.
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return Finding("no conversations yet")
    except OSError as error:
        return Finding(
            f"the session store {path} cannot be read ({error.strerror})", False, "check permissions"
        )
    if len(header) < 100:
        return Finding("session store, just begun")
    version_written, magic = (int.from_bytes(header[at : at + 4], "big") for at in (60, 68))
    if magic not in (0, APPLICATION_ID, SEALED_APPLICATION_ID):
        return Finding(f"{path} is another program's", False, "move it elsewhere")
    if version_written > newest:
        remedy = f"update Seamount, which knows versions up to {newest}"
        return Finding(f"the session store has version {version_written}", False, remedy)
    return Finding(f"session store of version {version_written or newest} (newest: {newest})")


def _encryption(folder: DataFolder) -> Iterator[Finding]:
    """Whether conversations are encrypted, and whether their key is there."""
    from engine.encryption_command import state_lines
    from engine.store.encryption import Encryption
    from engine.store.keys import Keys

    encryption = Encryption(folder, Keys(folder.root, timeout_s=_KEY_TIMEOUT_S))
    encryption.opened()  # raises what is then the line
    first, *more = state_lines(encryption.state())
    yield Finding(first.rstrip("."))
    for line in more:
        yield Finding(line, False)


def _models(folder: DataFolder) -> Iterator[Finding]:
    from engine.library.models import STARTER_ID, ModelLibrary
    from engine.library.starter import starter_remedy

    entries = ModelLibrary(folder).entries()
    starter = next((entry for entry in entries if entry.id == STARTER_ID), None)
    if starter is not None and starter.problem is None:
        yield Finding(f"starter model {starter.name}, {size_text(starter.size_bytes)}")
    elif starter is not None and starter.problem is not None:
        yield Finding("starter model", False, starter.problem.text)
    usable = [entry for entry in entries if entry.problem is None]
    if not usable:
        yield Finding("no model to talk to", False, f"put a GGUF file into {folder.models}")
    elif starter is None:
        yield Finding("no starter model", remedy=starter_remedy())
    others = len([entry for entry in usable if entry is not starter])
    if others:
        yield Finding(f"{others} more model{'s' if others > 1 else ''}, see `seamount models`")


def _places(folder: DataFolder) -> Iterator[Finding]:
    """Where models and checkpoints go, and the room there."""
    from engine.library.catalogue import checkpoints_folder

    settings, _ = load_settings(folder.settings)
    for what, place in (("models", folder.models), ("checkpoints", checkpoints_folder(settings, folder))):
        free_bytes = next(
            (shutil.disk_usage(each).free for each in (place, *place.parents) if each.exists()), 0
        )
        yield Finding(f"{what} go to {place}, {size_text(free_bytes)} free there")


def _hub(folder: DataFolder) -> Iterator[Finding]:
    """Which hub is asked, and whether there is an access token for it; nothing is asked of it now."""
    from engine.library.credentials import Credentials
    from engine.library.hub_place import endpoint_of, is_offline

    settings, _ = load_settings(folder.settings)
    endpoint = endpoint_of(settings)
    offline = ", which is not asked (offline mode)" if is_offline(settings) else ""
    yield Finding(f"hub {endpoint}{offline}")
    facts = Credentials().facts(endpoint)
    yield Finding(f"access token for it: {_TOKEN_PLACES[facts.state]}")


def _keyring() -> Iterator[Finding]:
    from engine.library.credentials import KeyringUnusableError, keyring_name

    if importlib.util.find_spec("keyring") is None:
        yield Finding("no keyring", False, "install it with `pip install keyring`")
        return
    try:
        yield Finding(f"keyring {keyring_name()}")
    except KeyringUnusableError as error:
        yield Finding(f"no keyring ({error})", remedy="an access token is kept only until the engine ends")


def _engine(folder: DataFolder) -> Iterator[Finding]:
    address = running_engine(folder)
    if address is None:
        yield Finding("no engine runs on this data folder")
    else:
        yield Finding(f"an engine runs at {address.url} (process {address.pid})")
