"""Data folders for tests of backups."""

from pathlib import Path

from engine.store.sessions import SessionStore
from tests.engine.store.conversations import fill


def filled(root: Path, question: str = "Why is the sea salty?") -> Path:
    """A data folder with a conversation, its journal, settings, choices, a list of models and a state; its path."""
    for folder in ("models", "sessions/abc", "snapshots/damaged", "logs"):
        (root / folder).mkdir(parents=True)
    store = SessionStore.open(root / "sessions.db")
    fill(store, question)
    store.close()
    (root / "settings.toml").write_text(f'format = 1\nmodel_id = "{question}"\n')
    (root / "placement.json").write_text('{"format": 1, "models": {}}')
    (root / "models/added.json").write_text('{"format": 2, "paths": [], "checkpoints": []}')
    (root / "sessions/abc/journal").write_bytes(b"journal of " + question.encode())
    (root / "snapshots/0a-1b.kv").write_bytes(b"\xa5" * 1000)
    (root / "snapshots/damaged/0a-2c.kv").write_bytes(b"damaged")
    return root


def contents(root: Path) -> dict[str, bytes]:
    """What the files hold that a backup takes along, the folders that a restore keeps aside not among them."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
        and not path.relative_to(root)
        .parts[0]
        .startswith(("before-restore-", "logs", "engine.", "sessions.db.reserve"))
    }
