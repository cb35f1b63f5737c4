"""The shape of the tree: what may stand where, beyond what import-linter can say."""

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "engine", "convert", "kernels")
LONGEST_MODULE_LINES = 500

# The only modules that may name these packages, wherever in the module the import stands.
ROOMS_OF = {
    "llama_cpp": ("engine/backends/llama_library.py",),
    "torch": ("kernels/", "engine/model/", "engine/backends/native"),
    "triton": ("kernels/",),
    "PySide6.QtWidgets": ("app/views/",),
    "sqlite3": ("engine/store/",),
    "cryptography": ("engine/store/sealing.py", "engine/access/certificates.py"),
    "keyring": ("engine/doctor.py", "engine/system_keyring.py"),
    "llguidance": ("engine/encoding/token_grammar.py",),
    "httpx": ("engine/backends/remote_", "engine/engine_client.py", "engine/update_feed.py"),
    "pynvml": ("engine/placement/nvidia.py",),
    "huggingface_hub": ("engine/library/fetching/hub.py",),
    "send2trash": ("engine/library/trash.py",),
    "wakepy": ("engine/library/jobs/awake.py",),
}
HEAVY = ("torch", "llama_cpp", "PySide6", "fastapi", "uvicorn", "numpy", "jinja2", "huggingface_hub")
# What a module may load when it is imported; all others may load none of HEAVY.
MAY_LOAD = {
    "app": ("PySide6",),
    "convert.conversion": ("numpy",),
    "convert.shard_reader": ("numpy",),
    "convert.tensor_comparison": ("numpy",),
    "convert.tensor_stream": ("numpy",),
    "convert.verification": ("numpy",),
    "engine.backends": ("numpy",),
    "engine.backends.llama_batch": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_device_rates": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_loading": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llamacpp": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_experts": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_library": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_keys": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_memory": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_placement": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_threads": ("numpy", "llama_cpp", "jinja2"),
    "engine.backends.llama_vocabulary": ("numpy", "llama_cpp", "jinja2"),
    "engine.contexts": ("numpy",),
    "engine.conversion_commands": ("numpy",),
    "engine.completion_answer": ("numpy", "jinja2"),
    "engine.completion_prompt": ("numpy", "jinja2"),
    "engine.encoding": ("numpy", "jinja2"),
    "engine.encoding_commands": ("numpy",),
    "engine.expert_meter": ("numpy",),
    "engine.generation": ("numpy",),
    "engine.library.jobs.conversion_work": ("numpy",),
    "engine.library.jobs.partial_file": ("numpy",),
    "engine.library.jobs.streamed_conversion": ("numpy",),
    "engine.backends.native": ("numpy", "torch", "jinja2"),
    "engine.backends.native_devices": ("numpy", "torch"),
    "engine.backends.native_keys": ("numpy", "torch"),
    "engine.backends.native_memory": ("numpy", "torch"),
    "engine.backends.native_vocabulary": ("numpy", "jinja2"),
    "engine.model": ("numpy", "torch"),
    "engine.model_host": ("numpy", "jinja2"),
    "engine.placement.residency": ("numpy",),
    "engine.placement.resident_set": ("numpy",),
    "engine.placement.routing_coverage": ("numpy",),
    "engine.placement.routing_trace": ("numpy",),
    "engine.sampling": ("numpy",),
    "engine.serve": ("numpy", "jinja2", "fastapi", "uvicorn"),
    "engine.server": ("numpy", "jinja2", "fastapi", "uvicorn"),
    "engine.store.snapshot_blocks": ("numpy",),
    "engine.store.snapshot_catalogue": ("numpy",),
    "engine.store.snapshot_file": ("numpy",),
    "engine.store.snapshot_folder": ("numpy",),
    "engine.store.snapshot_index": ("numpy",),
    "engine.store.snapshot_room": ("numpy",),
    "engine.store.snapshots": ("numpy",),
    "engine.token_bias": ("numpy",),
    "engine.token_chances": ("numpy",),
    "engine.turns": ("numpy", "jinja2"),
    "engine.v4_answer": ("numpy", "jinja2"),
    "kernels": ("numpy", "torch"),
    "kernels.float_codes": ("numpy",),
    "kernels.formats": ("numpy",),
    "kernels.fp4_blocks": ("numpy",),
    "kernels.fp8_blocks": ("numpy",),
    "kernels.operands": ("numpy",),
    "kernels.q8_0": ("numpy",),
}
RIGHTS = sorted({(), *(tuple(sorted(packages)) for packages in MAY_LOAD.values())})
"""Every set of packages that some module may load."""


@cache
def modules() -> list[Path]:
    """Every module of the four folders, as a path relative to the checkout."""
    return sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def importable() -> list[Path]:
    """Those that can be imported here: kernels in Triton's language need what only torch's CUDA builds bring, and
    what the native engine is made of needs torch."""
    lacking = {name for name in ("torch", "triton") if importlib.util.find_spec(name) is None}
    return [
        module
        for module in modules()
        if not ("triton" in lacking and module.name.startswith("triton_"))
        and not ("torch" in lacking and "torch" in rights_of(module))
    ]


def dotted(module: Path) -> str:
    """`engine/store/__init__.py` → `engine.store`."""
    return ".".join(module.with_suffix("").parts).removesuffix(".__init__")


@cache
def by_name() -> dict[str, Path]:
    """Every module by its dotted name."""
    return {dotted(module): module for module in modules()}


