"""In the place of ssh: notes how it was called, says a port, forwards to it. Run as a program, never imported.

What it says and does is in the folder that STAND_IN_SSH names: `port` (what it prints for the command; none: it fails
as ssh does), `calls` (what it was called with, a JSON list a line).
"""

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def end_with_input() -> None:
    """As the command on the other machine does, and ssh with it."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main() -> int:
    folder = Path(os.environ["STAND_IN_SSH"])
    arguments = sys.argv[1:]
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if not (folder / "port").exists():
        print("Host key verification failed.", file=sys.stderr)
        return 255
    if "-L" not in arguments:
        print("Welcome to the other machine\n" + (folder / "port").read_text())
        return 0
    here, _, there = arguments[arguments.index("-L") + 1].partition(":127.0.0.1:")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(here)
    listener.listen()
    threading.Thread(target=end_with_input, daemon=True).start()
    while True:
        near, _ = listener.accept()
        far = socket.create_connection(("127.0.0.1", int(there)))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
