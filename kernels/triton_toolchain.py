"""Whether kernels in Triton's language can be built on this machine.

Owns: asking Triton, once for a process. Triton compiles a small library of its own when it first meets a GPU, with the
machine's C compiler and Python's headers, and keeps it in its cache. A program that is shipped whole has no headers
beside it: those of a Python of the same version that the machine has are as good. Knows no kernel.
"""

import os
import sys
import sysconfig
from functools import cache
from importlib import import_module
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

SYSTEM_HEADERS = Path("/usr/include")
VARIABLE = "C_INCLUDE_PATH"
"""Where compilers look for headers beside what they are told."""


@cache
def trouble() -> str | None:
    """Why they cannot, as a clause; None where they can, and where there is no Triton. For a machine with a GPU."""
    name_headers()
    try:
        runtime: Any = import_module("triton.runtime")
        # What is built is what this asks for.
        runtime.driver.active.get_current_target()
    except ModuleNotFoundError:
        return None
    except CalledProcessError:  # whose text is the compiler's whole command
        return "the C compiler cannot build what Triton needs, as is so without Python's headers"
    except Exception as error:  # noqa: BLE001 - whatever it is, no kernel runs
        told = str(error).strip().splitlines() or [type(error).__name__]
        return f"Triton cannot build its kernels: {told[-1].rstrip('.')}"
    return None


def name_headers() -> None:
    """Have compilers find the headers of a Python of this version, where this one has none of its own."""
    own = Path(sysconfig.get_paths()["include"])
    found = SYSTEM_HEADERS / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if (own / "Python.h").is_file() or not (found / "Python.h").is_file():
        return
    before = os.environ.get(VARIABLE)
    if str(found) not in (before or "").split(os.pathsep):
        os.environ[VARIABLE] = os.pathsep.join([*([before] if before else []), str(found)])
