"""The door shows what lies behind it, and nothing behind it needs more than numpy."""

import ast
import sys
from pathlib import Path

from kernels import formats

KERNELS = Path(formats.__file__).parent


def test_the_door_shows_what_it_names() -> None:
    assert sorted(formats.__all__) == sorted(name for name in vars(formats) if not name.startswith("_"))


def test_the_formats_import_numpy_and_the_standard_library_alone() -> None:
    behind = ("float_codes", "formats", "fp4_blocks", "fp8_blocks", "operands", "q8_0")
    for module in (KERNELS / f"{name}.py" for name in behind):
        for node in ast.walk(ast.parse(module.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in {"numpy", "kernels", *sys.stdlib_module_names}, module
