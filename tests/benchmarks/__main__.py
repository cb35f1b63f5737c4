"""`make bench`: every figure of docs/benchmarks.md, measured on this machine. Exit status 1 if one fails."""

import importlib.util
import os
import platform
import subprocess
import sys

import psutil

BENCHMARKS = (
    "window",
    "streaming",
    "dialects",
    "clients",
    "encoding",
    "structured",
    "formats",
    "conversion",
    "fetching",
    "reuse",
    "journalling",
    "encryption",
    "sessions",
    "snapshots",
    "relays",
    "portable_build",
    "native_speed",
    "native_gpu",
    "installed",
)


def main() -> int:
    """Run each benchmark in a process of its own."""
    print(f"{platform.platform()}, Python {platform.python_version()}, {psutil.cpu_count()} processors, "
          f"load {psutil.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    left_out = () if importlib.util.find_spec("torch") else ("native_speed", "native_gpu")
    for name in left_out:
        print(f"{name}: not measured, because PyTorch is not installed", flush=True)
    failed = [
        name for name in BENCHMARKS if name not in left_out
        if subprocess.call([sys.executable, "-m", f"tests.benchmarks.{name}"], env={**os.environ})
    ]  # fmt: skip
    print(f"does not hold: {', '.join(failed)}" if failed else "every figure holds", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
