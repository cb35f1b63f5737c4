"""Renders the chat template that a model file carries, as Hugging Face's transformers renders it.

Owns: the sandbox. A template is a program from a stranger's file, so it gets no loader, no attributes of
Python's own, a short list of filters and methods, and bounds: its size, the time it takes, the size of every
string and container it makes, and the sum of them. Does not know what a control token is (`prompt`).

How the bounds hold. Python code is stopped by a line tracer with a deadline. That cannot stop one long
operation inside the interpreter, so whatever can make much out of little (operators, `~`, slices, literals,
filters, methods, calls) goes through the environment, which looks at the size, and at the clock, first
(`template_bounds`). What is not known to be safe is refused.
"""

import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache, wraps
from threading import Lock
from types import BuiltinMethodType, FrameType, MethodType
from typing import Any, NoReturn, cast

from jinja2 import TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace, pass_environment

from engine.encoding.template_bounds import Bounds, OutOfTime, TooMuch
from engine.errors import ChatTemplateError

MAX_TEMPLATE_CHARACTERS = 262_144
"""The longest real templates have about 30,000."""
DEADLINE_S = 3.0
"""A thousand messages take about 0.05 s."""

_WHAT = "The model's chat template could not be used"
_REMEDY = "choose another file of this model, or another model"
_FILE = "<template>"  # what Jinja calls the code it makes of a template
_MAX_TIME_FORMAT = 100


class TemplateRefusal(ChatTemplateError):  # noqa: N818 - a kind of ChatTemplateError
    """The template itself refused the conversation with `raise_exception`."""


class _Refusal(TemplateError):  # noqa: N818 - named for what happened
    """Raised by `raise_exception` within a template."""


# --- what the code of a template may call -----------------------------------------------------------------

