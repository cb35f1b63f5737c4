"""`seamount encode`, `parse` and `tokenize`: V4's encoding for people who write clients.

Owns: reading JSON or text from a stream, one case or one a line, and writing the result as one line of JSON.
Does not know the encoding itself (`encoding/`), nor an engine: nothing is started and no model is loaded.
What is wrong with a case is told on its line of the output, as `{"error": {"code": ..., "text": ...}}`.

A case is `{"messages": [...], "tools": [...]}` in OpenAI's shape, or a bare list of messages; it may say
`thinking_mode` ("chat", "thinking"), `reasoning_effort`, `encoder` (a release) and `kwargs` (`drop_thinking`,
`add_default_bos_token`, `context`) as the checkpoint's own test cases do. Options of the command win.
"""

import copy
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast

from engine.encoding.completion import Completion, MalformedCompletion
from engine.encoding.completion_parser import parse
from engine.encoding.dialects import from_openai
from engine.encoding.reasoning import style_of
from engine.encoding.release import Release, release, releases
from engine.encoding.segments import TextIds, ids_of
from engine.encoding.tokenizer import OfficialTokenizer, Tokenizer, official_tokenizer
from engine.encoding.v4_prompt import Style, render
from engine.errors import BadRequest, SeamountError
from engine.protocol import ErrorBody, ReasoningMode

_UNDECODED = re.compile("[\udc80-\udcff]")
"""What `surrogateescape` leaves of a byte that is not UTF-8; JSON's own escapes are still six characters then."""


def text_streams(source: TextIO, target: TextIO) -> tuple[TextIO, TextIO]:
    """The process's streams as UTF-8, whatever its locale, with line ends as they are.

    Bytes that are not UTF-8 become an error of the case they stand in.
    """
    for stream, errors, newline in ((source, "surrogateescape", ""), (target, "replace", "\n")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors, newline=newline)
    return source, target


def encode(
    source: TextIO,
    target: TextIO,
    *,
    profile: str | None,
    mode: ReasoningMode | None,
    strict_official: bool,
    lines: bool,
    tokenizer: str | None,
) -> int:
    """Write `{"prompt": ..., "ids": [...]}` for each conversation; the exit status."""
    try:
        vocabulary = open_tokenizer(tokenizer)
    except SeamountError as error:
        return _fail(target, error)
    text_ids = TextIds(vocabulary.encode)

    def one(text: str) -> dict[str, Any]:
        case = _json(text)
        fields: dict[str, Any] = {"messages": case} if isinstance(case, list) else _object(case)
        options = _object(fields.get("kwargs") or {})
        chosen = _release(profile, fields)
        style = replace(_style(chosen, mode, fields), drop_thinking=bool(options.get("drop_thinking", True)))
        messages = fields.get("messages")
        prompt = render(
            from_openai(_officially(messages) if strict_official else messages, fields.get("tools")),
            style,
            vocabulary.control,
            context=from_openai(options.get("context") or []),
            begin=bool(options.get("add_default_bos_token", True)),
        )
        ids = vocabulary.encode_parsing(prompt.text) if strict_official else ids_of(prompt.segments, text_ids)
        return {"prompt": prompt.text, "ids": ids}

    return _each(source, target, one, lines=lines)


def parse_completions(
    source: TextIO,
    target: TextIO,
    *,
    profile: str | None,
    mode: ReasoningMode | None,
    strict: bool,
    lines: bool,
) -> int:
    """Write the message in each completion; the exit status, 1 when one was an error.

    A line of `lines` is a JSON string, or an object with `text` and `thinking_mode`. A completion is read as
    thinking when the mode says so or, without a mode, when it holds `</think>`.
    """

    def one(text: str) -> dict[str, Any]:
        case: Any = _json(text) if lines else text
        fields: dict[str, Any] = {"text": case} if isinstance(case, str) else _object(case)
        chosen, completion = _release(profile, fields), str(fields.get("text", ""))
        if mode is not None:
            thinking = mode != "non-think"
        elif "thinking_mode" in fields:
            thinking = fields["thinking_mode"] == "thinking"
        else:
            thinking = chosen.tokens.think_end in completion
        return _message(parse(completion, chosen, thinking=thinking, strict=strict), strict=strict)

    return _each(source, target, one, lines=lines)


