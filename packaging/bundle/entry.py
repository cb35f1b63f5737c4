"""The bundle's way in: the command `seamount`, and the interpreter that the program's own small programs ask for.

Owns: what must be put right before anything of Seamount is imported in a bundle. A bundle has no Python beside it, so
`engine.own_program` calls its own program as it would call that: `seamount -c CODE ARGUMENTS`. Knows nothing of what
is run.
"""

import multiprocessing
import os
import sys

SEARCH_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBPATH")
"""The bootloader lets these point into the bundle and keeps what was there under the same name with `_ORIG`."""
QT_PATHS = ("QT_PLUGIN_PATH", "QML2_IMPORT_PATH")
"""PyInstaller sets these. Qt finds its plugins beside its libraries without them; other programs must not."""
START_ANEW = "PYINSTALLER_RESET_ENVIRONMENT"
"""Tells the bootloader of a child, which is this very program, to point the search path into the bundle again. A child
trusts what its parent's bootloader set otherwise, which is taken back here: it would find the system's libraries."""


def give_back_environment(environment: "os._Environ[str] | dict[str, str]") -> None:
    """Undo what was set for this process alone, so that programs which it starts (a browser, a file manager) load
    the system's libraries and not the bundle's. This process's own search path was read when it started."""
    for name in SEARCH_PATHS:
        before = environment.pop(f"{name}_ORIG", None)
        if before:
            environment[name] = before
        else:
            environment.pop(name, None)
    for name in QT_PATHS:
        environment.pop(name, None)
    environment[START_ANEW] = "1"


def give_streams() -> None:
    """Give a process something to write to where it has nothing: on Windows a program without a terminal has None for
    its output, which not everybody who asks whether that is a terminal expects."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for the whole process


def main() -> int:
    """Run what `sys.argv` asks for; returns the exit status."""
    give_streams()
    multiprocessing.freeze_support()
    give_back_environment(os.environ)
    if sys.argv[1:2] == ["-c"] and len(sys.argv) > 2:
        code = sys.argv[2]
        sys.argv[:] = ["-c", *sys.argv[3:]]
        # In the namespace of a main module, as Python does it.
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
        return 0
    from seamount import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
