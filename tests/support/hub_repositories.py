"""Repositories as the hub tells of them: commits over plain folders, digests, who may read them.

Owns: which folder a commit of a repository stands for, its listing, gates, renames, and lies about sizes. Knows no
HTTP. Digests are computed once for each state of a file. All of it may be called from several threads.
"""

import hashlib
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.convert.seeded_checkpoint import write_checkpoint

LFS_SUFFIXES = (".safetensors", ".gguf", ".bin", ".pt")
LFS_FROM_BYTES = 10 << 20
"""A file as large as this is kept as LFS whatever its name."""
Gate = Literal["open", "gated", "private"]


@dataclass(frozen=True)
class Blob:
    """One file of a commit, as it lies on this disk."""

    path: Path
    size_bytes: int
    git_sha1: str
    sha256: str | None
    """Of LFS files only, as the hub has it."""

    @property
    def etag(self) -> str:
        """What the hub answers as the file's ETag: the SHA-256 of LFS files, the git digest of others."""
        return self.sha256 or self.git_sha1


@dataclass
class Repository:
    """A repository with its commits; `branches` move, commits do not."""

    name: str
    commits: dict[str, Path] = field(default_factory=dict[str, Path])
    branches: dict[str, str] = field(default_factory=dict[str, str])
    gate: Gate = "open"
    readers: set[str] = field(default_factory=set[str])
    """Tokens that a gate lets through."""
    told_sizes: dict[str, int] = field(default_factory=dict[str, int])
    """Path → the size that the listing tells instead of the true one."""
    told_names: dict[str, str] = field(default_factory=dict[str, str])
    """Path → the name that the listing tells instead of the true one."""


