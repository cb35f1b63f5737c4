"""The V4 half of `make screenshots`: thinking, modes, calls and their results, in the real window.

The script below gives a scripted DeepSeek-V4 something to say that looks like what a real one says.
"""

from collections.abc import Callable
from typing import Any

from PySide6.QtWidgets import QDialog

from app.views.result_field import ResultField
from app.views.thinking_part import ThinkingPart
from engine.protocol import Tool
from tests.end_to_end.live_window import LiveWindow
from tests.integration.v4_script import BROAD_CONTEXT, TOOLS, D, block, call

Take = Callable[..., None]
CONTEXT_TOKENS = BROAD_CONTEXT

REASONING = """\
The person asks for the weather in two cities and wants it kept in a file. I have two tools for that:
`get_weather` takes one city, so I call it twice; `write_file` has to wait until both have answered.

1. Ask for Paris and for Rome, in one go.
2. Compare the two.
3. Write a short note, in the person's own words.

If one of the calls fails I should say so rather than guess. Rome in June is usually the warmer of the two, but
"usually" is not what was asked. Temperatures come in degrees Celsius, so there is nothing to convert.
"""
THOUGHT = """\
Why is the sky blue? It is Rayleigh scattering: the strength goes with the inverse fourth power of the
wavelength, so 450 nm is scattered about **4.4 times** as much as 650 nm.

Why then is it not violet?

- The sun gives less violet than blue,
- the upper air takes some of it,
- and our eyes answer to it more weakly.

I should keep this short, give the formula, and name the one thing that people usually get wrong.
"""
ANSWER = """\
Because air scatters short waves far more than long ones. The strength goes as 1/λ⁴:

| colour | wavelength | scattered |
|---|---:|---:|
| blue | 450 nm | 4.4 |
| red | 650 nm | 1.0 |

Violet is scattered even more, but there is less of it in sunlight, and our eyes see it less well.
"""
NOTE = (
    "Paris: 22 °C, a light breeze from the west.\nRome: 25 °C, clear.\n\nRome is three degrees warmer today."
)
V4_TALK: dict[str, Any] = {
    "name": "DeepSeek-V4-Flash",
    "context_tokens": 1_048_576,
    "release": "preview",
    "title": "Weather in Two Cities",
    "replies": [
        {"match": "not carried out", "text": "One city at a time, then.</think>I ask again, for Bern alone."
         + block(call("get_weather", city="Bern"))},
        {"match": "Paris and in Rome", "text": REASONING + "</think>I look up both cities first."
         + block(call("get_weather", city="Paris"), call("get_weather", city="Rome"))},
        {"match": "light breeze", "text": "Both are here. Now the note.</think>"
         + block(call("write_file", path="notes/weather.txt", content=NOTE))},
        {"match": "bytes written", "text": "All is done.</think>Rome is the warmer one today: **25 °C**, against "
         "22 °C in Paris. Both are in `notes/weather.txt`."},
        {"match": "note of it", "text": "A short one.</think>" + block(call("write_file", path="notes/log.txt",
         content=NOTE)), "delay_s": 0.004},
        {"match": "two at once", "text": "Hm.</think>I ask for both." + block(
            f'<{D}invoke name="get_weather">\n<{D}parameter name="city" string="true">Bern</{D}parameter>\n'
            f'<{D}parameter name="city" string="true">Basel</{D}parameter>\n</{D}invoke>\n')},
        {"match": "ponder", "text": THOUGHT * 3 + "</think>" + ANSWER, "delay_s": 0.004},
        {"match": "circles", "text": "Round and round we go, for ever. " * 400 + "</think>I was going in circles."},
        {"mode": "non-think", "text": ANSWER},
        {"mode": "think", "text": THOUGHT + "</think>" + ANSWER},
    ],
}  # fmt: skip


def _fields(window: LiveWindow) -> list[ResultField]:
    found = window.window.transcript.findChildren(ResultField)
    return [field for field in found if field.isVisible()]


