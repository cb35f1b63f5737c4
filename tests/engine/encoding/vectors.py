"""Golden prompts: the folder that SEAMOUNT_VECTORS names, and the digests of it that the repository keeps."""

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("SEAMOUNT_VECTORS")
DIGESTS = Path(__file__).with_name("golden_digests.json")

needs_vectors = pytest.mark.skipif(
    FOLDER is None, reason="SEAMOUNT_VECTORS does not name the folder of golden prompts"
)


def golden(name: str) -> Any:
    """A JSON file of the folder."""
    return json.loads((Path(FOLDER or "") / name).read_text("utf-8"))


def stored() -> dict[str, list[dict[str, Any]]]:
    """Inputs and digests: `encode` (prompts and ids), `parse` (results, None for a rejection)."""
    return json.loads(DIGESTS.read_text("utf-8"))


def text_digest(text: str) -> str:
    """SHA-256 of the UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def ids_digest(ids: Sequence[int]) -> str:
    """SHA-256 of the ids as little-endian 32-bit numbers."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()


def encode_cases() -> list[dict[str, Any]]:
    """Every prompt of the folder: the conversations and the ladder of efforts."""
    ladder = [
        {"name": f"ladder_{number}", "kwargs": {}, **case}
        for number, case in enumerate(golden("effort_ladder.json"))
    ]
    return [*golden("encode_cases.json"), *ladder]


INPUTS = ("name", "messages", "thinking_mode", "reasoning_effort", "kwargs", "encoder")


def digested() -> dict[str, list[dict[str, Any]]]:
    """What `stored` must be, made of the folder."""
    return {
        "encode": [
            {key: case[key] for key in INPUTS}
            | {"prompt_sha256": text_digest(case["prompt"]), "ids_sha256": ids_digest(case["ids"])}
            for case in encode_cases()
        ],
        "parse": [
            {key: case[key] for key in ("name", "text", "thinking_mode")}
            | {"result_sha256": result_digest(case.get("result"))}
            for case in golden("parse_cases.json")
        ],
    }


def result_digest(result: object) -> str | None:
    """SHA-256 of a parsed message in JSON with its keys in order; None for a rejection."""
    if result is None:
        return None
    return text_digest(json.dumps(result, ensure_ascii=False, sort_keys=True))
