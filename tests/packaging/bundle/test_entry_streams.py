"""The bundle's way in, started as Windows starts a program without a terminal: with nothing to write to."""

import subprocess
import sys
from pathlib import Path

BUNDLE = Path(__file__).resolve().parents[3] / "packaging" / "bundle"


def test_who_asks_whether_the_output_is_a_terminal_is_answered(tmp_path: Path) -> None:
    note = tmp_path / "note"
    code = f"import sys; print('unheard'); open({str(note)!r}, 'w').write(str((sys.stderr.isatty(), sys.stdin.read())))"
    start = (
        f"import sys; sys.path[:0] = [{str(BUNDLE)!r}]\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        f"import entry; sys.argv[:] = ['seamount', '-c', {code!r}]; sys.exit(entry.main())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", start], capture_output=True, text=True, input="unread")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert note.read_text() == "(False, '')"


def test_a_link_that_is_refused_is_not_lost_for_want_of_a_terminal(tmp_path: Path) -> None:
    """As after a click on a link: the window is to say what is wrong with it."""
    note = tmp_path / "note"
    start = (
        f"import sys; sys.path[:0] = [{str(BUNDLE)!r}, {str(BUNDLE.parents[1])!r}]\n"
        "sys.stdin = sys.stdout = sys.stderr = None\n"
        "import entry; entry.give_streams()\n"
        "from engine.cli import main\n"
        f"opened = lambda data, request: open({str(note)!r}, 'w').write(request) and 0\n"
        "import engine.cli; engine.cli.has_display = lambda: True\n"
        "sys.exit(main(['seamount://remove/everything'], open_window=opened))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", start], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert note.read_text() == "seamount://remove/everything"


def test_output_that_is_there_is_left_alone() -> None:
    start = (
        f"import sys; sys.path[:0] = [{str(BUNDLE)!r}]\n"
        "import entry; sys.argv[:] = ['seamount', '-c', 'print(input())']; sys.exit(entry.main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", start], capture_output=True, text=True, input="heard\n"
    )
    assert (done.returncode, done.stdout) == (0, "heard\n")