class Repositories:
    """All repositories of one hub."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._by_name: dict[str, Repository] = {}
        self._moved: dict[str, str] = {}
        self._digests: dict[tuple[str, int, int], tuple[str, str]] = {}
        self.tokens: set[str] = set()
        """Tokens that are valid at all; one that a gate lets through is valid too."""

    def commit(self, name: str, folder: Path, branch: str = "main") -> str:
        """Make the files of `folder` the newest commit of `name`, which is made if need be; returns its 40 digits."""
        with self._lock:
            repository = self._by_name.setdefault(name, Repository(name))
            seed = f"{name} {len(repository.commits)} {folder}"
            commit = hashlib.sha1(seed.encode()).hexdigest()
            repository.commits[commit] = folder
            repository.branches[branch] = commit
            return commit

    def find(self, name: str) -> Repository | None:
        """The repository, or None."""
        with self._lock:
            return self._by_name.get(name)

    def moved_to(self, name: str) -> str | None:
        """The new name of a repository that was renamed."""
        with self._lock:
            return self._moved.get(name)

    def remove(self, name: str) -> None:
        """The repository is gone."""
        with self._lock:
            del self._by_name[name]

    def rename(self, name: str, new: str) -> None:
        """The repository has another name; the old one is redirected."""
        with self._lock:
            repository = self._by_name.pop(name)
            repository.name = new
            self._by_name[new] = repository
            self._moved[name] = new

    def files(self, repository: Repository, revision: str) -> tuple[str, dict[str, Blob]] | None:
        """(commit, files by path) of a commit, a branch or the beginning of a commit; None: there is none."""
        with self._lock:
            commit = repository.branches.get(revision, revision)
            found = [each for each in repository.commits if len(commit) >= 7 and each.startswith(commit)]
            if len(found) != 1:
                return None
            folder = repository.commits[found[0]]
            blobs = {
                path.relative_to(folder).as_posix(): self._blob(path)
                for path in sorted(folder.rglob("*"))
                if path.is_file() and ".cache" not in path.relative_to(folder).parts
            }
            return found[0], blobs

    def allowed(self, repository: Repository, token: str | None) -> tuple[int, str, str] | None:
        """None: may read. Else (status, X-Error-Code, X-Error-Message) that the hub answers with."""
        with self._lock:
            valid = token is None or token in self.tokens or token in repository.readers
            if not valid:
                return 401, "", "Invalid credentials in Authorization header"
            if repository.gate == "open" or token in repository.readers:
                return None
            if repository.gate == "private":
                return (401 if token is None else 404), "RepoNotFound", "Repository not found"
            status = 401 if token is None else 403
            return status, "GatedRepo", f"Access to model {repository.name} is restricted."

    def _blob(self, path: Path) -> Blob:
        state = path.stat()
        key = (str(path), state.st_size, state.st_mtime_ns)
        if key not in self._digests:
            sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % state.st_size)
            with path.open("rb") as file:
                while piece := file.read(1 << 20):
                    sha256.update(piece)
                    git.update(piece)
            self._digests[key] = sha256.hexdigest(), git.hexdigest()
        sha256_hex, git_hex = self._digests[key]
        lfs = path.suffix in LFS_SUFFIXES or state.st_size >= LFS_FROM_BYTES
        return Blob(path, state.st_size, git_hex, sha256_hex if lfs else None)


def described(repository: Repository, commit: str, blobs: dict[str, Blob]) -> dict[str, Any]:
    """What `/api/models/OWNER/NAME?blobs=true` answers."""
    siblings: list[dict[str, Any]] = []
    for path, blob in blobs.items():
        size = repository.told_sizes.get(path, blob.size_bytes)
        name = repository.told_names.get(path, path)
        entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": blob.git_sha1}
        if blob.sha256:
            entry["lfs"] = {"sha256": blob.sha256, "size": size, "pointerSize": 134}
        siblings.append(entry)
    return {
        "_id": "0" * 24,
        "id": repository.name,
        "modelId": repository.name,
        "author": repository.name.partition("/")[0],
        "sha": commit,
        "lastModified": "2026-07-31T08:00:00.000Z",
        "createdAt": "2026-07-30T08:00:00.000Z",
        "private": repository.gate == "private",
        "gated": "auto" if repository.gate == "gated" else False,
        "disabled": False,
        "tags": ["safetensors", "license:mit"],
        "downloads": 0,
        "likes": 0,
        "cardData": {"license": "mit"},
        "siblings": siblings,
    }


def tree(repository: Repository, blobs: dict[str, Blob]) -> list[dict[str, Any]]:
    """What `/api/models/OWNER/NAME/tree/REVISION?recursive=true` answers."""
    entries: list[dict[str, Any]] = []
    for path, blob in blobs.items():
        size = repository.told_sizes.get(path, blob.size_bytes)
        entry: dict[str, Any] = {"type": "file", "oid": blob.git_sha1, "size": size, "path": path}
        if blob.sha256:
            entry["lfs"] = {"oid": blob.sha256, "size": size, "pointerSize": 134}
        entries.append(entry)
    return entries


def write_random_files(folder: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """Files of the given sizes (path → bytes) whose content follows from seed and path; returns the folder."""
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        left = size
        block = hashlib.shake_256(f"{seed} {name}".encode()).digest(min(size, 1 << 20))
        with path.open("wb") as file:
            count = 0
            while left:
                piece = block[: min(left, len(block))]
                file.write(count.to_bytes(8, "little")[: len(piece)] + piece[8:])
                left -= len(piece)
                count += 1
    return folder


def write_repository(root: Path, name: str = "deepseek-ai/DeepSeek-V4-Flash-0731", **checkpoint: Any) -> Path:
    """A seeded checkpoint (`tests.convert.seeded_checkpoint.write_checkpoint` takes `checkpoint`) with a README, in
    root/OWNER/NAME; returns that folder. By default the 0731 release of small size: ten shards, some MB."""
    folder = write_checkpoint(root / name, **({"release": "0731"} | checkpoint))
    (folder / "README.md").write_text(f"---\nlicense: mit\n---\n# {name}\n", encoding="utf-8")
    return folder
