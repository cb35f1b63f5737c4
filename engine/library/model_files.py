"""One model file, judged by its header: what it is called, and why it cannot be loaded if so.

Owns: what makes a GGUF a language model, the parts of a split model, and the cache of headers. Does not know
which models a person has (`models`), and does not guess which architectures a backend can compute: that
comes out when it is loaded.
"""

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convert.gguf_header import GgufError, GgufHeader, read_gguf_header
from engine.conversation import clean_text
from engine.errors import ModelFileError
from engine.library import v4_header

SCRIPT_SUFFIX = ".script.json"
MAX_SCRIPT_BYTES = 16 << 20

_PART = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$", re.IGNORECASE)
REMEDIES = {
    "unreadable": "check that it is there and that you may read it",
    "truncated": "download it again; it did not arrive whole",
    "not_gguf": "choose a model in the GGUF format, or download this one again if it should be one",
    "unsupported": "look for a GGUF of the same model that was made recently",
    "damaged": "download it again, or look for another source of this model",
}
_OF_A_FOLDER = "choose a .gguf file; a checkpoint becomes one by `seamount convert FOLDER FILE.gguf`"
_NO_LANGUAGE_MODEL = {
    "mmproj": "it is the picture part of a model, not a language model",
    "adapter": "it is an adapter for another model, not a model",
    "vocab": "it holds only a vocabulary, not a model",
    "imatrix": "it holds statistics for quantising a model, not a model",
}
_SUSPICIOUS_ARCHITECTURES = {"clip": "mmproj"}


@dataclass(frozen=True)
class FileFacts:
    """What a model file says of itself. `size_bytes` counts all parts of a split model."""

    name: str
    size_bytes: int
    architecture: str | None = None
    context_train_tokens: int | None = None
    sampling: dict[str, float] | None = None
    """What its maker recommends: some of temperature, top_p, min_p; unchecked."""
    problem: ModelFileError | None = None
    release_names: tuple[str, ...] = ()
    """What may say which release of V4 it is: the converter's word, the model's name, the file's."""
    role: str | None = None
    """Of a file that was converted here: "model", or "draft" of a drafter in a file of its own."""
    repository: str | None = None
    """OWNER/NAME, where it was made of; `revision` is the commit, `fingerprint` that of the checkpoint."""
    revision: str | None = None
    fingerprint: str | None = None