def tokenize(
    source: TextIO, target: TextIO, *, parse_control: bool, lines: bool, tokenizer: str | None
) -> int:
    """Write `{"ids": [...]}` for each text (a JSON string a line with `lines`); the exit status."""
    try:
        vocabulary = open_tokenizer(tokenizer)
    except SeamountError as error:
        return _fail(target, error)

    def one(text: str) -> dict[str, Any]:
        given: Any = _json(text) if lines else text
        if not isinstance(given, str):
            raise BadRequest("The text cannot be split", "the line is not a JSON string", "correct it")
        return {"ids": vocabulary.encode_parsing(given) if parse_control else vocabulary.encode(given)}

    return _each(source, target, one, lines=lines)


def open_tokenizer(named: str | None) -> Tokenizer:
    """The official tokeniser, a tokenizer.json, or the vocabulary of a GGUF file."""
    if named is None:
        return official_tokenizer()
    path = Path(named).expanduser()
    if path.suffix.lower() == ".gguf":
        from engine.backends.llama_vocabulary import GgufVocabulary

        return GgufVocabulary.open(path)
    return OfficialTokenizer(path / "tokenizer.json" if path.is_dir() else path)


def _message(completion: Completion, *, strict: bool) -> dict[str, Any]:
    calls = completion.calls if strict else completion.usable_calls
    message: dict[str, Any] = {
        "role": "assistant",
        "content": completion.text,
        "reasoning_content": completion.reasoning,
        "tool_calls": [
            {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ],
    }
    if not strict:
        if completion.problems:
            message["problems"] = [{"code": p.code, "text": p.text} for p in completion.problems]
        rejected = [call for call in completion.calls if call.status == "rejected"]
        if rejected:
            message["rejected_calls"] = [
                {"name": call.name, "arguments": call.arguments, "problem": call.problem} for call in rejected
            ]
    return message


def _officially(messages: Any) -> Any:
    """Calls whose arguments are no text, as the official encoder takes them: one parameter `arguments`."""
    whole: Any = copy.deepcopy(messages)
    for message in _items(whole):
        for call in _items(_field(message, "tool_calls")):
            function = _field(call, "function")
            if not isinstance(_field(function, "arguments"), str | None):
                function["arguments"] = {"arguments": function["arguments"]}
    return whole


def _items(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _field(value: Any, key: str) -> Any:
    return cast(dict[str, Any], value).get(key) if isinstance(value, dict) else None


def _release(profile: str | None, fields: dict[str, Any]) -> Release:
    if profile is not None:
        return release(profile)
    named = str(fields.get("profile") or fields.get("encoder") or "preview")
    # The cases of the checkpoint name their encoder with its date behind it: "preview(...)", "0731/0813".
    return next((each for key, each in releases().items() if named.startswith(key)), None) or release(named)


def _style(chosen: Release, mode: ReasoningMode | None, fields: dict[str, Any]) -> Style:
    if mode is not None:
        return style_of(chosen, mode)
    thinking, effort = fields.get("thinking_mode", "thinking"), fields.get("reasoning_effort")
    if thinking not in ("chat", "thinking"):
        raise BadRequest(
            "The prompt cannot be written",
            f"its thinking_mode is {thinking!r}",
            'choose "chat" or "thinking"',
        )
    return Style(chosen, thinking=thinking == "thinking", effort=None if effort is None else str(effort))


def _each(source: TextIO, target: TextIO, one: Callable[[str], dict[str, Any]], *, lines: bool) -> int:
    texts: Iterable[str] = (line for line in source if line.strip()) if lines else (source.read(),)
    status = 0
    for text in texts:
        try:
            _require_utf8(text)
            _write(target, one(text))
        except SeamountError as error:
            status = _fail(target, error)
        except RecursionError:
            problem = BadRequest("The input cannot be read", "it is nested too deeply", "make it flatter")
            status = _fail(target, problem)
    target.flush()
    return status


def _require_utf8(text: str) -> None:
    if found := _UNDECODED.search(text):
        byte = ord(found.group()) - 0xDC00
        raise BadRequest(
            "The input cannot be read", f"the byte 0x{byte:02X} in it is not UTF-8", "convert it"
        )


def _fail(target: TextIO, error: SeamountError) -> int:
    body: dict[str, Any] = ErrorBody(code=error.code, text=error.text).model_dump(exclude_none=True)
    if isinstance(error, MalformedCompletion):
        body["problem"] = error.problem.code
    _write(target, {"error": body})
    return 1


def _write(target: TextIO, result: dict[str, Any]) -> None:
    # Lone surrogates can stand in JSON, but not in a stream of UTF-8.
    line = json.dumps(result, ensure_ascii=False)
    target.write(line.encode("utf-8", "replace").decode("utf-8") + "\n")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The input cannot be read", f"it is not JSON ({error})", "correct it") from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest("The input cannot be read", "it is not a JSON object", "see --help for its shape")
    return cast(dict[str, Any], value)
