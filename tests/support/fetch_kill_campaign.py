"""Downloads that are converted as they arrive, killed at random moments while the hub misbehaves, over and over.

    python -m tests.support.fetch_kill_campaign --kills 200 --seed 1

One seeded checkpoint is fetched from the hub on this machine and converted at the same time, by a process of its own
that is killed (SIGKILL) at a moment drawn from the seed and begun again until it ends. Each beginning meets faults
drawn from the seed: connections that are cut or stall, bursts of status 500, answers that never come, addresses that
have expired, bytes that are wrong once. One conversion in two consumes its shards. In the end every file must be that
of an undisturbed conversion, and the hub's own record must show that no more than one chunk for each stream and kill
was sent twice, besides a file whose bytes were wrong.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.conversion import convert
from convert.conversion_plan import Job
from convert.conversion_progress import consumed_shards
from convert.metadata import Origin
from engine.library.fetching.fetch_stream import BATCH_BYTES
from tests.support.local_hub import LocalHub, write_repository

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "deepseek-ai/DeepSeek-V4-Flash-0731"
STREAMS = 2
RATE = 4 << 20
"""Bytes that the hub sends a second on one connection, so that little lies in the sockets when a kill comes."""
CHUNK_BYTES = BATCH_BYTES + 3 * RATE // 20
"""What a stream may lose to a kill: what it had gathered and not written, and the pieces that were on their way."""
_CHILD = """
import functools, sys
from engine.library.fetching import fetch_work
from engine.protocol import Settings
from engine.protocol_jobs import ConvertAfter, FetchRequest
hub, folder, target, consume, streams = sys.argv[1:]
# Patience is not what is tried here: a second's wait becomes a tenth.
fetch_work.Fetch = functools.partial(fetch_work.Fetch, first_wait_s=0.1)
settings = Settings(hub_endpoint=hub, download_streams=int(streams))
after = ConvertAfter(target=target, consume=consume == "consume")
asked = FetchRequest(what="deepseek-ai/DeepSeek-V4-Flash-0731", folder=folder, convert=after)
print("ready", flush=True)
fetch_work.fetch(asked, settings=lambda: settings, access=None, report=lambda _: None, stopped=lambda: False)
"""


@dataclass
class Count:
    """What a campaign has seen. Bytes are of the shards, by the hub's record."""

    kills: int = 0
    conversions: int = 0
    faults: Counter[str] = field(default_factory=Counter[str])
    checkpoint_bytes: int = 0
    sent_twice_bytes: int = 0
    wrong_bytes: int = 0
    """Of files that had to be fetched again because a byte of them was wrong."""
    most_lost_bytes: float = 0.0
    """The most that was sent twice in one conversion, for each kill and stream of it."""
    consumed_at_kills: int = 0
    """Shards that were consumed when a kill came, summed over the kills."""