class ModelFiles:
    """Facts of model files, read again only when a file changed. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[tuple[int, int], ...], FileFacts]] = {}

    def facts(self, path: Path) -> FileFacts:
        """The facts of the file at `path`; what is wrong with it is in `problem`, not raised."""
        parts = parts_of(path)
        try:
            state = tuple((stat.st_size, stat.st_mtime_ns) for stat in (part.stat() for part in parts))
        except (OSError, ValueError):
            state = ()
        with self._lock:
            known = self._known.get(path)
            if known is not None and state and known[0] == state:
                return known[1]
        facts = _script_facts(path) if is_script(path) else _gguf_facts(path, parts)
        with self._lock:
            self._known[path] = (state, facts)
        return facts

    def keep_only(self, paths: Sequence[Path]) -> None:
        """Forget the files that are not in `paths`."""
        with self._lock:
            for path in self._known.keys() - set(paths):
                del self._known[path]


def is_script(path: Path) -> bool:
    """Whether the scripted backend opens this file."""
    return path.name.endswith(SCRIPT_SUFFIX)


def is_later_part(path: Path) -> bool:
    """Whether this is the second or a later part of a split model, which its first part stands for."""
    match = _PART.match(path.name)
    return match is not None and int(match["part"]) != 1


def parts_of(path: Path) -> list[Path]:
    """All files of the model that begins at `path`, in order; they need not exist."""
    match = _PART.match(path.name)
    if match is None or int(match["part"]) != 1:
        return [path]
    suffix = path.name[match.end("parts") :]
    return [
        path.with_name(f"{match['stem']}-{part:05d}-of-{match['parts']}{suffix}")
        for part in range(1, int(match["parts"]) + 1)
    ]


def parts_pattern(name: str) -> str:
    """The pattern that all parts of the split model have of which `name` is one; `name` itself of any other."""
    match = _PART.match(name)
    if match is None:
        return _literal(name)
    return f"{_literal(match['stem'])}-?????-of-{match['parts']}{name[match.end('parts') :]}"


def _literal(name: str) -> str:
    """A pattern that means exactly `name`."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _gguf_facts(path: Path, parts: Sequence[Path]) -> FileFacts:
    name = clean_text(path.stem)[0]
    size_bytes = sum(_size_bytes(part) for part in parts)
    header: GgufHeader | None = None
    try:
        if clean_text(str(path))[1]:
            raise GgufError("unreadable", _cannot(path), "its name or folder is not valid Unicode; rename it")
        if is_later_part(path):
            raise GgufError("damaged", _cannot(path), "it is a later part of a split model; choose the first")
        if path.is_dir():
            raise GgufError("unreadable", _cannot(path), "it is a folder")
        header = read_gguf_header(path)
        for part in parts[1:]:
            if not part.exists():
                raise GgufError("truncated", _cannot(path), f"its part {part.name} is missing")
            read_gguf_header(part)
        if why := _no_language_model(header):
            problem = ModelFileError(_cannot(path), why, "choose the language model itself")
        elif why := v4_header.why_not(header):
            problem = ModelFileError(_cannot(path), why, v4_header.REMEDY)
        else:
            problem = None
    except GgufError as error:
        remedy = _OF_A_FOLDER if path.is_dir() else REMEDIES[error.problem]
        problem = ModelFileError(error.what, error.why, remedy)
    if header is None:
        return FileFacts(name, size_bytes, problem=problem)
    return FileFacts(
        name=_shown(header.name) or name,
        size_bytes=size_bytes,
        architecture=_shown(header.architecture),
        context_train_tokens=header.context_length,
        sampling=_sampling(header),
        problem=problem,
        release_names=tuple(
            filter(None, (_shown(header.text("seamount.release")), _shown(header.name), name))
        ),
        role=_shown(header.text("seamount.role")),
        repository=_shown(header.text("general.source.huggingface.repository")),
        revision=_shown(header.text("seamount.source.revision")),
        fingerprint=_shown(header.text("seamount.source.fingerprint")),
    )


def _no_language_model(header: GgufHeader) -> str | None:
    """Why this whole GGUF is no language model; None when it looks like one."""
    if not header.architecture:
        return "it does not say which kind of model it is (no general.architecture)"
    kind = header.text("general.type") or _SUSPICIOUS_ARCHITECTURES.get(header.architecture, "model")
    if header.architecture in _SUSPICIOUS_ARCHITECTURES:
        kind = _SUSPICIOUS_ARCHITECTURES[header.architecture]
    if kind in _NO_LANGUAGE_MODEL:
        return _NO_LANGUAGE_MODEL[kind]
    if not header.tensors and "split.count" not in header.metadata:
        return _NO_LANGUAGE_MODEL["vocab"]
    return None


def _script_facts(path: Path) -> FileFacts:
    """A scripted model is for tests; here it only has to be JSON."""
    name = clean_text(path.name.removesuffix(SCRIPT_SUFFIX))[0]
    problem = None
    size_bytes = _size_bytes(path)
    try:
        if size_bytes > MAX_SCRIPT_BYTES:
            raise ValueError(f"it has more than {MAX_SCRIPT_BYTES:,} bytes")
        json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        problem = ModelFileError(_cannot(path), f"it cannot be read as a script ({error})", "correct it")
    return FileFacts(name, size_bytes, architecture="scripted", problem=problem)


def _sampling(header: GgufHeader) -> dict[str, float] | None:
    """`general.sampling.*`, what the model's maker recommends."""
    keys = {"temperature": "temp", "top_p": "top_p", "min_p": "min_p"}
    values = {ours: header.number(f"general.sampling.{theirs}") for ours, theirs in keys.items()}
    return {ours: float(value) for ours, value in values.items() if value is not None} or None


def _cannot(path: Path) -> str:
    return f"{clean_text(path.name)[0]} cannot be used as a model"


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0


def _shown(text: str | None) -> str | None:
    """A text from the file on one bounded line; None when nothing is left."""
    if text is None:
        return None
    return " ".join("".join(each if each.isprintable() else " " for each in text[:200]).split()) or None
