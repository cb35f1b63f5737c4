"""Conversions that are killed at random moments, over and over, and must end in the same bytes.

    python -m tests.convert.kill_campaign --kills 100 --seed 1

Each conversion runs as a process of its own and is killed (SIGKILL) at a moment drawn from the seed; it is begun
again until it ends, and what it leaves is compared byte for byte with an undisturbed one. After each kill the
progress file must be whole. One conversion in two consumes its checkpoint meanwhile; of four, the last two are of
checkpoints whose shards arrive meanwhile.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from convert.conversion import convert
from convert.conversion_progress import progress_path
from tests.convert.conversions import checkpoint, job

ROOT = Path(__file__).resolve().parents[2]
_CHILD = """
import sys
from pathlib import Path
from convert.conversion import convert
from tests.convert.arriving_shards import ArrivingShards
from tests.convert.conversions import job
source, target, whole, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[4], int(sys.argv[5])
print("ready", flush=True)
arriving = ArrivingShards(Path(whole), source, seed=seed, target=target) if whole else None
convert(job(source, target, consume=sys.argv[3] == "consume"), arrivals=arriving)
"""


@dataclass
class Count:
    """What a campaign has seen."""

    kills: int = 0
    conversions: int = 0
    arriving: int = 0
    """Conversions of checkpoints that arrived meanwhile."""
    groups_kept: int = 0
    """Groups that were done when a kill came, summed over the kills."""


def run(folder: Path, *, kills: int, seed: int, only_arriving: bool = False) -> Count:
    """Kill that many times; raises AssertionError when a conversion does not end as it should."""
    random_ = random.Random(seed)
    source = checkpoint(folder, "0731", layers=8, n_routed_experts=32, seed=seed)
    straight = folder / "straight"
    straight.mkdir()
    began_s = time.monotonic()
    convert(job(source, straight / "m.gguf"))
    whole_s = time.monotonic() - began_s
    wanted = {path.name: path.read_bytes() for path in straight.iterdir()}
    count = Count()
    while count.kills < kills:
        consume, arriving = count.conversions % 2 == 1, only_arriving or count.conversions % 4 > 1
        eaten = source
        if arriving:
            eaten = folder / "eaten" / source.name
            count.arriving += 1
        elif consume:
            eaten = shutil.copytree(source, folder / "eaten" / source.name)
        mode = ["consume" if consume else "keep", str(source) if arriving else ""]
        # Another folder, but the same header: times are no part of it.
        target = folder / "broken" / "m.gguf"
        target.parent.mkdir()
        attempts = 0
        while not _ends(
            [str(eaten), str(target), *mode, str(random_.randrange(10**9))],
            target,
            random_.uniform(0, whole_s),
            spare=attempts > 200,
        ):
            attempts += 1
            count.kills += 1
            count.groups_kept += _groups(target)
        found = {path.name: path.read_bytes() for path in target.parent.iterdir() if path.suffix != ".lock"}
        assert found.keys() == wanted.keys(), f"seed {seed}: {sorted(found)} after {count.kills} kills"
        assert found == wanted, f"seed {seed}: other bytes after {count.kills} kills"
        assert bool(list(eaten.glob("*.safetensors"))) != consume
        count.conversions += 1
        shutil.rmtree(target.parent)
        shutil.rmtree(folder / "eaten", ignore_errors=True)
    return count


def _ends(arguments: list[str], target: Path, after_s: float, *, spare: bool) -> bool:
    """Run a conversion, and kill it `after_s` after it is ready unless it is to be spared; whether it ended."""
    if target.exists() and not progress_path(target).exists():
        return True  # it was killed after its last deed
    command = [sys.executable, "-c", _CHILD, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if not spare:
            try:
                child.wait(after_s)
            except subprocess.TimeoutExpired:
                child.kill()
        _, errors = child.communicate()
    assert child.returncode in (0, -signal.SIGKILL), errors.decode()
    return child.returncode == 0


def _groups(target: Path) -> int:
    """How many groups are done by the progress file, which is whole or not there."""
    path = progress_path(target)
    return len(json.loads(path.read_bytes())["groups"]) if path.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        count = run(Path(folder), kills=options.kills, seed=options.seed)
    print(
        f"kills: {count.kills} in {count.conversions} conversions ({count.arriving} while shards arrive), "
        f"seed {options.seed}, {count.groups_kept / count.kills:.1f} groups done at a kill, "
        f"{time.monotonic() - began_s:.0f} s: all alike"
    )


if __name__ == "__main__":
    main()
