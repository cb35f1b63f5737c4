"""OpenAI's own client, in front of a real engine."""

import httpx
import openai

from tests.integration.live_engine import LiveEngine


def sdk(engine: LiveEngine, key: str | None = None) -> openai.OpenAI:
    """The client as a person sets it up, except that nothing is tried twice."""
    return openai.OpenAI(
        base_url=f"{engine.address.url}/v1",
        api_key=key or engine.address.key,
        max_retries=0,
        http_client=httpx.Client(trust_env=False, timeout=60),
    )


def async_sdk(engine: LiveEngine) -> openai.AsyncOpenAI:
    """The same, asynchronous."""
    return openai.AsyncOpenAI(
        base_url=f"{engine.address.url}/v1",
        api_key=engine.address.key,
        max_retries=0,
        http_client=httpx.AsyncClient(trust_env=False, timeout=60),
    )
