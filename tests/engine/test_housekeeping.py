"""What is done with all that is kept, and its result as lines."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.errors import BadRequest, Conflict, TaskStopped
from engine.housekeeping import Housekeeping
from engine.paths import DataFolder
from engine.protocol_storage import StartStorageTask
from engine.store.backup import Progress
from engine.store.backup_reader import BackupReader
from engine.store.database import Database
from engine.store.sessions import SessionStore
from tests.engine.store.data_folders import filled

VERIFY, COMPACT = StartStorageTask(kind="verify"), StartStorageTask(kind="compact")


@dataclass
class Usage:
    bytes: int = 1000
    count: int = 1
    damaged: int = 2


@dataclass
class Kept:
    """In the place of states and journals: what was asked of it, and what it finds wrong."""

    asked: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])

    def usage(self) -> Usage:
        return Usage()

    def verify(self) -> list[str]:
        self.asked.append("verify")
        return self.wrong

    def compact(self, session_id: str = "") -> int:
        self.asked.append(f"compact {session_id}".strip())
        return 500

    def forget_all(self) -> None:
        self.asked.append("forget")


class Journals(Kept):
    def compact(self, session_id: str = "") -> None:  # type: ignore[override]
        super().compact(session_id)


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder(filled(tmp_path / "data"))


def keeping(folder: DataFolder, **more: object) -> Housekeeping:
    return Housekeeping(
        folder,
        lambda: Database.open(folder.sessions_db),
        budget_bytes=lambda: 7,
        **more,  # type: ignore[arg-type]
    )


def test_what_everything_takes(folder: DataFolder) -> None:
    usage = keeping(folder, states=Kept).usage()
    assert usage.sessions_bytes >= folder.sessions_db.stat().st_size > 0
    assert usage.journals_bytes == (folder.root / "sessions/abc/journal").stat().st_size
    assert (usage.states_bytes, usage.states_count, usage.states_damaged) == (1000, 1, 2)
    assert usage.states_budget_bytes == 7 and usage.free_bytes > 0 and usage.notice is None


def test_all_is_looked_at(folder: DataFolder) -> None:
    states, journals = Kept(), Journals()
    told: list[tuple[int, int, str]] = []
    progress = Progress(lambda *now: told.append(now))
    result = keeping(folder, states=lambda: states, journals=journals).carry_out(VERIFY, progress)
    assert (result.lines, result.problems) == (
        ("1 conversation with 5 messages: all is as it should be.",),
        (),
    )
    assert states.asked == journals.asked == ["verify"]
    assert told[4][:2] == (folder.sessions_db.stat().st_size,) * 2 and told[4][2] == "message 5 of 5"
    assert [note for _, _, note in told[5:]] == ["journals", "what models have read"]


def test_what_is_wrong_anywhere_is_told(folder: DataFolder) -> None:
    database = Database.open(folder.sessions_db)
    with database.transaction() as connection:
        connection.execute("UPDATE session SET leaf_id = 'nobody'")
    database.close()
    journals, states = Journals(wrong=["A journal is torn."]), Kept(wrong=["A state is damaged."])
    result = keeping(folder, journals=journals, states=lambda: states).carry_out(VERIFY, Progress())
    assert result.lines == ("1 conversation with 5 messages: 3 things are not as they should be.",)
    assert "shows a branch that is not there" in result.problems[0]
    assert result.problems[1:] == ("A journal is torn.", "A state is damaged.")


def test_a_store_that_cannot_be_opened_is_a_problem(folder: DataFolder) -> None:
    folder.sessions_db.write_bytes(b"nothing that SQLite knows" * 100)
    result = keeping(folder).carry_out(VERIFY, Progress())
    assert len(result.problems) == 1 and "damaged" in result.problems[0]


def test_an_empty_folder_is_well(tmp_path: Path) -> None:
    result = keeping(DataFolder(tmp_path)).carry_out(VERIFY, Progress())
    assert result.lines == ("0 conversations with 0 messages: all is as it should be.",)
    assert keeping(DataFolder(tmp_path)).carry_out(COMPACT, Progress()).lines[0].startswith("0 bytes won")
    assert not (tmp_path / "sessions.db").exists()


def test_it_ends_when_it_is_to_stop(folder: DataFolder) -> None:
    with pytest.raises(TaskStopped):
        keeping(folder).carry_out(VERIFY, Progress(stopping=lambda: True))


def test_all_is_made_smaller(folder: DataFolder) -> None:
    states, journals = Kept(), Journals()
    database = Database.open(folder.sessions_db)
    with database.reading() as connection:
        connection.execute("CREATE TABLE filler AS SELECT randomblob(500000) AS x")
        connection.execute("DROP TABLE filler")
        session_id = connection.execute("SELECT id FROM session").fetchone()[0]
    result = keeping(folder, database=database, states=lambda: states, journals=journals).carry_out(
        COMPACT, Progress()
    )
    assert states.asked == ["compact"] and journals.asked == [f"compact {session_id}"]
    [line] = result.lines
    assert re.match(r"1\.\d MB won: conversations 1\.\d MB → \d+ kB, journals 32 bytes → 32 bytes, ", line), (
        line
    )
    assert folder.sessions_db.stat().st_size < 200_000
    with database.reading():
        pass  # the one that was open is still
    database.close()


def test_not_while_an_answer_is_written(folder: DataFolder) -> None:
    with pytest.raises(Conflict, match="an answer is being written"):
        keeping(folder, is_writing=lambda: True).carry_out(COMPACT, Progress())


def test_a_backup(folder: DataFolder, tmp_path: Path) -> None:
    asked = StartStorageTask(kind="backup", path=str(tmp_path / "b"), with_states=True)
    result = keeping(folder).carry_out(asked, Progress())
    assert result.lines[0].startswith("6 files of the data folder, ")
    with BackupReader(tmp_path / "b") as reader:
        reader.check(Progress())
    with pytest.raises(BadRequest, match="no file is named"):
        keeping(folder).carry_out(StartStorageTask(kind="backup"), Progress())


def test_states_are_forgotten(folder: DataFolder) -> None:
    states = Kept()
    keeping(folder, states=lambda: states).forget_states()
    keeping(folder).forget_states()
    assert states.asked == ["forget"]


def test_the_reasoning_that_is_kept_for_other_programs_is_forgotten_with_them(folder: DataFolder) -> None:
    store = SessionStore.open(folder.sessions_db)
    store.remember_calls(["call_1"], "Hm.", [1])
    keeping(folder).forget_states()
    assert store.recall(["call_1"]) == {}
    store.close()
