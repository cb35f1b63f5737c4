"""Settings of the usual clients, ready to be pasted.

Owns: the texts, with this engine's address and a model's id in them, quoted as each language wants it. A key's secret
is never in one: what stands in its place says so. Pure; asks nobody.
"""

import json
import shlex
from dataclasses import dataclass

from app.access_words import anthropic_url

KEY = "YOUR-KEY"
"""Stands where the secret belongs."""
ANY_MODEL = "MODEL"
"""Stands where no model is loaded."""


@dataclass(frozen=True)
class Recipe:
    """`note`: where `text` belongs."""

    name: str
    note: str
    text: str


def recipes(base_url: str, model_id: str | None) -> list[Recipe]:
    """For a base URL that ends in /v1, and the model that is loaded."""
    model = model_id or ANY_MODEL
    return [
        Recipe("OpenAI SDK", "Python, with the package openai.", _openai(base_url, model)),
        Recipe("Anthropic SDK", "Python, with the package anthropic.", _anthropic(base_url, model)),
        Recipe("Claude Code", "In a shell, before it is started.", _claude_code(base_url, model)),
        Recipe("Codex", "In ~/.codex/config.toml; the key in the environment.", _codex(base_url, model)),
        Recipe("curl", "In a shell.", _curl(base_url, model)),
    ]


def _openai(base_url: str, model: str) -> str:
    return f"""\
from openai import OpenAI

client = OpenAI(base_url={json.dumps(base_url)}, api_key="{KEY}")
answer = client.chat.completions.create(
    model={json.dumps(model)},
    messages=[{{"role": "user", "content": "Hello"}}],
)
print(answer.choices[0].message.content)
"""


def _anthropic(base_url: str, model: str) -> str:
    return f"""\
from anthropic import Anthropic

client = Anthropic(base_url={json.dumps(anthropic_url(base_url))}, api_key="{KEY}")
answer = client.messages.create(
    model={json.dumps(model)},
    max_tokens=1024,
    messages=[{{"role": "user", "content": "Hello"}}],
)
print("".join(block.text for block in answer.content if block.type == "text"))
"""


def _claude_code(base_url: str, model: str) -> str:
    name = shlex.quote(model)
    return f"""\
export ANTHROPIC_BASE_URL={shlex.quote(anthropic_url(base_url))}
export ANTHROPIC_AUTH_TOKEN={KEY}
export ANTHROPIC_MODEL={name}
export ANTHROPIC_DEFAULT_OPUS_MODEL={name}
export ANTHROPIC_DEFAULT_SONNET_MODEL={name}
export ANTHROPIC_DEFAULT_HAIKU_MODEL={name}
claude
"""


def _codex(base_url: str, model: str) -> str:
    # A JSON string of these characters is a TOML string as well.
    return f"""\
# export SEAMOUNT_KEY={KEY}
model = {json.dumps(model)}
model_provider = "seamount"

[model_providers.seamount]
name = "Seamount"
base_url = {json.dumps(base_url)}
env_key = "SEAMOUNT_KEY"
wire_api = "responses"
"""


def _curl(base_url: str, model: str) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
    return f"""\
curl {shlex.quote(base_url.rstrip("/") + "/chat/completions")} \\
  -H "Authorization: Bearer {KEY}" \\
  -H "Content-Type: application/json" \\
  -d {shlex.quote(body)}
"""
