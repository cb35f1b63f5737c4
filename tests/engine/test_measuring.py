"""Measuring from a running engine: steps, ends, refusals. What measures here is a few lines of Python."""

import sys
import threading
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.measuring import Measuring
from engine.paths import DataFolder

TIMEOUT_S = 20.0
STEPS = "print('measuring memory …', file=sys.stderr, flush=True)"


class Measured:
    """A Measuring whose changes can be waited for."""

    def __init__(self, root: Path, program: str) -> None:
        self.busy = False
        self.steps: list[str | None] = []
        self._changed = threading.Condition()
        command = [sys.executable, "-c", f"import sys\n{program}"]
        self.measuring = Measuring(DataFolder(root), self._note, lambda: self.busy, command)

    def _note(self) -> None:
        with self._changed:
            self.steps.append(self.measuring.state().step)
            self._changed.notify_all()

    def wait(self, *, step: str | None = None) -> None:
        """Until that step is told, or the end."""

        def there() -> bool:
            state = self.measuring.state()
            return state.step == step if step else not state.measuring

        with self._changed:
            assert self._changed.wait_for(there, TIMEOUT_S)


def test_its_steps_are_told_and_then_its_end(tmp_path: Path) -> None:
    program = f"{STEPS}\nprint('measuring disk …', file=sys.stderr, flush=True)\nprint('memory 1 GB/s')"
    measured = Measured(tmp_path, program)
    measured.measuring.start()
    measured.wait()
    # Its beginning is told by another thread, which may come to it late.
    assert list(dict.fromkeys(step for step in measured.steps if step)) == ["memory", "disk"]
    state = measured.measuring.state()
    assert (state.measuring, state.error) == (False, None)


def test_it_is_refused_while_an_answer_is_written_and_while_it_runs(tmp_path: Path) -> None:
    measured = Measured(tmp_path, f"{STEPS}\nsys.stdin.read()\nimport time\ntime.sleep(60)")
    measured.busy = True
    with pytest.raises(Conflict, match="an answer is being written"):
        measured.measuring.start()
    measured.busy = False
    measured.measuring.start()
    with pytest.raises(Conflict, match="it is being measured already"):
        measured.measuring.start()
    measured.wait(step="memory")
    measured.measuring.stop()
    measured.wait()
    assert measured.measuring.state().error is None


def test_closing_waits_until_it_has_tidied_up(tmp_path: Path) -> None:
    left = tmp_path / "left.part"
    program = (
        f"import pathlib, time\nleft = pathlib.Path({str(left)!r})\nleft.write_bytes(b'1')\n"
        f"try:\n    {STEPS}\n    time.sleep(60)\nfinally:\n    left.unlink()"
    )
    measured = Measured(tmp_path, program)
    measured.measuring.start()
    measured.wait(step="memory")
    assert left.exists()
    measured.measuring.close()
    assert not left.exists()
    measured.wait()
    measured.measuring.close()


def test_why_it_failed_is_a_sentence_until_the_next_one(tmp_path: Path) -> None:
    sentence = "This machine cannot be measured: only 3 MiB are free; close other programs."
    measured = Measured(tmp_path, f"print('seamount: {sentence}', file=sys.stderr)\nsys.exit(1)")
    measured.measuring.start()
    measured.wait()
    error = measured.measuring.state().error
    assert error is not None
    assert (error.code, error.text) == ("hardware", sentence)
    crashed = Measured(tmp_path, "import os\nos._exit(7)")
    crashed.measuring.start()
    crashed.wait()
    error = crashed.measuring.state().error
    assert error is not None
    assert "it ended with status 7" in error.text
