"""`seamount experts`: what the routers of a model chose, recorded and shown.

Owns: the table and its JSON, and recording a trace by letting a model read a text and go on writing. Does not know
the trace's format (`routing_trace`) nor the figures (`routing_coverage`). Neither a data folder nor an engine is
touched: the model is opened here, in this process.
"""

import json
import sys
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import BadRequest, ModelFileError, TraceError
from engine.interruption import STOPPED, wish_to_stop

if TYPE_CHECKING:
    from engine.placement.routing_coverage import Coverage
    from engine.placement.routing_trace import RoutingTrace, TraceHead, TraceWriter

MAX_TEXT_BYTES = 16 << 20


def show(path: Path, *, as_json: bool) -> int:
    """Print the coverage of the trace at `path`; 0. Raises TraceError."""
    from engine.placement.routing_coverage import coverage
    from engine.placement.routing_trace import read_trace

    trace = read_trace(path)
    figures = coverage(trace)
    if as_json:
        head = asdict(trace.head) | {"cut_bytes": trace.cut_bytes}
        print(json.dumps(head | asdict(figures), ensure_ascii=False))
        return 0
    print("\n".join(_lines(trace, figures)))
    return 0


def record(
    path: Path,
    model: Path,
    text: Path | None,
    *,
    tokens: int,
    context_tokens: int,
    threads: int,
) -> int:
    """Let `model` read `text` (None: stdin) and write up to `tokens` more; note its choices in a trace at `path`.

    What it writes is drawn at temperature 1 from seed 0, so a trace can be recorded again. Raises TraceError,
    ModelFileError for a model without routed experts, BadRequest for a text that cannot be used, and what opening
    a model raises. Ctrl-C ends it; what was noted is kept, and the status is 130.
    """
    from engine.placement.routing_trace import TraceWriter

    content, head = _text(text), _head(model)
    writer = TraceWriter(path, head)
    try:
        stopped = _run(writer, model, content, tokens, context_tokens, threads)
        writer.close()
    except BaseException:
        with suppress(TraceError):
            writer.close()
        raise
    finally:
        if not writer.tokens:
            path.unlink(missing_ok=True)
    if not writer.tokens and not stopped:
        why = "no batch showed what every layer of it chose"
        raise TraceError(
            f"Nothing was recorded of {model.name}", why, "choose another model, or more --tokens"
        )
    if writer.tokens:
        print(f"{path}: {writer.tokens:,} tokens of {head.model}", flush=True)
    return STOPPED if stopped else 0


def _run(
    writer: "TraceWriter", model: Path, content: str, tokens: int, context_tokens: int, threads: int
) -> bool:
    """Read and write; whether it was stopped."""
    from engine.backends.base import Cancelled
    from engine.backends.llama_experts import ExpertWatch
    from engine.backends.llamacpp import LlamaCppBackend
    from engine.placement.hardware import memory
    from engine.protocol import Sampling
    from engine.sampling import draw

    watch = ExpertWatch.open(model, memory_bytes=memory().available_bytes, on_choice=writer.add)
    if watch is None:
        raise _without_experts(model)
    with closing(watch), wish_to_stop() as stopped:
        backend = LlamaCppBackend.open(
            model,
            name=model.name,
            context_tokens=context_tokens,
            threads=threads,
            on_progress=lambda _: not stopped(),
            watch=watch,
        )
        with closing(backend), suppress(Cancelled):
            begin = backend.facts.begin_token_id
            prompt = [*([] if begin is None else [begin]), *backend.tokenize(content)]
            room = backend.facts.context_tokens - tokens
            if not 0 < len(prompt) <= room:
                why = f"it has {len(prompt):,} tokens, and the context has room for {max(0, room):,}"
                raise BadRequest(
                    "The text cannot be read whole", why, "choose a larger --context, or another text"
                )
            backend.sync(prompt, _untold, stopped)
            sampling = Sampling(temperature=1.0, top_p=1.0, min_p=0.0, seed=0)
            for _ in range(tokens):
                token = draw(backend.logits(), sampling, len(backend.held))
                if stopped() or watch.failed or token in backend.facts.end_token_ids:
                    break
                backend.step(token)
        if watch.failed:
            why = "the choices could not be noted any further, as the line above says"
            raise TraceError("The trace is not whole", why, "record it anew")
        return stopped()