@cache
def imported_names(module: Path) -> set[str]:
    """Dotted names that a module imports anywhere, `from a import b` counted as `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_there_are_modules_to_look_at() -> None:
    assert len(modules()) > 20


@pytest.mark.parametrize("package", ROOMS_OF)
def test_a_package_is_imported_in_its_room_only(package: str) -> None:
    strangers = [
        str(module)
        for module in modules()
        if any(name == package or name.startswith(package + ".") for name in imported_names(module))
        and not module.as_posix().startswith(ROOMS_OF[package])
    ]
    assert strangers == []


def test_the_window_sees_of_the_engine_only_what_a_client_needs() -> None:
    allowed = {"engine"} | {
        f"engine.{m}"
        for m in (
            "conversation",
            "errors",
            "launch",
            "outside_request",
            "paths",
            "protocol",
            "protocol_about",
            "protocol_access",
            "protocol_base",
            "protocol_encryption",
            "protocol_jobs",
            "protocol_library",
            "protocol_parts",
            "protocol_placement",
            "protocol_remote",
            "protocol_settings",
            "protocol_storage",
        )
    }
    seen = {
        (str(module), name)
        for module in modules()
        if module.parts[0] == "app"
        for name in imported_names(module)
        if name.split(".")[0] == "engine" and ".".join(name.split(".")[:2]) not in allowed
    }
    assert seen == set()


def test_no_module_is_longer_than_the_wall() -> None:
    tall = {}
    for module in [*modules(), *(p.relative_to(ROOT) for p in (ROOT / "packaging").rglob("*.py"))]:
        lines = len((ROOT / module).read_text("utf-8").splitlines())
        if lines > LONGEST_MODULE_LINES:
            tall[str(module)] = lines
    assert tall == {}


def test_package_files_are_a_docstring_and_nothing_else() -> None:
    for module in modules():
        if module.name == "__init__.py":
            body = ast.parse((ROOT / module).read_text("utf-8")).body
            assert len(body) == 1, module
            assert ast.get_docstring(ast.parse((ROOT / module).read_text("utf-8"))), module


def test_every_module_opens_with_what_it_is() -> None:
    silent = [str(m) for m in modules() if not ast.get_docstring(ast.parse((ROOT / m).read_text("utf-8")))]
    assert silent == []


def test_no_module_is_named_after_nothing() -> None:
    vague = {"utils", "helpers", "common", "manager", "misc", "util"}
    assert [str(m) for m in modules() if m.stem in vague] == []


def room_of(module: Path) -> str:
    """The key of MAY_LOAD that counts for a module; "" for none."""
    name = dotted(module)
    return max((key for key in MAY_LOAD if name == key or name.startswith(key + ".")), key=len, default="")


def rights_of(module: Path) -> tuple[str, ...]:
    """Which of HEAVY it may load."""
    return tuple(sorted(MAY_LOAD.get(room_of(module), ())))


def test_each_module_is_among_those_that_may_load_the_same() -> None:
    assert {rights_of(module) for module in modules()} <= set(RIGHTS)


@pytest.mark.parametrize("rights", RIGHTS, ids=lambda rights: "+".join(rights) or "nothing")
def test_a_fresh_interpreter_imports_modules_without_loading_what_is_heavy(rights: tuple[str, ...]) -> None:
    """What all modules that may load the same do not load together, none of them loads."""
    if "torch" in rights:
        pytest.importorskip("torch", reason="torch is not installed: what needs it cannot be imported")
    forbidden = [package for package in HEAVY if package not in rights]
    names = [dotted(module) for module in importable() if rights_of(module) == rights]
    program = (
        f"import importlib, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {names!r}:\n"
        f"    importlib.import_module(name)\n"
        f"    if heavy := [p for p in {forbidden!r} if p in sys.modules]:\n"
        f"        sys.exit(f'{{name}} loads {{heavy}}')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.strip().rpartition("\n")[2]


def loaded_with(module: Path) -> set[Path]:
    """Those of ours that are loaded when a module is: imports that stand in no function and not for types alone."""
    named: set[str] = set()

    def look(statements: list[ast.stmt]) -> None:
        for each in statements:
            if isinstance(each, ast.Import):
                named.update(alias.name for alias in each.names)
            elif isinstance(each, ast.ImportFrom) and each.module:
                named.add(each.module)
                named.update(f"{each.module}.{alias.name}" for alias in each.names)
            elif isinstance(each, ast.If):
                look([] if "TYPE_CHECKING" in ast.dump(each.test) else each.body)
                look(each.orelse)
            elif isinstance(each, ast.Try):
                handled = [statement for handler in each.handlers for statement in handler.body]
                look([*each.body, *handled, *each.orelse, *each.finalbody])
            elif isinstance(each, ast.With | ast.ClassDef):
                look(each.body)

    look(ast.parse((ROOT / module).read_text("utf-8")).body)
    return {by_name()[name] for name in named & by_name().keys()} - {module}


def test_modules_are_loaded_in_no_circle() -> None:
    """So each can be imported first. A folder's `__init__` is a docstring, and loads nothing."""
    TopologicalSorter({module: loaded_with(module) for module in modules()}).prepare()


def test_the_tests_mirror_the_tree() -> None:
    """A test file for a module lies where the module lies; nothing is tested in a file of another name."""
    known = {dotted(m) for m in modules()}
    lost = []
    for room in ROOMS:
        for test in sorted((ROOT / "tests" / room).rglob("test_*.py")):
            target = test.relative_to(ROOT / "tests")
            name = ".".join([*target.parts[:-1], target.stem.removeprefix("test_")])
            if name not in known:
                lost.append(str(test.relative_to(ROOT)))
    assert lost == []
