"""Tools as a person writes them: a JSON array in OpenAI's shape.

Owns: reading such text with one sentence about what is wrong with it, and writing tools back. Pure; does not
know where tools are kept, and never runs one.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn, cast

from engine.protocol import Tool

MOST_TOOLS = 256
MOST_CHARS = 500_000
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_KINDS = (
    (dict, "an object"),
    (list, "an array"),
    (str, "a text"),
    (bool, "a truth value"),
    ((int, float), "a number"),
)


class ToolTextError(ValueError):
    """What is wrong with the text, as one sentence."""


def tools_of(text: str) -> list[Tool]:
    """The tools in `text`, none in an empty one. Raises ToolTextError."""
    if not text.strip():
        return []
    if len(text) > MOST_CHARS:
        raise ToolTextError(f"This is longer than {MOST_CHARS:,} characters.")
    items = _parsed(text)
    if not isinstance(items, list):
        raise ToolTextError(f"This is not an array but {_kind(items)}: put the tools between [ and ].")
    tools = [_tool(item, number) for number, item in enumerate(cast("list[Any]", items), start=1)]
    if len(tools) > MOST_TOOLS:
        raise ToolTextError(f"There are {len(tools)} tools; a conversation can have {MOST_TOOLS}.")
    seen: dict[str, int] = {}
    for number, tool in enumerate(tools, start=1):
        name = tool.function["name"]
        if name in seen:
            raise ToolTextError(f"Tools {seen[name]} and {number} are both named “{name}”.")
        seen[name] = number
    return tools


def text_of(tools: Sequence[Tool]) -> str:
    """The tools as text that `tools_of` reads; "" for none."""
    if not tools:
        return ""
    return json.dumps([tool.model_dump() for tool in tools], indent=2, ensure_ascii=False)


def count_words(count: int) -> str:
    """ "1 tool", "2 tools"."""
    return f"{count} tool" if count == 1 else f"{count} tools"


def _refuse_constant(name: str) -> NoReturn:
    raise ToolTextError(f"This is not JSON: it has no {name}.")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ToolTextError(f"The number {digits[:20]} is too large.")
    return number


def _parsed(text: str) -> Any:
    try:
        items = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
        json.dumps(items, ensure_ascii=False).encode()
        return items
    except UnicodeEncodeError:
        raise ToolTextError("A text in it holds half a character, which cannot be sent.") from None
    except json.JSONDecodeError as error:
        why = error.msg[:1].lower() + error.msg[1:]
        raise ToolTextError(f"This is not JSON: line {error.lineno}, column {error.colno}: {why}.") from None
    except RecursionError:
        raise ToolTextError("This is nested too deeply.") from None
    except ToolTextError:
        raise
    except ValueError:
        raise ToolTextError("This is not JSON: it holds a number that is too long.") from None


def _tool(item: Any, number: int) -> Tool:
    where = f"Tool {number}"
    if not isinstance(item, dict):
        raise ToolTextError(f"{where} is not an object but {_kind(item)}.")
    fields = cast("dict[str, Any]", item)
    if fields.get("type", "function") != "function":
        raise ToolTextError(f"{where} is of type {json.dumps(fields['type'])}; only “function” is known.")
    if not isinstance(fields.get("function"), dict):
        raise ToolTextError(f"{where} has no “function” object.")
    function = cast("dict[str, Any]", fields["function"])
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ToolTextError(f"{where} has no function.name.")
    if not _NAME.fullmatch(name):
        raise ToolTextError(f"{where}: the name “{name[:40]}” may have letters, digits and _ - . : only.")
    if not isinstance(function.get("description", ""), str):
        raise ToolTextError(f"{where}, “{name}”: the description is not a text.")
    if not isinstance(function.get("parameters", {}), dict):
        raise ToolTextError(f"{where}, “{name}”: the parameters are not an object (a JSON Schema).")
    return Tool(function=function)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    # A truth value is a number to isinstance, so it stands first.
    return next(words for kind, words in _KINDS if isinstance(value, kind))
