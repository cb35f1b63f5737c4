"""`seamount inspect`: what a checkpoint folder or a GGUF file is, line by line or as JSON.

Owns: putting together what `convert` reads from headers and which release the model's names say it is. Does not
read files itself, and changes nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convert.checkpoint_error import CheckpointError
from convert.expected_tensors import Comparison
from convert.gguf_header import GgufError
from convert.inspection import (
    CheckpointInspection,
    FormatTotal,
    inspect_checkpoint,
    inspect_gguf,
)
from convert.wording import printable, shown
from engine.checkpoint_remedies import told
from engine.encoding.release import ARCHITECTURES, Release, choose_release
from engine.errors import ModelFileError, SeamountError, UnknownRelease
from engine.finding import Finding
from engine.library.model_files import REMEDIES, parts_of
from engine.model_table import size_text
from engine.protocol import ErrorBody

MOST_NAMED = 20
"""Tensors that are missing, unexpected or wrong, of which that many are named and all counted."""


def inspect(path: Path, *, as_json: bool) -> int:
    """Print what is at `path`; 1 when anything is not well, else 0. Raises ModelFileError unless `as_json`."""
    try:
        lines, facts, well = _checkpoint(path) if _is_folder(path) else _gguf(path)
    except SeamountError as error:
        if not as_json:
            raise
        body: dict[str, Any] = ErrorBody(code=error.code, text=error.text).model_dump()
        print(json.dumps({"error": body}, ensure_ascii=False))
        return 1
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        for line in lines:
            print(line, flush=True)
    return 0 if well else 1


def release_names(folder: Path) -> list[str]:
    """What may name the release of the checkpoint in `folder`, the surest first.

    The hub's cache keeps a checkpoint as `models--OWNER--NAME/snapshots/REVISION`.
    """
    full = folder.absolute()
    if full.parent.name == "snapshots" and full.parents[1].name.startswith("models--"):
        return [full.parents[1].name.rpartition("--")[2]]
    names = [full.name]
    if folder.is_symlink():
        names += release_names(folder.resolve())
    return names


# --- a checkpoint ------------------------------------------------------------------------------------


def look_at(folder: Path) -> tuple[CheckpointInspection, Release | UnknownRelease, list[Finding]]:
    """What is in a checkpoint's folder, its release, and a finding for each thing to say about it.

    Raises ModelFileError.
    """
    found, release, findings = _looked_at(folder)
    return found, release, [finding for finding, _ in findings]


def _looked_at(
    folder: Path,
) -> tuple[CheckpointInspection, Release | UnknownRelease, list[tuple[Finding, list[str]]]]:
    try:
        found = inspect_checkpoint(folder)
    except CheckpointError as error:
        raise told(error) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ModelFileError(f"{shown(folder.name)} cannot be used", why, "check its disk") from error
    release = _release(release_names(folder), dict(found.checkpoint.config))
    return found, release, list(_checkpoint_findings(found, release))


def _checkpoint(folder: Path) -> tuple[list[str], dict[str, Any], bool]:
    found, release, findings = _looked_at(folder)
    lines: list[str] = []
    for finding, details in findings:
        lines += [finding.line, *(f"      {detail}" for detail in details)]
    well = all(finding.well for finding, _ in findings)
    return lines, _checkpoint_facts(found, release) | {"well": well}, well


def _checkpoint_findings(
    found: CheckpointInspection, release: Release | UnknownRelease
) -> Iterator[tuple[Finding, list[str]]]:
    checkpoint, shape, counted = found.checkpoint, found.shape, found.parameters
    total = f"{size_text(checkpoint.tensor_bytes)} ({checkpoint.tensor_bytes:,} bytes)"
    yield (
        Finding(
            f"checkpoint {shown(release_names(checkpoint.folder)[0])}: {_count(len(checkpoint.shards), 'shard')}, "
            f"{_count(len(checkpoint.tensors), 'tensor')}, {total}"
        ),
        _format_lines(found.formats),
    )
    for problem in checkpoint.problems:
        yield Finding(told(problem).text, False), []
    yield _release_finding(release), []
    if found.shape_problem is not None:
        yield Finding(told(found.shape_problem).text, False), []
    if shape is not None and counted is not None:
        yield (
            Finding(
                f"DeepSeek-V4: {shape.num_hidden_layers} layers of {shape.hidden_size}, "
                f"{shape.n_routed_experts} experts, {shape.num_experts_per_tok} for a token, "
                f"context {shape.max_position_embeddings:,}, {_drafter(found)}"
            ),
            [],
        )
        drafter = f", {_amount(counted.draft)} in the drafter" if counted.draft else ""
        yield (
            Finding(
                f"{_amount(counted.total)} parameters: {_amount(counted.model)} in the model, of which "
                f"{_amount(counted.active)} work on a token{drafter}"
            ),
            [],
        )
    if found.comparison is not None:
        yield from _comparison_findings(found.comparison)
    if found.results:
        yield _result_finding(found), []
    elif shape is not None:
        yield Finding("its experts are not FP4, so there is no exact GGUF of it", False, "choose another"), []
    if checkpoint.tokenizer is None:
        yield Finding("it has no tokenizer.json", False, "download that file into the same folder"), []
    yield _disk_finding(found), []


def _comparison_findings(comparison: Comparison) -> Iterator[tuple[Finding, list[str]]]:
    if comparison.agrees:
        yield Finding("every tensor that its config calls for is there, and no other"), []
    wrong = [
        f"{each.name}: {each.found.dtype} {list(each.found.shape)}, "
        f"not {each.expected.dtype} {list(each.expected.shape)}"
        for each in comparison.wrong
    ]
    for names, is_so, remedy in (
        (comparison.missing, "missing", "download the checkpoint's missing files"),
        (comparison.unexpected, "unexpected", "make sure that config.json belongs to these shards"),
        (wrong, "of another format or shape", "make sure that config.json belongs to these shards"),
    ):
        if names:
            are = "is" if len(names) == 1 else "are"
            more = [f"and {len(names) - MOST_NAMED:,} more"] if len(names) > MOST_NAMED else []
            named = [printable(name) for name in names[:MOST_NAMED]]
            yield Finding(f"{_count(len(names), 'tensor')} {are} {is_so}", False, remedy), [*named, *more]


def _result_finding(found: CheckpointInspection) -> Finding:
    sizes: list[str] = []
    for each in found.results:
        drafter = f" ({size_text(each.draft_bytes)} more with its drafter)" if each.draft_bytes else ""
        sizes.append(f"{size_text(each.model_bytes)} with --dense {each.dense}{drafter}")
    return Finding("as a GGUF: " + ", ".join(sizes))


def _disk_finding(found: CheckpointInspection) -> Finding:
    needed = min((each.model_bytes for each in found.results), default=0)
    short = found.free_bytes < needed
    return Finding(
        f"{size_text(found.free_bytes)} free on its disk",
        remedy="less than the GGUF takes, which needs another disk or more room" if short else "",
    )


def _drafter(found: CheckpointInspection) -> str:
    shape = found.shape
    if shape is not None and shape.dspark is not None:
        return f"a DSpark drafter of {shape.dspark.stages} stages"
    if shape is not None and shape.num_nextn_predict_layers:
        return "an MTP drafter"
    return "no drafter"


def _checkpoint_facts(found: CheckpointInspection, release: Release | UnknownRelease) -> dict[str, Any]:
    checkpoint, comparison = found.checkpoint, found.comparison
    facts: dict[str, Any] = {
        "kind": "checkpoint",
        "path": str(checkpoint.folder),
        **_release_facts(release),
        "shards": len(checkpoint.shards),
        "tensors": len(checkpoint.tensors),
        "tensor_bytes": checkpoint.tensor_bytes,
        "formats": [asdict(each) for each in found.formats],
        "tokenizer": checkpoint.tokenizer is not None,
        "problems": [
            {"problem": each.problem, "text": told(each).text}
            for each in (*checkpoint.problems, *filter(None, [found.shape_problem]))
        ],
        "shape": asdict(found.shape) if found.shape else None,
        "parameters": None,
        "comparison": None,
        "results": [asdict(each) for each in found.results],
        "free_bytes": found.free_bytes,
    }
    if found.parameters is not None:
        facts["parameters"] = asdict(found.parameters) | {"total": found.parameters.total}
    if comparison is not None:
        facts["comparison"] = {
            "missing": {"count": len(comparison.missing), "first": comparison.missing[:MOST_NAMED]},
            "unexpected": {"count": len(comparison.unexpected), "first": comparison.unexpected[:MOST_NAMED]},
            "wrong": {
                "count": len(comparison.wrong),
                "first": [
                    {"name": each.name, "expected": each.expected._asdict(), "found": each.found._asdict()}
                    for each in comparison.wrong[:MOST_NAMED]
                ],
            },
        }
    return facts


# --- a GGUF ------------------------------------------------------------------------------------------


def _gguf(path: Path) -> tuple[list[str], dict[str, Any], bool]:
    if path.suffix == ".safetensors":
        raise ModelFileError(
            f"{shown(path.name)} cannot be inspected alone",
            "it is one file of a checkpoint",
            "name the folder that holds it",
        )
    try:
        found = inspect_gguf(parts_of(path))
    except GgufError as error:
        raise ModelFileError(error.what, error.why, REMEDIES[error.problem]) from error
    header = found.headers[0]
    names = {
        key: printable(value)[:200]
        for key in ("name", "basename", "finetune", "version", "size_label", "license", "repo_url")
        if (value := header.text(f"general.{key}"))
    }
    release: Release | UnknownRelease | None = None
    if header.architecture in ARCHITECTURES:
        release = _release([*filter(None, (names.get("name"), names.get("basename"))), path.stem], None)
    findings = [
        Finding(
            f"GGUF {shown(path.name)}: {_count(len(found.paths), 'file')}, "
            f"{_count(found.tensors, 'tensor')}, {size_text(found.size_bytes)} ({found.size_bytes:,} bytes)"
        )
    ]
    details = _format_lines(found.formats)
    findings.append(
        Finding(
            f"architecture {shown(header.architecture or 'unnamed')}"
            + "".join(f", {key.replace('_', ' ')} {shown(value)}" for key, value in names.items())
        )
    )
    if release is not None:
        findings.append(_release_finding(release))
    context = f", trained on a context of {header.context_length:,}" if header.context_length else ""
    findings.append(Finding(f"{_amount(found.parameters)} parameters{context}"))
    fits = found.surplus_bytes == 0
    if fits:
        findings.append(Finding("its size is what its tensors need"))
    else:
        findings.append(
            Finding(
                f"it holds {found.surplus_bytes:,} bytes that belong to no tensor", False, "download it again"
            )
        )
    well = all(finding.well for finding in findings)
    facts: dict[str, Any] = {
        "kind": "gguf",
        "path": str(path),
        "files": [str(each) for each in found.paths],
        "architecture": header.architecture,
        "names": names,
        **(_release_facts(release) if release is not None else {"release": None, "release_problem": None}),
        "tensors": found.tensors,
        "formats": [asdict(each) for each in found.formats],
        "parameters": found.parameters,
        "context": header.context_length,
        "size_bytes": found.size_bytes,
        "surplus_bytes": found.surplus_bytes,
        "well": well,
    }
    lines = [findings[0].line, *(f"      {detail}" for detail in details)]
    return lines + [finding.line for finding in findings[1:]], facts, well


# --- both --------------------------------------------------------------------------------------------


def _release(names: Sequence[str], config: dict[str, Any] | None) -> Release | UnknownRelease:
    try:
        return choose_release(names, config)
    except UnknownRelease as error:
        return error


def _release_finding(release: Release | UnknownRelease) -> Finding:
    if isinstance(release, UnknownRelease):
        return Finding(f"release unknown ({printable(release.why)})", False, release.remedy)
    return Finding(f"release {release.title}")


def _release_facts(release: Release | UnknownRelease) -> dict[str, Any]:
    if isinstance(release, UnknownRelease):
        return {"release": None, "release_problem": release.text}
    return {"release": release.id, "release_problem": None}


def _format_lines(formats: Sequence[FormatTotal]) -> list[str]:
    width = max((len(each.name) for each in formats), default=0)
    return [
        f"{each.name:<{width}}  {size_text(each.size_bytes):>7}  {_count(each.tensors, 'tensor')}"
        for each in formats
    ]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # reading it as a file will say why


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _amount(number: int) -> str:
    for name, scale in (("billion", 1e9), ("million", 1e6)):
        if number >= scale:
            return f"{number / scale:.2f} {name}"
    return f"{number:,}"
