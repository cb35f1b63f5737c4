"""Which hub is meant, and whether it may be asked at all.

Owns: what the settings say, what the environment says in their place (the variables of Hugging Face's own tools),
and what an address of a hub must look like. Does not speak to one (`hub`).
"""

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from engine.errors import BadRequest
from engine.protocol import Settings

HUB = "https://huggingface.co"
ENDPOINT_VARIABLE = "HF_ENDPOINT"
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = ("1", "ON", "YES", "TRUE")


def endpoint_of(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """The hub's address, without a slash at its end. Raises BadRequest for one that cannot be one."""
    named = (settings.hub_endpoint or "").strip()
    given = named or environment.get(ENDPOINT_VARIABLE, "").strip() or HUB
    where = "the settings" if named else ENDPOINT_VARIABLE
    try:
        address = urlsplit(given)
        well = (
            address.scheme in ("https", "http")
            and bool(address.hostname)
            and address.port != 0
            and given.isascii()
            and given.isprintable()
            and not any(each in given for each in " \\")
        )
    except ValueError:
        well, address = False, None
    if not well or address is None:
        raise BadRequest(
            "The hub cannot be asked",
            f"what {where} say is its address is not one",
            "write it as https://HOST, or leave it empty",
        )
    if address.username is not None or address.password is not None or address.query or address.fragment:
        # It would be shown, logged, and sent to whoever is redirected to.
        raise BadRequest(
            "The hub cannot be asked",
            f"its address in {where} holds more than a place (a password, a question)",
            "write it as https://HOST and give the access token in the library",
        )
    return given.rstrip("/")


def is_offline(settings: Settings, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the hub is not to be asked, by the settings or by the environment."""
    return settings.offline or any(environment.get(name, "").upper() in _YES for name in OFFLINE_VARIABLES)


def host_of(endpoint: str) -> str:
    """Host and, where one is written, port of an endpoint: what its access token is kept under."""
    address = urlsplit(endpoint)
    host = (address.hostname or "").lower()
    return host if address.port is None else f"{host}:{address.port}"


def is_hub_itself(endpoint: str) -> bool:
    """Whether this is Hugging Face's own hub."""
    return host_of(endpoint) in ("huggingface.co", "hf.co", "huggingface.co:443")


def may_carry_secrets(endpoint: str) -> bool:
    """Whether what is sent there cannot be read on the way: https, or this very machine."""
    address = urlsplit(endpoint)
    if address.scheme == "https":
        return True
    host = address.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
