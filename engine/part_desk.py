"""The optional parts of a running engine: what is there, one installation at a time, and removing.

Owns: the installation's thread, its state and its end, and what is told of a part. Does not know how a part is
installed (`parts/`) or who asked (`server/parts`).
"""

import importlib.metadata
import importlib.util
import logging
import secrets
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from engine.errors import BadRequest, Conflict, NotFound, SeamountError, TaskStopped
from engine.library.fetching.rate_limit import Speed
from engine.parts import installation, search_path
from engine.parts.part_folder import PartFolder
from engine.parts.part_lock import Variant
from engine.parts.variant_choice import suited
from engine.paths import DataFolder
from engine.placement.model_sizes import V4
from engine.placement.nvidia import Seen, nvidia_gpus
from engine.protocol import ErrorBody, ModelEntry
from engine.protocol_parts import InstallPart, PartEntry, PartList, PartState, PartTask, PartVariant

_log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 10.0
_NOT = "The part was not installed"


class PartDesk:
    """The part that the native engine runs on. Any thread."""

    def __init__(
        self,
        data: DataFolder,
        models: Callable[[], list[ModelEntry]],
        *,
        gpus: Callable[[], Seen] = nvidia_gpus,
        part: PartFolder | None = None,
    ) -> None:
        """`models`: what lies in the library. `part`: another than the program's own, for tests."""
        self.installed: Callable[[], None] = lambda: None
        """Called when a part has become importable, in the installation's thread."""
        self._part = part or search_path.native_part(data)
        self._models, self._gpus = models, gpus
        self._lock = threading.Lock()
        self._task: PartTask | None = None
        self._speed = Speed()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def settle(self) -> None:
        """Have what is installed importable in this process, and delete what an earlier one left half done."""
        search_path.settle(self._part)
        if not self._part.root.is_dir():
            return
        try:
            with self._part.locked():
                self._part.clean()
        except (
            SeamountError
        ) as error:  # another process installs just now, or the folder is not ours to change
            _log.info("%s", error.text)

    @property
    def busy(self) -> bool:
        """An installation runs."""
        task = self._task
        return task is not None and task.state == "running"

    def listed(self) -> PartList:
        """Every part. Raises nothing; asks NVIDIA's library."""
        return PartList(parts=[self.entry()])

    def entry(self) -> PartEntry:
        """The part, as it is now."""
        lock, here = self._part.lock, self._part.installed()
        chosen, why = suited(lock, self._gpus())
        outside = _outside(lock.probe)
        state: PartState
        if outside is not None:
            state = "outside"
        elif here is not None:
            state = "installed" if here.current else "outdated"
        else:
            state = "absent" if lock.fits_here else "elsewhere"
        return PartEntry(
            name=lock.name,
            title=lock.title,
            state=state,
            version=outside or (None if here is None else here.version),
            variant=None if here is None else here.variant,
            unpacked_bytes=0 if here is None else here.unpacked_bytes,
            in_use=search_path.loaded_from() is not None,
            variants=[_told(each) for each in lock.variant] if lock.fits_here else [],
            suited=chosen.name if lock.fits_here else None,
            why=why if lock.fits_here else installation.why_not_here(self._part),
            how="" if lock.fits_here else installation.remedy_elsewhere(self._part),
            pays=any(each.architecture == V4 and each.problem is None for each in self._models()),
            free_bytes=_free_bytes(self._part.root),
            task=self._task,
        )

    def install(self, name: str, asked: InstallPart) -> PartTask:
        """Begin in the background. Raises NotFound, BadRequest; Conflict while another one runs, or where the Python
        that runs Seamount has the packages."""
        self._known(name)
        lock = self._part.lock
        if (version := _outside(lock.probe)) is not None:
            why = f"the Python that runs Seamount has {lock.probe} {version}, which is used"
            raise Conflict(_NOT, why, "nothing is to be done")
        chosen = suited(lock, self._gpus())[0] if asked.variant is None else lock.named(asked.variant)
        if chosen is None:
            names = " and ".join(each.name for each in lock.variant)
            raise BadRequest(_NOT, f"it has no variant {asked.variant!r}", f"there are {names}")
        find_links = None if asked.find_links is None else _folder(asked.find_links)
        with self._lock:
            if self.busy:
                raise Conflict(_NOT, "it is being installed", "wait until it has ended, or stop it")
            self._stopping, self._speed = threading.Event(), Speed()
            self._task = task = PartTask(
                id=secrets.token_hex(8),
                part=lock.name,
                variant=chosen.name,
                state="running",
                total_bytes=chosen.size_bytes,
            )
            self._thread = threading.Thread(
                target=self._run, args=(chosen, find_links, self._stopping), name="part", daemon=True
            )
            self._thread.start()
            return task

    def stop(self, name: str) -> PartTask:
        """Ask the installation to end; its state says when it has. Raises NotFound."""
        self._known(name)
        self._stopping.set()
        if self._task is None:
            raise NotFound("There is no such task", "nothing has been installed by this engine", "begin one")
        return self._task

    def remove(self, name: str) -> PartEntry:
        """Delete what is installed. Raises NotFound, Conflict, DataFolderError."""
        self._known(name)
        if self.busy:
            raise Conflict("The part was not removed", "it is being installed", "stop that first")
        installation.remove(self._part)
        search_path.settle(self._part)
        with self._lock:
            self._task = None
        return self.entry()

    def close(self) -> None:
        """End what runs; nothing of it is left."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _known(self, name: str) -> None:
        if name != self._part.lock.name:
            raise NotFound("There is no such part", f"none is named {name!r}", "see `seamount parts`")

    def _run(self, chosen: Variant, find_links: Path | None, stopping: threading.Event) -> None:
        watch = installation.Watch(self._tell, stopping.is_set)
        try:
            installation.install(self._part, chosen, watch, find_links=find_links)
        except TaskStopped:
            self._change(state="stopped")
        except SeamountError as error:
            _log.warning("%s", error.text)
            self._change(state="failed", error=ErrorBody(code=error.code, text=error.text))
        except Exception as error:  # noqa: BLE001 - the task is to end, whatever happens in it
            _log.exception("the part was not installed")
            why = f"the engine met an error of its own ({type(error).__name__})"
            trouble = SeamountError(_NOT, why, "try again; the engine's log says more")
            self._change(state="failed", error=ErrorBody(code=trouble.code, text=trouble.text))
        else:
            search_path.settle(self._part)
            self._change(state="done", done_bytes=chosen.size_bytes, seconds_left=None)
            self.installed()

    def _tell(self, done_bytes: int, total_bytes: int, item: str) -> None:
        before = 0 if self._task is None else self._task.done_bytes
        self._speed.count(max(0, done_bytes - before))
        rate = self._speed.bytes_per_s()
        left_s = (total_bytes - done_bytes) / rate if rate > 0 else None
        self._change(
            done_bytes=done_bytes, total_bytes=total_bytes, item=item, bytes_per_s=rate, seconds_left=left_s
        )

    def _change(self, **changed: object) -> None:
        with self._lock:
            if self._task is not None:
                self._task = self._task.model_copy(update=changed)


def _told(variant: Variant) -> PartVariant:
    return PartVariant(
        name=variant.name,
        title=variant.title,
        download_bytes=variant.size_bytes,
        unpacked_bytes=variant.unpacked_bytes,
        needed_bytes=variant.needed_bytes,
    )


def _outside(package: str) -> str | None:
    """The version of the package that the Python itself has; None where it has none, or it is the part's."""
    if search_path.added() is not None or importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _folder(path: str) -> Path:
    folder = Path(path)
    if not folder.is_absolute() or not folder.is_dir():
        raise BadRequest(_NOT, f"{path} is no folder here", "name the whole path of a folder with wheels")
    return folder


def _free_bytes(root: Path) -> int:
    try:
        return next(shutil.disk_usage(each).free for each in (root, *root.parents) if each.exists())
    except OSError:
        return 0
