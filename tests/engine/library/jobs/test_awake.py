"""Keeping the machine awake: on a private session bus with a session manager that notes what it is asked, and
without any bus."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.library.jobs.awake import Awake

ROOT = Path(__file__).parents[4]
# The service answers in a process of its own, as on a desktop; each line it prints is a call that it has got.
SERVICE = """
import sys
from jeepney import HeaderFields, new_method_return
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(bus="SESSION")
connection.send_and_get_reply(message_bus.RequestName("org.gnome.SessionManager"))
print("ready", flush=True)
while True:
    call = connection.receive()
    member = call.header.fields.get(HeaderFields.member)
    if member in ("Inhibit", "Uninhibit"):
        print(member, *call.body, flush=True)
        answer = new_method_return(call, "u", (77,)) if member == "Inhibit" else new_method_return(call)
        connection.send(answer)
"""
PROGRAM = """
import subprocess, sys
from engine.library.jobs import awake
awake.CHECK_S = 0.02
service = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
said = lambda: service.stdout.readline().strip()
assert said() == "ready"
wanted = True
with awake.Awake(lambda: wanted):
    print(said())
    wanted = False
    print(said())
    wanted = True
    print(said())
print(said())
service.kill()
service.wait()
"""


@pytest.mark.skipif(shutil.which("dbus-run-session") is None, reason="there is no dbus-run-session here")
def test_the_session_manager_is_asked_and_told_when_it_is_over(tmp_path: Path) -> None:
    command = ["dbus-run-session", "--", sys.executable, "-c", PROGRAM, SERVICE]
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    asked, let_go, again, over = done.stdout.splitlines()
    # 4: the machine is not to be suspended; its screen may go dark.
    assert asked == again == "Inhibit wakepy 42 wakelock active 4"
    assert let_go == over == "Uninhibit 77"


def test_without_a_bus_the_work_goes_on_and_the_log_says_so(tmp_path: Path) -> None:
    program = (
        "import logging, time; logging.basicConfig(level=logging.INFO)\n"
        "from engine.library.jobs.awake import Awake\n"
        "with Awake(lambda: True) as awake:\n"
        "    while awake.tries == 0: time.sleep(0.01)\n"
        "    print('work')\n"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DBUS_", "XDG_", "WAKEPY_", "DISPLAY"))
    }
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "work\n"), done.stderr
    if sys.platform == "linux":
        assert "the machine may fall asleep: this system has no way to be kept awake" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_goes_wrong_with_it_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    asked = threading.Event()

    def wanted() -> bool:
        asked.set()
        raise RuntimeError("no settings")

    with Awake(wanted):
        assert asked.wait(10)
    assert "the machine may fall asleep: no settings" in caplog.text
