import sys
import threading
import time
from collections.abc import Generator
from types import FrameType
from typing import Any

import pytest

import engine.encoding.chat_template as chat_template
from engine.encoding.chat_template import ChatTemplate, TemplateRefusal, compile_template, require_template
from engine.encoding.template_bounds import Bounds, OutOfTime
from engine.errors import ChatTemplateError

CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi <b>&\u00e9"},
    {"role": "assistant", "content": "Yes."},
]

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# In the manner of Llama 3, Gemma and Qwen: what real templates use.
LLAMA_LIKE = """\
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|system|>" ~ system_message }}
{%- set ns = namespace(count=0, names=[]) %}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate") }}
    {%- endif -%}
    {%- if tools is not none and tools is iterable %}never{% endif %}
    {%- set ns.count = ns.count + 1 %}
    {%- set ns.names = ns.names + [message.role] %}
    {%- if '</think>' in message.content %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
    {%- else %}
        {%- set content = message.content %}
    {%- endif %}
    {{- '<|' + message.role + '|>' + content | trim + '<|end|>' }}
    {%- if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}
{%- endfor %}
{{- ns.count }}{{ ns.names|join(',') }}"""


def growing(start: str, step: str) -> str:
    loop = f"{{% for i in range(64) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
    return f"{{% set ns = namespace(x={start}) %}}{loop}"


def render(source: str, **values: Any) -> str:
    return ChatTemplate(source).render(CONVERSATION, values)


def refused(source: str, **values: Any) -> str:
    with pytest.raises(ChatTemplateError) as caught:
        render(source, **values)
    return caught.value.text


def test_a_plain_template() -> None:
    assert render(CHATML, add_generation_prompt=True) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <b>&\u00e9<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_with_everything_that_real_ones_use() -> None:
    assert render(LLAMA_LIKE, bos_token="<s>", tools=None, add_generation_prompt=True) == (
        "<s><|system|>Be kind.<|user|>Hi <b>&\u00e9<|end|>"
        "<|assistant|>Yes.<|end|><|assistant|>2user,assistant"
    )


def test_blocks_are_trimmed_like_transformers() -> None:
    assert render("  {% if true %}\na\n  {% endif %}\nb\n") == "a\nb"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ {'a': '<é&\\''}|tojson }}", '{"a": "<é&\'"}'),
        ("{{ [1, {'b': none}]|tojson(indent=2) }}", '[\n  1,\n  {\n    "b": null\n  }\n]'),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{% macro m(a, b='2') %}{{ a }}{{ b }}{{ varargs }}{% endmacro %}{{ m(1) }}{{ m(1, 3, 4) }}",
         "12()13(4,)"),
        ("{% set x %}a{{ 1 }}{% endset %}{{ x * 2 }}{{ x[::-1] }}", "a1a11a"),
        ("{{ 'a,b'.split(',')|last }}{{ 'xay'.replace('a', 'bb') }}{{ '-'.join(['1', '2']) }}", "bxbby1-2"),
        ("{{ {'k': 1}.items()|list }}{{ {'k': 1}.get('z', 5) }}{{ {'b': 1, 'a': 2}|dictsort }}",
         "[('k', 1)]5[('a', 2), ('b', 1)]"),
        ("{{ messages|map(attribute='role')|join('/') }}{{ messages|length }}", "system/user/assistant3"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first }}",
         "Hi <b>&\u00e9"),
        ("{{ 'a\nb\n'|indent(2) }}{{ 'a'|upper }}{{ ' x '|trim }}{{ '<'|safe }}", "a\n  b\nAx<"),
        ("{{ '%s-%05.2f' % ('a', 1.5) }}{{ '%s'|format(3) }}{{ 7 // 2 }}{{ 2 ** 3 }}{{ nothing }}",
         "a-01.50338"),
        ("{% filter upper %}a{% endfilter %}{% call(x) m() %}{{ x }}{% endcall %}"
         "{% macro m() %}{{ caller(1) }}{% endmacro %}", None),
        ("{{ loop.cycle }}{% for m in messages %}{{ loop.cycle('a', 'b') }}{% endfor %}", None),
        ("{% for m in messages %}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{% endfor %}",
         "aTruebTrueaTrue"),
        ("{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"),
    ],
)  # fmt: skip
def test_what_templates_may_do(source: str, expected: str | None) -> None:
    if expected is None:  # wrong in plain Jinja too
        refused(source)
    else:
        assert render(source) == expected


