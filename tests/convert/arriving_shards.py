"""A checkpoint folder that fills while it is converted: shards come from a whole copy, in an order drawn from a seed.

    arriving = ArrivingShards(whole, folder, seed=3)
    convert(job(folder, target), arrivals=arriving)

There are no threads: a conversion that waits is given what it waits for, and before that, and only if the seed says
so, some others. Until a shard is whole, a part of it lies in `folder/arriving`; it keeps the time of change that it
has in the whole copy. What is there already, from a run that was killed, is kept.
"""

import random
import shutil
from collections.abc import Callable, Collection
from pathlib import Path

from convert.arrivals import Beginning
from convert.conversion_progress import consumed_shards


class ArrivingShards:
    """Fills `folder` from `whole`. `target`: of the conversion, whose consumed shards do not come again; `others`: how
    many at most come unasked before those that are waited for."""

    def __init__(
        self, whole: Path, folder: Path, *, seed: int = 0, target: Path | None = None, others: int = 2
    ) -> None:
        self._others = others
        self.whole, self.folder = whole, folder
        self.random = random.Random(seed)
        self.order: list[str] = []
        """In which they became whole."""
        self.gone: list[str] = []
        """What was deleted after use."""
        self.most_whole = 0
        """The most shards that lay whole in the folder at one time."""
        self._skip = consumed_shards(target) if target is not None else frozenset[str]()
        (folder / "arriving").mkdir(parents=True, exist_ok=True)
        for path in whole.iterdir():
            if path.suffix == ".safetensors":
                self._begin(path)
            elif path.is_file():
                shutil.copy2(path, folder / path.name)

    @property
    def coming(self) -> list[str]:
        """What has not arrived yet."""
        return sorted(path.name for path in (self.folder / "arriving").iterdir())

    def beginning(self, name: str) -> Beginning | None:
        path = self.folder / "arriving" / name
        if not path.exists():
            return None
        found = (self.whole / name).stat()
        return Beginning(path, found.st_size, found.st_mtime_ns)

    def wait_for(self, names: Collection[str], cancelled: Callable[[], bool]) -> None:
        """As `Arrivals` has it; `cancelled` is asked before each one that is brought."""
        wanted = [name for name in names if name in self.coming]
        others = [name for name in self.coming if name not in names] if wanted else []
        self.random.shuffle(others)
        for name in others[: self.random.randint(0, self._others)] + wanted:
            if cancelled():
                return
            self.bring(name)

    def deleted(self, name: str) -> None:
        self.gone.append(name)

    def bring(self, name: str) -> None:
        """Have the shard `name` whole in the folder."""
        fresh = self.folder / "fresh"
        shutil.copy2(self.whole / name, fresh)
        fresh.replace(self.folder / name)
        (self.folder / "arriving" / name).unlink()
        self.order.append(name)
        self.most_whole = max(self.most_whole, len(list(self.folder.glob("*.safetensors"))))

    def _begin(self, path: Path) -> None:
        coming = self.folder / "arriving" / path.name
        if path.name in self._skip or (self.folder / path.name).exists():
            coming.unlink(missing_ok=True)
            return
        if coming.exists():
            return
        raw = path.read_bytes()
        header_bytes = 8 + int.from_bytes(raw[:8], "little")
        fresh = self.folder / "fresh"  # a kill leaves it, and it is no shard
        have_bytes = self.random.choice([header_bytes, self.random.randrange(header_bytes, len(raw) + 1)])
        fresh.write_bytes(raw[:have_bytes])
        fresh.replace(coming)
