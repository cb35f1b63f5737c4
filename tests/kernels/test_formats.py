"""The door shows what lies behind it, and nothing behind it needs more than numpy."""

import ast
import sys
from pathlib import Path

from kernels import formats

KERNELS = Path(formats.__file__).parent


def test_the_door_shows_what_it_names() -> None:
    assert sorted(formats.__all__) == sorted(name for name in vars(formats) if not name.startswith("_"))


def test_the_formats_import_numpy_and_the_standard_library_alone() -> None:
    """The converter, which has no torch, lives on them. Their own modules are followed."""
    seen, ahead = set[str](), ["formats"]
    while ahead:
        module = ahead.pop()
        seen.add(module)
        for node in ast.walk(ast.parse((KERNELS / f"{module}.py").read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in {"numpy", "kernels", *sys.stdlib_module_names}, module
                ours = name.removeprefix("kernels.") if name.startswith("kernels.") else ""
                if ours and ours not in seen:
                    ahead.append(ours)
    assert {"float_codes", "fp4_blocks", "fp8_blocks", "q8_0", "operands"} < seen