def test_the_date(monkeypatch: pytest.MonkeyPatch) -> None:
    assert render("{{ strftime_now('%Y') }}") == time.strftime("%Y")
    assert "very long date" in refused("{{ strftime_now('%d' * 100) }}")


def test_the_templates_own_refusal_is_told_in_its_words() -> None:
    with pytest.raises(TemplateRefusal, match="System role not supported") as caught:
        render("{{ raise_exception('System role not supported') }}")
    assert "choose another model" in caught.value.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{{ 'x' * 10**10 }}",
        "{{ 10**10 * 'x' }}",
        "{{ [1] * 10**10 }}",
        "{{ 'x' * 1000000 * 1000000 }}",
        "{{ 2**10**9 }}{{ 2**(10**9) }}",
        "{% set ns = namespace(n=3) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
        "{{ 'x'|center(1000000000) }}",
        "{{ 'x'.center(1000000000) }}",
        "{{ 'x'.ljust(1000000000) }}{{ 'x'.zfill(1000000000) }}",
        "{{ '\t'.expandtabs(1000000000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1.0 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x'|indent(1000000000) }}",
        "{{ messages|tojson(indent=1000000000) }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{{ range(99999)|list * 99 }}",
        growing("'aaaa'", "ns.x ~ ns.x"),
        growing("'aaaa'", "ns.x + ns.x"),
        growing("'a'", "ns.x.replace('a', 'aa')"),
        growing("'a'", "ns.x|replace('a', 'aa')"),
        growing("'a'", "[ns.x, ns.x]|join"),
        growing("'a'", "ns.x.join([ns.x, ns.x])"),
        "{% set ns = namespace(x='a') %}{% for i in range(64) %}"
        "{% set b %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = b %}{% endfor %}",
        growing("'a'", "'%s%s' % (ns.x, ns.x)"),
        growing("[1]", "ns.x + ns.x"),
        growing("[1]", "[ns.x, ns.x]"),
        growing("[1]", "(ns.x, ns.x)"),
        growing("1", "{1: ns.x, 2: ns.x}"),
        growing("1", "dict(a=ns.x, b=ns.x)"),
        "{% set ns = namespace(x=[1]) %}{% macro f() %}{% set ns.x = varargs %}{% endmacro %}"
        "{% for i in range(64) %}{{ f(ns.x, ns.x) }}{% endfor %}",
        growing("[1]", "[none, none]|map('default', ns.x, true)|list"),
        "{% for i in range(99999) %}{{ 'x' * 900000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ lipsum(100000) }}{{ lipsum.x }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if true %}" * 500 + "{% endif %}" * 500,
        "{{ " + "9" * 5000 + " }}",
        "x" * (chat_template.MAX_TEMPLATE_CHARACTERS + 1),
        "{{ namespace() }}",
        "{% autoescape true %}{{ '<' * 10 }}{% endautoescape %}",
    ],
)  # fmt: skip
def test_attacks_are_refused_at_once(source: str) -> None:
    text = refused(source)
    assert text.startswith("The model's chat template could not be used: ")
    # Refused for what it does, not for how long it takes.
    assert "it took more than" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% for i in range(9) %}{{ f(n - 1) if n else '' }}{% endfor %}{% endmacro %}"
        "{{ f(50) }}",
        "{% for i in range(99999) %}{% for j in 'x' * 999999 %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{{ range(99999)|map('string')|select|first }}{{ range(99999)|sort|last }}"
        "{% endfor %}",
    ],
)
def test_endless_work_is_stopped_by_the_clock(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "DEADLINE_S", 0.3)
    assert "took more than 0.3 s" in refused(source)