def _answer(window: LiveWindow, *texts: str) -> None:
    """Write the results and send them; wait for the next answer."""
    window.wait(lambda: len(_fields(window)) == len(texts))
    for field, text in zip(_fields(window), texts, strict=True):
        field.setPlainText(text)


def _send(window: LiveWindow) -> None:
    before = window.answer().id
    _fields(window)[-1].send_pressed.emit()
    window.wait(lambda: window.answer().id != before)
    window.wait_for_end()


def _thinking(window: LiveWindow) -> ThinkingPart:
    return window.window.transcript.findChildren(ThinkingPart)[-1]


def _dialog(window: LiveWindow, take: Take, action: str, state: str) -> None:
    window.do(action)
    window.wait(lambda: bool(window.window.findChildren(QDialog)))
    [dialog] = window.window.findChildren(QDialog)
    take(state, dialog)
    dialog.close()
    window.wait(lambda: not window.window.findChildren(QDialog))


def tour(window: LiveWindow, take: Take) -> None:
    """Thinking, modes, calls. `take(state, widget)` takes a picture."""
    window.wait(window.window.switch.isVisible)
    window.do("mode_high")
    window.ask("Please ponder why the sky is blue")
    window.wait(lambda: bool(window.shown()) and len(window.answer().reasoning) > 300)
    take("v1-thinking-closed")
    _thinking(window).header.click()
    window.wait(lambda: len(window.answer().reasoning) > 700)
    take("v2-thinking-open")
    window.do("stop")
    window.wait_for_end()
    take("v3-thinking-stopped")
    window.desk.conversation.new()
    window.ask("Why is the sky blue?")
    window.wait_for_end()
    take("v4-answer-thought-closed")
    _thinking(window).header.click()
    take("v5-answer-thought-open")
    switch, modes = window.window.switch, window.desk.setup.modes
    switch.menu().popup(switch.mapToGlobal(switch.rect().bottomLeft()))
    window.wait(lambda: len(modes.costs) == len(modes.choices))
    take("v6-mode-menu", switch.menu())
    switch.menu().hide()
    _call_tour(window, take)


def _call_tour(window: LiveWindow, take: Take) -> None:
    window.desk.conversation.new()
    tools = [Tool.model_validate(tool) for tool in TOOLS]
    window.desk.conversation.tools.save(tools, lambda: None, lambda _: None)
    _dialog(window, take, "tools", "v7-tools")
    window.ask("The weather in Paris and in Rome, please, and keep it in a file")
    window.wait_for_end()
    window.wait(lambda: len(_fields(window)) == 2)
    take("v8-calls-await-results")
    _answer(
        window, "22 °C, a light breeze from the west", '{"temperature": 25, "sky": "clear", "wind": null}'
    )
    take("v9-results-written")
    _send(window)
    _answer(window, "104 bytes written")
    take("v10-second-call")
    _send(window)
    take("v11-after-the-results")
    window.ask("Write a note of it once more")
    window.wait(
        lambda: bool(window.answer().tool_calls) and len(window.answer().tool_calls[0].arguments) > 60
    )
    take("v12-call-being-written")
    window.wait_for_end()
    window.desk.conversation.new()
    window.desk.conversation.tools.save(tools, lambda: None, lambda _: None)
    window.ask("Bern and Basel, two at once")
    window.wait_for_end()
    window.wait(lambda: len(_fields(window)) == 1)
    take("v13-rejected-call")
    window.do("mode_high")
    window.ask("Walk in circles, please")
    window.wait_for_end()
    take("v14-loop-guard")
    _dialog(window, take, "settings", "v15-settings")


def small_tour(window: LiveWindow, take: Take) -> None:
    """A context too small for Think-Max."""
    window.wait(window.window.switch.isVisible)
    window.do("mode_non_think")
    window.do("mode_max")
    window.wait(lambda: bool(window.sentences()))
    take("v16-think-max-refused")
    window.ask("words " * 2000)
    window.wait_for_end()
    take("v17-prompt-too-long")