def run(folder: Path, *, kills: int, seed: int, experts: int = 32) -> Count:
    """Kill that many times; raises AssertionError when a job does not end as it should."""
    random_ = random.Random(seed)
    source = write_repository(folder / "hub", REPOSITORY, n_routed_experts=experts, seed=seed)
    shards = {path.name: path.stat().st_size for path in source.glob("*.safetensors")}
    count = Count(checkpoint_bytes=sum(shards.values()))
    with LocalHub(send_buffer_bytes=RATE // 20) as hub:
        commit = hub.add(REPOSITORY, str(source))
        wanted = _wanted(source, folder / "straight", commit)
        whole_s = count.checkpoint_bytes / RATE / STREAMS
        while count.kills < kills:
            consume = count.conversions % 2 == 0
            place = folder / "broken"
            target = place / "models" / "m.gguf"
            target.parent.mkdir(parents=True)
            arguments = [hub.address, str(place / "coming"), str(target), "consume" if consume else "keep"]
            hub.forget()
            attempts, wrong_bytes = 0, 0
            while True:
                _misbehave(hub, random_, sorted(shards))
                after_s = random_.uniform(0, whole_s * 0.7) if attempts < 100 else None
                ended = _ends([*arguments, str(STREAMS)], after_s)
                for fault in hub.faults:
                    count.faults[fault.kind] += fault.struck
                    if fault.kind == "wrong_bytes" and fault.struck:
                        wrong_bytes += shards[fault.path]
                if ended:
                    break
                attempts += 1
                count.kills += 1
                count.consumed_at_kills += len(consumed_shards(target))
            _check(wanted, source, place, consume, f"seed {seed}, after {count.kills} kills")
            twice = hub.sent("*.safetensors") - count.checkpoint_bytes
            lost = twice - wrong_bytes
            assert twice >= 0, f"seed {seed}: {-twice:,} bytes were never sent"
            assert lost <= attempts * STREAMS * CHUNK_BYTES, (
                f"seed {seed}: {lost:,} bytes were sent twice for {attempts} kills"
            )
            if attempts:
                count.most_lost_bytes = max(count.most_lost_bytes, lost / attempts / STREAMS)
            count.sent_twice_bytes += twice
            count.wrong_bytes += wrong_bytes
            count.conversions += 1
            shutil.rmtree(place)
    count.faults.pop("trickle", None)
    return count


def _wanted(source: Path, folder: Path, commit: str) -> dict[str, bytes]:
    """The files of an undisturbed conversion of the whole folder."""
    folder.mkdir()
    convert(Job(source, folder / "m.gguf", Origin("DeepSeek-V4-Flash-0731", REPOSITORY, commit)))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _misbehave(hub: LocalHub, random_: random.Random, shards: list[str]) -> None:
    """Other faults than before: every connection is slow, and a few are worse."""
    hub.clear_faults()
    hub.fault("trickle", path="*.safetensors", times=0, rate=RATE)
    faults: list[dict[str, Any]] = [
        {"kind": "cut", "at": random_.randrange(1 << 20)},
        {"kind": "stall", "at": random_.randrange(1 << 20), "seconds": 0.2},
        {"kind": "status", "status": 500, "times": 3, "door": "any"},
        {"kind": "drop"},
        {"kind": "expired", "door": "cdn"},
        {"kind": "wrong_bytes", "at": random_.randrange(1 << 20)},
    ]
    for fault in random_.sample(faults, random_.randrange(4)):
        hub.fault(path=random_.choice(shards), after=random_.randrange(2), **fault)


def _ends(arguments: list[str], after_s: float | None) -> bool:
    """Run the job, and kill it `after_s` after it is ready (None: never); whether it ended by itself."""
    command = [sys.executable, "-c", _CHILD, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if after_s is not None:
            try:
                child.wait(after_s)
            except subprocess.TimeoutExpired:
                child.kill()
        _, errors = child.communicate()
    assert child.returncode in (0, -signal.SIGKILL), errors.decode()
    return child.returncode == 0


def _check(wanted: dict[str, bytes], source: Path, place: Path, consume: bool, where: str) -> None:
    found = {path.name: path.read_bytes() for path in (place / "models").iterdir()}
    assert found.keys() == wanted.keys(), f"{where}: {sorted(found)}"
    assert found == wanted, f"{where}: other bytes"
    if consume:
        assert not (place / "coming").exists(), f"{where}: something of the checkpoint is left"
        return
    for path in source.iterdir():
        assert (place / "coming" / path.name).read_bytes() == path.read_bytes(), f"{where}: {path.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**9))
    options = parser.parse_args()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        count = run(Path(folder), kills=options.kills, seed=options.seed)
    faults = ", ".join(f"{number} x {kind}" for kind, number in sorted(count.faults.items()) if number)
    print(
        f"kills: {count.kills} in {count.conversions} jobs of {count.checkpoint_bytes / 1e6:.1f} MB, seed "
        f"{options.seed}, {time.monotonic() - began_s:.0f} s: all files alike\n"
        f"faults: {faults}\n"
        f"{count.consumed_at_kills / max(1, count.kills):.1f} shards consumed at a kill\n"
        f"sent twice: {count.sent_twice_bytes / 1e6:.1f} MB, of them at most {count.wrong_bytes / 1e6:.1f} MB for "
        f"wrong bytes; at most {count.most_lost_bytes / 1e6:.2f} MB for each kill and stream of one job "
        f"(bound {CHUNK_BYTES / 1e6:.2f} MB)"
    )


if __name__ == "__main__":
    main()
