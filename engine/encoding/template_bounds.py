"""How much a chat template may make.

Owns: the size of strings and containers that a sandboxed template creates, each by itself and all together,
looked at before they are made. Does not know Jinja's syntax (`chat_template`).
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from jinja2.runtime import Undefined

MAX_ITEMS = 100_000
"""Values in one container, counted with everything in it."""
MAX_DEPTH = 64
MAX_NUMBER_BITS = 4096
MAX_INDENT = 64
_BASE_CHARACTERS = 1_000_000
_BASE_BUDGET = 64_000_000
_ITEM_COST = 4  # characters that an item of a container counts for in the budget
_ESCAPED = 10  # a character is at most \U0010ffff in a repr, \ud83d\ude00 in JSON

_CONTAINERS = (list, tuple, dict)
_PERCENT = re.compile(r"%(?:\([^)]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")


class TooMuch(Exception):  # noqa: N818 - named for what happened
    """A template would make something too large, or do what is not allowed."""


class OutOfTime(BaseException):
    """The rendering has taken its time. Not an Exception: no `except Exception` on the way may swallow it."""


class Bounds:
    """The bounds of one rendering. Every method raises TooMuch, and OutOfTime after the deadline."""

    def __init__(self, given_characters: int, deadline_s: float = math.inf) -> None:
        """`given_characters`: length of all texts that the template is given; it may write each twice.

        `deadline_s`: on the clock of `time.perf_counter`.
        """
        self._deadline_s = deadline_s
        self._longest = _BASE_CHARACTERS + 2 * given_characters
        self._left = _BASE_BUDGET + 16 * given_characters
        self._known: dict[int, int] = {}

    def know(self, values: Iterable[Any]) -> None:
        """Weigh containers once that stay alive and unchanged during the rendering: the messages."""
        for value in values:
            if id(value) not in self._known:
                self._known[id(value)] = self.items(value)

    def charge(self, characters: int) -> None:
        """A string of this length is about to be made."""
        if time.perf_counter() > self._deadline_s:
            raise OutOfTime
        if characters > self._longest:
            raise TooMuch(f"it makes a text of more than {self._longest:,} characters")
        self._left -= characters
        if self._left < 0:
            raise TooMuch("it makes too much text altogether")

    def made(self, value: Any) -> Any:
        """Count a string or container that was made of what was there; `value`."""
        if isinstance(value, str):
            self.charge(len(value))
        elif isinstance(value, _CONTAINERS):
            container = cast(list[Any], value)
            self.items(container)
            self.charge(_ITEM_COST * len(container))
            return container
        return value

    def items(self, *values: Any) -> int:
        """How many values `values` hold, each counted as often as it would be met when walking through."""
        if time.perf_counter() > self._deadline_s:
            raise OutOfTime
        count = len(values)
        waiting: list[tuple[Any, int]] = [(value, 0) for value in values if isinstance(value, _CONTAINERS)]
        while waiting:
            value, depth = waiting.pop()
            known = self._known.get(id(value))
            if known is not None:
                count += known - 1  # it counts itself
            else:
                count += len(value) * (2 if isinstance(value, dict) else 1)
            if count > MAX_ITEMS:
                raise TooMuch(f"it makes a list of more than {MAX_ITEMS:,} values")
            if depth > MAX_DEPTH:
                raise TooMuch(f"it nests values more than {MAX_DEPTH} deep")
            if known is None:
                waiting += [(item, depth + 1) for item in _members(value) if isinstance(item, _CONTAINERS)]
        return count

    def text(self, value: Any) -> str:
        """`str(value)` of values whose length can be told beforehand."""
        if isinstance(value, str):
            return value
        self.charge(self._characters(value))
        return str(value)

    def join(self, values: Iterable[Any], separator: str = "") -> str:
        """The texts of `values` put together."""
        texts = [self.text(value) for value in islice(values, MAX_ITEMS + 1)]
        if len(texts) > MAX_ITEMS:
            raise TooMuch(f"it joins more than {MAX_ITEMS:,} texts")
        self.charge(sum(map(len, texts)) + len(separator) * len(texts))
        return separator.join(texts)

    def replace(self, text: str, old: Any, new: Any, count: Any = -1) -> str:
        """`text.replace`."""
        old, new, count = self.text(old), self.text(new), -1 if count is None else int(count)
        found = text.count(old) if count < 0 else min(text.count(old), count)
        self.charge(len(text) + found * max(0, len(new) - len(old)))
        return text.replace(old, new, count)

    def indent(self, text: str, width: Any = 4, first: bool = False, blank: bool = False) -> str:
        """Put `width` spaces, or the text `width`, before each line but the first and the blank ones."""
        prefix = width if isinstance(width, str) else " " * self._small(width)
        lines = text.splitlines() or [""]
        self.charge(len(text) + len(prefix) * len(lines))
        rest = [prefix + line if line or blank else line for line in lines[1:]]
        ending = "\n" if text.endswith("\n") else ""
        return "\n".join([(prefix if first else "") + lines[0], *rest]) + ending

    def json(self, value: Any, options: Mapping[str, Any]) -> str:
        """`value` as JSON, as transformers' `tojson` writes it: not ASCII only, nothing escaped for HTML."""
        indent = options.get("indent")
        width = len(indent) if isinstance(indent, str) else 0 if indent is None else self._small(indent)
        self.charge(self._characters(value) + self.items(value) * width * MAX_DEPTH)
        return json.dumps(
            value,
            ensure_ascii=bool(options.get("ensure_ascii", False)),
            indent=indent,
            separators=options.get("separators"),
            sort_keys=bool(options.get("sort_keys", False)),
        )

    def percent(self, form: str, values: Any) -> str:
        """`form % values` without large widths."""
        for width, precision in _PERCENT.findall(form):
            if "*" in (width, precision) or len(width) > 3 or len(precision) > 3:
                raise TooMuch("it asks for very wide formatting")
        self.charge(len(form) + form.count("%") * (1000 + self._characters(values)))
        return form % values

    def binary(self, operator: str, left: Any, right: Any, plain: Callable[[Any, Any], Any]) -> Any:
        """An arithmetic operator; on strings and containers, + * and % make new ones."""
        if operator == "%" and isinstance(left, str):
            return self.percent(left, right)
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple) and isinstance(other, int):
                    self._repeat(cast("Sequence[Any]", one), other)
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            self.charge(len(left) + len(right))
        elif operator == "+" and isinstance(left, list | tuple):
            self.items(cast(Any, left), right)
            self.charge(_ITEM_COST * (len(cast(list[Any], left)) + MAX_DEPTH))
        elif operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_NUMBER_BITS:
                raise TooMuch("it computes with very large numbers")
        return plain(left, right)

    def _repeat(self, one: "Sequence[Any]", times: int) -> None:
        if times <= 0:
            return
        if isinstance(one, str):
            self.charge(len(one) * times)
        elif self.items(one) * times > MAX_ITEMS:
            raise TooMuch(f"it makes a list of more than {MAX_ITEMS:,} values")

    def _small(self, width: Any) -> int:
        if not isinstance(width, int) or not 0 <= width <= MAX_INDENT:
            raise TooMuch(f"it indents by more than {MAX_INDENT}")
        return width

    def _characters(self, value: Any) -> int:
        """An upper bound for the length of `str(value)` and of its JSON."""
        self.items(value)
        count, waiting = 0, [value]
        while waiting:
            value = waiting.pop()
            if isinstance(value, str):
                count += _ESCAPED * len(value) + 4
            elif isinstance(value, _CONTAINERS):
                count += 4
                waiting += _members(value)
            elif isinstance(value, int):
                count += value.bit_length() // 3 + 8
            elif value is None or isinstance(value, float | Undefined):
                count += 32
            else:
                raise TooMuch(f"it writes out a value of type {type(value).__name__}")
        return count


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        mapping = cast(dict[Any, Any], value)
        return [*mapping.keys(), *mapping.values()]
    return list(value)
