"""Bytes per second of the number formats, against copying the same bytes in memory.

One thread, arrays of the experts' true size (2048 x 4096), destinations allocated before where there is an
`out`; the cases take turns, the figure is the ratio of the medians of the thread's processor time, since a
copy is over before another program can interrupt it and the rest is not. Two other ways to write the
repacking of FP4 stand beside it, to show what its steps are good for.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kernels.formats import encode_q8_0, fp4_to_fp8, fp4_to_mxfp4, fp8_to_bf16, fp8_to_q8_0, mxfp4_to_fp4

ROUNDS = 15
ROWS, COLUMNS = 2048, 4096
WANTED = 0.1
"""Repacking ÷ copying. Seen: 0.21 to 0.30; a disk that both must wait for is slower than either."""

Bytes = npt.NDArray[np.uint8]


def repack_plainly(weight: Bytes, scale: Bytes, out: Bytes) -> None:
    """The layout as one would write it down."""
    codes = np.stack((weight & 15, weight >> 4), axis=-1).reshape(*scale.shape, 32)
    blocks = out.reshape(*scale.shape, 17)
    blocks[..., 0] = scale
    blocks[..., 1:] = codes[..., :16] | codes[..., 16:] << 4


_SPREAD = np.arange(65536, dtype=np.uint32)
_SPREAD = _SPREAD & 15 | (_SPREAD & 0xF0) << 4 | (_SPREAD & 0xF00) << 8 | (_SPREAD & 0xF000) << 12


def repack_by_table(weight: Bytes, scale: Bytes, out: Bytes) -> None:
    """Two bytes at a time through a table of 65,536 entries, 64 KiB of codes at a time."""
    pairs, blocks, scales = weight.reshape(-1).view("<u2"), out.reshape(-1, 17), scale.reshape(-1)
    layout = np.dtype({"names": ["codes"], "formats": ["V16"], "offsets": [1], "itemsize": 17})
    codes = out.reshape(-1).view(layout)["codes"]
    blocks[:, 0] = scales
    for start in range(0, scales.size, 4096):
        stop = min(start + 4096, scales.size)
        spread = np.take(_SPREAD, pairs[start * 8 : stop * 8]).view("V16").reshape(-1, 2)
        first, last = (np.ascontiguousarray(half).view("<u8") for half in spread.T)
        codes[start:stop] = (first | last << np.uint64(4)).view("V16")


def cases() -> dict[str, tuple[int, Callable[[], object]]]:
    """Name → (bytes read, what is timed)."""
    rng = np.random.default_rng(0)
    fp4 = rng.integers(0, 256, (ROWS, COLUMNS // 2), dtype=np.uint8)
    fp4_scale = rng.integers(110, 120, (ROWS, COLUMNS // 32), dtype=np.uint8)
    mxfp4 = fp4_to_mxfp4(fp4, fp4_scale)
    fp8 = (
        rng.integers(0, 127, (ROWS, COLUMNS), dtype=np.uint8)
        | rng.integers(0, 2, (ROWS, COLUMNS), dtype=np.uint8) << 7
    )
    fp8_scale = rng.integers(110, 120, (ROWS // 128, COLUMNS // 128), dtype=np.uint8)
    values = rng.standard_normal((ROWS, COLUMNS), np.float32)
    q8_0 = encode_q8_0(values)
    size = fp4.nbytes + fp4_scale.nbytes
    source, target = rng.integers(0, 256, size, dtype=np.uint8), np.zeros(size, np.uint8)
    return {
        "copying in memory": (size, lambda: np.copyto(target, source)),
        "FP4 to MXFP4": (size, lambda: fp4_to_mxfp4(fp4, fp4_scale, out=mxfp4)),
        "  through a table": (size, lambda: repack_by_table(fp4, fp4_scale, mxfp4)),
        "  plainly": (size, lambda: repack_plainly(fp4, fp4_scale, mxfp4)),
        "MXFP4 to FP4": (mxfp4.nbytes, lambda: mxfp4_to_fp4(mxfp4)),
        "FP4 to FP8": (size, lambda: fp4_to_fp8(fp4, fp4_scale)),
        "FP8 to BF16": (fp8.nbytes, lambda: fp8_to_bf16(fp8, fp8_scale)),
        "FP8 to Q8_0, measured": (fp8.nbytes, lambda: fp8_to_q8_0(fp8, fp8_scale, out=q8_0)),
        "float32 to Q8_0": (values.nbytes, lambda: encode_q8_0(values, out=q8_0)),
    }


def main() -> bool:
    """Print the figures; True when repacking is at least `WANTED` of copying."""
    timed = cases()
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(ROUNDS + 1):
        for name, (_, work) in timed.items():
            start = time.thread_time()
            work()
            if number:  # the first round warms all of them up
                seconds[name].append(time.thread_time() - start)
    speed = {name: size / statistics.median(seconds[name]) / 1e9 for name, (size, _) in timed.items()}
    best = {name: size / min(seconds[name]) / 1e9 for name, (size, _) in timed.items()}
    copying = speed["copying in memory"]
    for name, figure in speed.items():
        print(
            f"{name:22} {figure:6.2f} GB/s (best {best[name]:.2f}), {figure / copying:.2f} of copying",
            flush=True,
        )
    return speed["FP4 to MXFP4"] / copying >= WANTED


if __name__ == "__main__":
    raise SystemExit(not main())