def _untold(_done: int, _total: int, _reused: int) -> None:
    """Progress that nobody watches."""


def _head(model: Path) -> "TraceHead":
    """What a trace of the model will be of."""
    from convert.gguf_header import GgufError, read_gguf_header
    from engine.library import v4_header
    from engine.library.model_files import parts_of
    from engine.placement.expert_ranges import expert_ranges
    from engine.placement.routing_trace import TraceHead

    try:
        headers = list(map(read_gguf_header, parts_of(model)))
    except GgufError as error:
        raise ModelFileError(error.what, error.why, "choose another file") from error
    if why := v4_header.why_not(headers[0]):
        raise ModelFileError(f"Nothing can be recorded of {model.name}", why, v4_header.REMEDY)
    ranges = expert_ranges(*headers)
    if ranges is None:
        raise _without_experts(model)
    experts = max(layer.experts for layer in ranges.layers.values())
    return TraceHead(headers[0].name or model.name, experts, ranges.used, tuple(ranges.layers))


def _without_experts(model: Path) -> ModelFileError:
    return ModelFileError(
        f"Nothing can be recorded of {model.name}",
        "it has no routed experts, or its files do not belong together",
        "choose a model with experts, such as DeepSeek-V4",
    )


def _text(path: Path | None) -> str:
    try:
        if path is None:
            raw = sys.stdin.buffer.read(MAX_TEXT_BYTES + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(MAX_TEXT_BYTES + 1)
        if len(raw) > MAX_TEXT_BYTES:
            raise BadRequest("The text is too long", "it has more than 16 MiB", "choose a shorter one")
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest("The text cannot be read", "it is not UTF-8", "save it as UTF-8") from error
    except OSError as error:
        raise BadRequest(
            "The text cannot be read", error.strerror or str(error), "name another file"
        ) from error


def _lines(trace: "RoutingTrace", figures: "Coverage") -> list[str]:
    from engine.placement.routing_coverage import LAYER_SHARES

    head = trace.head
    lines = [
        f"{head.model}: {figures.tokens:,} tokens, {head.used} of {head.experts} experts in each of "
        f"{len(head.layers)} layers"
    ]
    if trace.cut_bytes:
        lines.append(f"Its last {trace.cut_bytes:,} bytes are cut off or damaged, and left out.")
    lines += [
        "",
        "Held, and what of the questions is answered: by the experts most asked for (hindsight); by those of the",
        f"first half, asked by the second (learnt); by two rules that learn as they go, {figures.rule_tokens:,} "
        "tokens counted.",
        "",
        f"{'held':>6}{'experts':>9}{'hindsight':>11}{'learnt':>9}{'least recent dropped':>22}{'decayed counts':>16}",
    ]
    for each in figures.shares:
        lines.append(
            f"{each.share:>6.0%}{each.experts:>9,}{each.hindsight:>11.1%}{each.learnt:>9.1%}"
            f"{each.recent:>22.1%}{each.decayed:>16.1%}"
        )
    lines += [
        "",
        f"{'layer':>6}{'live':>9}" + "".join(f"{f'best {share:.0%}':>11}" for share in LAYER_SHARES),
    ]
    for layer in figures.layers:
        lines.append(
            f"{layer.layer:>6}{layer.live:>9,}" + "".join(f"{each:>11.1%}" for each in layer.covered)
        )
    if figures.periods:
        lines += [
            "",
            "Over time, a quarter held: the experts most asked for in the part before, and in the part itself.",
            "",
            f"{'from token':>11}{'tokens':>9}{'before':>9}{'within':>9}",
        ]
        for period in figures.periods:
            lines.append(
                f"{period.first_token:>11,}{period.tokens:>9,}{period.before:>9.1%}{period.within:>9.1%}"
            )
    return lines