_TEXT_METHODS = frozenset(
    (
        *("capitalize", "casefold", "lower", "swapcase", "title", "upper"),
        *("count", "endswith", "find", "index", "rfind", "rindex", "startswith"),
        *(
            "isalnum",
            "isalpha",
            "isdecimal",
            "isdigit",
            "islower",
            "isnumeric",
            "isspace",
            "istitle",
            "isupper",
        ),
        *("lstrip", "removeprefix", "removesuffix", "rstrip", "strip"),
        *("partition", "rpartition", "rsplit", "split", "splitlines"),
    )
)
_METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS,
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
}
# Jinja's own; what they return is counted.
_JINJA_FILTERS = (
    *("abs", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length", "list"),
    *("map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "unique"),
)


def _raise_exception(message: object = "") -> NoReturn:
    raise _Refusal(str(message)[:300])


def _strftime_now(form: object) -> str:
    text = str(form)
    if len(text) > _MAX_TIME_FORMAT:
        raise TooMuch("it asks for a very long date")
    return datetime.now().strftime(text)  # the person's own clock, as in transformers


def _dict(*arguments: Any, **entries: Any) -> dict[Any, Any]:
    return dict(*arguments, **entries)


_GLOBALS: dict[str, Callable[..., Any]] = {
    "range": safe_range,
    "dict": _dict,
    "namespace": Namespace,
    "raise_exception": _raise_exception,
    "strftime_now": _strftime_now,
}


class _Code(CodeGenerator):
    """Makes the template's Python code, with everything that creates values going through the environment.

    Nothing is computed at compile time, when no bounds are in force.
    """

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.bounds.join((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._made(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._made(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "load":
            self._made(super().visit_Tuple, node, frame)
        else:  # a target of an assignment
            super().visit_Tuple(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        if isinstance(node.arg, nodes.Slice):
            self._made(super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_ScopedEvalContextModifier(  # noqa: N802
        self,
        node: nodes.ScopedEvalContextModifier,
        frame: Frame,  # noqa: ARG002 - Jinja's signature
    ) -> None:
        self.fail("autoescape is not allowed", node.lineno)

    def _made(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.bounds.made(")
        visit(node, frame)
        self.write(")")


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}`: marks for training in some templates; the body is rendered."""

    tags = {"generation"}  # noqa: RUF012 - declared so by Jinja

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))
    code_generator_class = _Code

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=[_Generation, loopcontrols],
            finalize=self._finalize,
        )
        self.bounds = Bounds(0)
        self.filters = _filters()
        self.globals = dict(_GLOBALS)

    def _finalize(self, value: Any) -> str:
        return self.bounds.text(value)

    def concat(self, parts: Iterable[str]) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What blocks of text (`{% set %}`, macros) are put together with."""
        return self.bounds.join(parts)

    def call_binop(
        self,
        context: Context,  # noqa: ARG002 - Jinja's signature
        operator: str,
        left: Any,
        right: Any,
    ) -> Any:
        """An arithmetic operator."""
        return self.bounds.binary(operator, left, right, self.binop_table[operator])

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Any call in a template: only what is listed above, macros and loops."""
        extra = {key: kwargs.pop(key) for key in ("_loop_vars", "_block_vars") if key in kwargs}
        self.bounds.items(*args, *kwargs.values())
        if isinstance(function, BuiltinMethodType):
            return self.bounds.made(self._call_method(function.__self__, function.__name__, args, kwargs))
        if not (
            isinstance(function, Macro | LoopContext | Undefined)
            or (isinstance(function, MethodType) and isinstance(function.__self__, LoopContext))
            or any(function is allowed for allowed in _GLOBALS.values())
        ):
            raise SecurityError("it calls what it may not call")
        return self.bounds.made(super().call(context, function, *args, **kwargs, **extra))

    def _call_method(self, value: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if isinstance(value, str) and name == "replace":
            return self.bounds.replace(value, *args, **kwargs)
        if isinstance(value, str) and name == "join":
            return self.bounds.join(*args, separator=value)
        if name not in _METHODS.get(cast("type[object]", type(value)), ()):
            raise SecurityError(f"it calls {name}, which is not allowed")
        return getattr(value, name)(*args, **kwargs)


def _filters() -> dict[str, Callable[..., Any]]:
    """The filters that real templates use. Text filters first make sure that they have a text."""

    def of_text(function: Callable[..., Any]) -> Callable[..., Any]:
        @pass_environment
        def wrapper(environment: _Sandbox, value: Any, *args: Any, **kwargs: Any) -> Any:
            bounds = environment.bounds
            return bounds.made(function(bounds, bounds.text(value), *args, **kwargs))

        return wrapper

    def plain(method: Callable[[str], str]) -> Callable[..., Any]:
        def apply(_bounds: Bounds, text: str) -> str:
            return method(text)

        return of_text(apply)

    def trim(_bounds: Bounds, text: str, chars: str | None = None) -> str:
        return text.strip(chars)

    def counted(name: str) -> Callable[..., Any]:
        function = cast(Callable[..., Any], FILTERS[name])

        # Jinja marks what a filter wants first: its context, which knows the environment, or that itself.
        @wraps(function)
        def wrapper(first: Any, *args: Any, **kwargs: Any) -> Any:
            environment: _Sandbox = getattr(first, "environment", first)
            return environment.bounds.made(function(first, *args, **kwargs))

        if hasattr(function, "jinja_pass_arg"):
            return wrapper

        @pass_environment
        def with_environment(environment: _Sandbox, *args: Any, **kwargs: Any) -> Any:
            return environment.bounds.made(function(*args, **kwargs))

        return with_environment

    @pass_environment
    def join(environment: _Sandbox, value: Any, d: Any = "", attribute: Any = None) -> str:
        items = value if attribute is None else map(make_attrgetter(environment, attribute), value)
        return environment.bounds.join(items, environment.bounds.text(d))

    @pass_environment
    def tojson(environment: _Sandbox, value: Any, **options: Any) -> str:
        return environment.bounds.json(value, options)

    @pass_environment
    def format_(environment: _Sandbox, value: Any, *args: Any, **kwargs: Any) -> str:
        return environment.bounds.percent(environment.bounds.text(value), kwargs or args)

    return {
        **{name: counted(name) for name in _JINJA_FILTERS},
        "capitalize": plain(str.capitalize),
        "lower": plain(str.lower),
        "upper": plain(str.upper),
        "title": plain(str.title),
        "string": plain(str),
        "safe": plain(str),
        "trim": of_text(trim),
        "replace": of_text(Bounds.replace),
        "indent": of_text(Bounds.indent),
        "join": join,
        "tojson": tojson,
        "format": format_,
    }


# --- rendering --------------------------------------------------------------------------------------------


class ChatTemplate:
    """A compiled template. Made by `compile_template`."""

    def __init__(self, source: str) -> None:
        self._sandbox = _Sandbox()
        # One rendering at a time: the environment holds the bounds of the one in progress.
        self._lock = Lock()
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise _error(f"it has more than {MAX_TEMPLATE_CHARACTERS:,} characters")
        with _stopped_after(DEADLINE_S, compiling=True):
            self._template = self._sandbox.from_string(source)

    def render(self, messages: list[dict[str, str]], values: Mapping[str, Any]) -> str:
        """The text of `messages` (role and content each); `values` are the template's other variables.

        Raises ChatTemplateError; TemplateRefusal when the template itself refuses the conversation.
        """
        with self._lock:
            given = sum(len(text) for message in messages for text in message.values())
            bounds = Bounds(given, time.perf_counter() + DEADLINE_S)
            self._sandbox.bounds = bounds
            parts: list[str] = []
            with _stopped_after(DEADLINE_S):
                bounds.know([*messages, messages])
                for part in self._template.generate(messages=messages, **values):
                    bounds.charge(len(part))
                    parts.append(part)
                return bounds.join(parts)


@lru_cache(maxsize=4)
def compile_template(source: str) -> ChatTemplate:
    """The compiled template. Raises ChatTemplateError."""
    return ChatTemplate(source)


def require_template(source: str | None) -> str:
    """`source`, or ChatTemplateError when the model has no template."""
    if source is None or not source.strip():
        raise ChatTemplateError(
            "This model cannot hold a conversation",
            "its file has no chat template: it is a base model, or was converted without one",
            'choose a version of it that is called "instruct" or "chat"',
        )
    return source


def _error(why: str) -> ChatTemplateError:
    return ChatTemplateError(_WHAT, why, _REMEDY)


@contextmanager
def _stopped_after(seconds: float, *, compiling: bool = False) -> Generator[None]:
    """Run template code under a deadline, turning whatever it raises into ChatTemplateError.

    The tracer belongs to this thread; one that was set before, a debugger's, is put back.
    """
    deadline_s = time.perf_counter() + seconds

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        ours = frame.f_code.co_filename == _FILE
        # Python switches a tracer off that has raised. Raised in what the collector happens to clean up, it
        # would be swallowed as well, so it is raised in lines of the template alone. Compiling is Jinja's own
        # code and ends; there it is raised at the next call, and the clock is looked at once more afterwards.
        if (compiling or (ours and event == "line")) and time.perf_counter() > deadline_s:
            raise OutOfTime
        return trace if ours else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
        if compiling and time.perf_counter() > deadline_s:
            raise OutOfTime
    except OutOfTime:
        raise _error(f"it took more than {seconds:g} s") from None
    except _Refusal as refusal:
        raise TemplateRefusal(
            "The model's chat template does not accept this conversation",
            str(refusal) or "it gives no reason",
            "change the conversation or its system message, or choose another model",
        ) from None
    except RecursionError:
        raise _error("it calls itself without end") from None
    except MemoryError:
        raise _error("it needs too much memory") from None
    except Exception as error:
        # A template is a program: it can raise anything.
        raise _error((str(error) or type(error).__name__)[:300].rstrip(".")) from error
    finally:
        sys.settrace(before)
