"""The icon in every size, drawn and not empty."""

import os
import struct
import subprocess
import sys
from pathlib import Path

from tests.support.packaging_script import PACKAGING, script


def test_each_size_is_what_it_says(tmp_path: Path) -> None:
    command = [sys.executable, str(PACKAGING / "linux" / "icons.py"), str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
    weights = []
    for size in script("linux/icons").SIZES:
        data = (tmp_path / "hicolor" / f"{size}x{size}" / "apps" / "seamount.png").read_bytes()
        assert struct.unpack(">II", data[16:24]) == (size, size)
        weights.append(len(data))
    # An empty picture of any size is some hundred bytes.
    assert weights == sorted(weights)
    assert weights[-1] > 5_000
    assert (tmp_path / "hicolor" / "scalable" / "apps" / "seamount.svg").read_text("utf-8").startswith("<svg")
