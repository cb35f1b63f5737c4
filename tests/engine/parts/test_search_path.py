"""An installed part, importable: behind what the program brings, marked while it is in use, gone when it is removed."""

import json
import subprocess
import sys
from pathlib import Path

from engine.parts.part_folder import PartFolder
from engine.parts.search_path import native_part
from engine.paths import DataFolder
from tests.support.wheel_index import PROBE

PROGRAM = """
import importlib, json, sys
from pathlib import Path
from engine.parts import search_path
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import PartLock
part = PartFolder(Path(sys.argv[1]), PartLock.model_validate_json(sys.argv[2]))
"""


def run(part: PartFolder, code: str, *more: str, path: Path | None = None) -> object:
    """`code` in a process of its own, which prints JSON; `path` in front of its packages."""
    program = ("" if path is None else f"import sys; sys.path.insert(1, {str(path)!r})\n") + PROGRAM + code
    command = [sys.executable, "-c", program, str(part.root), part.lock.model_dump_json(), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def put(part: PartFolder) -> Path:
    folder = part.place(part.lock.variant[0])
    folder.mkdir(parents=True)
    (folder / "part.json").write_bytes(part.note(part.lock.variant[0]))
    (folder / f"{PROBE}.py").write_text("WHERE = 'the part'\n")
    (folder / "json.py").write_text("raise ImportError('what the program has is not shadowed')\n")
    return folder


def test_it_is_found_behind_everything_else_and_marked_when_it_is_needed(part: PartFolder) -> None:
    folder = put(part)
    code = f"""
search_path.settle(part)
before = part.users(search_path.added())
search_path.ready()
search_path.ready()
marked = part.users(search_path.added())
import os, {PROBE}
print(json.dumps([{PROBE}.WHERE, sys.path[-1], before, marked == [os.getpid()], str(search_path.loaded_from())]))
"""
    assert run(part, code) == ["the part", str(folder), [], True, str(folder)]
    assert part.users(folder) == []


def test_what_the_python_itself_has_counts_first(part: PartFolder, tmp_path: Path) -> None:
    put(part)
    own = tmp_path / "own"
    own.mkdir()
    (own / f"{PROBE}.py").write_text("WHERE = 'its own'\n")
    code = f"""
found = search_path.settle(part)
search_path.ready()
import {PROBE}
print(json.dumps([found, {PROBE}.WHERE, str(part.root) in str(sys.path), search_path.loaded_from()]))
"""
    assert run(part, code, path=own) == [None, "its own", False, None]


def test_installed_and_removed_by_another_process_meanwhile(part: PartFolder) -> None:
    folder = put(part)
    code = f"""
import importlib.util
aside = part.root / "aside"
folder = Path(sys.argv[3])
folder.rename(aside)
seen = [search_path.settle(part)]
aside.rename(folder)
search_path.settle(part)
seen.append(importlib.util.find_spec("{PROBE}") is not None)
folder.rename(aside)
search_path.ready()
seen += [importlib.util.find_spec("{PROBE}"), search_path.added(), str(folder) in sys.path]
print(json.dumps(seen))
"""
    assert run(part, code, str(folder)) == [None, True, None, None, False]


def test_what_was_imported_stays_found_until_the_process_ends(part: PartFolder) -> None:
    folder = put(part)
    code = f"""
search_path.settle(part)
search_path.ready()
import {PROBE}
print(json.dumps([str(search_path.settle(part)), str(search_path.loaded_from())]))
"""
    assert run(part, code) == [str(folder)] * 2


def test_without_a_part_nothing_is_done(tmp_path: Path, part: PartFolder) -> None:
    assert native_part(DataFolder(tmp_path)).root == tmp_path / "parts"
    code = "search_path.ready()\nprint(json.dumps([search_path.added(), search_path.loaded_from()]))\n"
    assert run(part, code) == [None, None]