def test_the_clock_survives_what_the_collector_cleans_up() -> None:
    """A tracer that raised in a generator being destroyed was swallowed, and switched off with it."""

    def suspended() -> Generator[None]:
        yield

    generator = suspended()
    next(generator)
    with chat_template._stopped_after(0.0):
        del generator  # closes it, which calls the tracer in its frame
        assert sys.gettrace() is not None
    # What goes through the environment looks at the clock by itself.
    bounds = Bounds(0, time.perf_counter())
    for stopped in (lambda: bounds.charge(1), lambda: bounds.made([]), lambda: bounds.join([])):
        with pytest.raises(OutOfTime):
            stopped()


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ messages.__class__.__base__ }}",
        "{{ raise_exception.__globals__['sys'] }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ messages|map(attribute='__class__')|map(attribute='__mro__')|list }}",
        "{{ self._TemplateReference__context.environment }}",
        "{{ ''|attr('__class__') }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{% extends 'x' %}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ messages[0].pop('role') }}",
        "{% set f = messages.clear %}{{ f() }}",
        "{{ (1).to_bytes(1000000000, 'big') }}",
        "{{ 'x'.encode('utf-8') }}",
        "{{ 'x'.translate({120: 'y' * 900000}) }}",
    ],
)
def test_escapes_are_refused(source: str) -> None:
    before = [dict(message) for message in CONVERSATION]
    refused(source)
    assert before == CONVERSATION


def test_nothing_is_computed_while_compiling() -> None:
    # Jinja folds constants when it compiles; that would happen outside the bounds of a rendering.
    compiled = ChatTemplate("{{ 'x'|replace('x', 'y' * 999999999) }}{{ ['a', 'b']|join('-') }}")
    with pytest.raises(ChatTemplateError, match="more than"):
        compiled.render([], {})


def test_long_conversations_render_within_the_deadline() -> None:
    messages = [{"role": "user", "content": "word " * 400}] * 2000
    text = compile_template(CHATML).render(messages, {})
    assert len(text) > 2000 * 2000


def test_bounds_grow_with_the_conversation() -> None:
    assert len(ChatTemplate(CHATML).render([{"role": "user", "content": "x" * 3_000_000}], {})) > 3_000_000


def test_missing_templates_say_what_to_do() -> None:
    for source in (None, "", "  \n"):
        with pytest.raises(ChatTemplateError) as caught:
            require_template(source)
        assert "base model" in caught.value.text
        assert '"instruct" or "chat"' in caught.value.text


def test_a_tracer_that_was_there_is_put_back() -> None:
    calls: list[str] = []

    def debugger(frame: FrameType, event: str, argument: object) -> None:
        calls.append(frame.f_code.co_name)

    before = sys.gettrace()
    sys.settrace(debugger)
    try:
        render("{{ 1 }}")
        after_success = sys.gettrace()
        refused("{{ 'x' * 10**10 }}")
        after_failure = sys.gettrace()
    finally:
        sys.settrace(before)
    assert after_success is debugger
    assert after_failure is debugger
    assert calls


def test_the_tracer_is_put_back_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "DEADLINE_S", 0.05)
    before = sys.gettrace()
    refused("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert sys.gettrace() is before


def test_one_compiled_template_serves_two_threads() -> None:
    compiled = compile_template(CHATML)
    results: list[str] = []

    def work(name: str) -> None:
        results.extend(compiled.render([{"role": name, "content": name * 50}], {}) for _ in range(20))

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(set(results)) == [f"<|im_start|>{n}\n{n * 50}<|im_end|>\n" for n in "ab"]
