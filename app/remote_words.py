"""Models on other machines, in words.

Owns: these sentences: where a conversation goes, what that costs, what was found out about a server. Pure; asks nobody.
What a server says of itself is cut to one short line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.quantities import token_count
from engine.errors import RemoteChanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.protocol import RemotePlace, Usage
    from engine.protocol_remote import (
        CheckedRemote,
        Remote,
        RemoteFeatures,
        RemoteKind,
        RemotePrice,
        Whereabouts,
    )

LONGEST = 80
SHOWN_MODELS = 4

KINDS: tuple[tuple[RemoteKind, str], ...] = (
    ("openai", "A server of OpenAI’s dialect (vLLM, SGLang, llama.cpp)"),
    ("deepseek", "DeepSeek’s own service"),
    ("seamount", "Another Seamount"),
)
"""In the order in which they are offered."""
ADDRESS_EXAMPLES: dict[RemoteKind, str] = {
    "openai": "http://192.168.1.20:8000/v1",
    "deepseek": "https://api.deepseek.com",
    "seamount": "ssh://user@machine or https://machine:8643/v1",
}
ADDRESS_HINT = "One in each line; the first that answers is used, the others stand by. Check asks the first."
KEY_HINT = "It is kept in this account’s keyring, where there is one, and sent to these addresses alone."
KEY_KEPT = "A key is kept. Leave this empty to keep it."
PRICE_HINT = "What you pay for a million tokens; 0 says nothing. Nobody is asked for it."
CHECK_HINT = (
    "Asks the server what it is and can do, with a few words of our own. Nothing of a conversation is sent."
)
EMPTY = (
    "None yet",
    "A model that a cluster, a service or another Seamount computes can be talked to from here as well. What is said "
    "to it leaves this machine.",
)
COMPARE = (
    "Compare this fingerprint with the one that whoever runs the server tells you; only if they are the same is it "
    "truly that server."
)
TRUST = f"Nobody vouches for this server’s certificate. {COMPARE}"
_PLACES: dict[Whereabouts, str] = {
    "this machine": "on this machine",
    "local network": "in your local network",
    "elsewhere": "elsewhere",
}


def short(text: str, most: int = LONGEST) -> str:
    """One line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def host_of(url: str) -> str:
    """The machine that an address names, without user and port; the address itself where it names none."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    return short(host or url)


def amount(value: float, currency: str) -> str:
    """Money, with as many digits as say something: "0.28 USD", "0.0031 USD"."""
    if value == 0:
        return f"0 {currency}"
    digits = 2
    while digits < 6 and abs(round(value, digits) - value) > value * 0.01:
        digits += 1
    return f"{value:,.{digits}f} {currency}"


def price_words(price: RemotePrice | None) -> str:
    """What a million tokens cost: "0.28 USD a million tokens read (0.028 from its cache), 0.42 USD written"."""
    if price is None or not (price.read or price.read_cached or price.written):
        return ""
    words = f"{amount(price.read, price.currency)} a million tokens read"
    if price.read_cached is not None:
        words += f" ({amount(price.read_cached, price.currency)} from its cache)"
    return f"{words}, {amount(price.written, price.currency)} written"


def spent_words(costs: Mapping[str, float], *, whole: bool) -> str:
    """What a conversation has cost by now: "It has cost about 0.12 USD so far."; "" where nothing is known of it.

    `whole`: the cost of all its answers is known.
    """
    sums = " and ".join(amount(cost, short(currency)) for currency, cost in costs.items())
    if not sums:
        return ""
    if not whole:
        return f"It has cost about {sums} so far, and what answers cost that broke off or were not counted."
    return f"It has cost about {sums} so far."


def untold_words(host: str) -> str:
    """Why a question that waited for the engine was not sent by itself."""
    return (
        f"The message was not sent yet: the model that answers runs at {short(host)}, which was not shown when you "
        "sent it. Send it again if the conversation may go there, or choose another model."
    )


def place_sentence(place: RemotePlace) -> str:
    """Where a conversation with this model goes, at the point of use."""
    host, price = short(place.host), price_words(place.price)
    if place.whereabouts == "this machine":
        words = f"This conversation goes to another program on this machine, {host}"
    else:
        words = f"This conversation leaves this machine: it goes to {host}, {_PLACES[place.whereabouts]}"
    return f"{words}, for about {price}." if price else f"{words}."


def remote_words(remote: Remote) -> str:
    """Where it is, what the server calls it, what it costs."""
    place = remote.used_address if remote.used_address is not None else 0
    address = remote.addresses[min(place, len(remote.addresses) - 1)].url if remote.addresses else ""
    words = [f"{host_of(address)}, {_PLACES[remote.whereabouts]}", short(remote.model)]
    if len(remote.addresses) > 1:
        words.append(f"{len(remote.addresses)} addresses")
    return " · ".join(word for word in (*words, price_words(remote.price)) if word)


def features_words(features: RemoteFeatures | None) -> str:
    """What was found out: "vLLM 0.12 · 65,536 tokens of context · thinks, also as much as is asked for · tools"."""
    if features is None:
        return "Not checked yet."
    words: list[str] = []
    if features.software:
        words.append(short(features.software))
    if features.context_tokens:
        words.append(f"{token_count(features.context_tokens)} of context")
    for answer, yes, no in (
        (features.reasoning, "shows its thinking", "does not show its thinking"),
        (features.efforts, "thinks as much as is asked for", ""),
        (features.tools, "calls tools", "no tools"),
        (features.continues, "goes on with a broken answer", "cannot go on with a broken answer"),
    ):
        if answer == "yes":
            words.append(yes)
        elif answer == "no" and no:
            words.append(no)
    return " · ".join(words) or "It tells nothing about itself."


def models_words(models: list[str]) -> str:
    """The models that a server has, a few of them by name."""
    if not models:
        return "It names no models; write the name that it expects."
    shown = ", ".join(short(name) for name in models[:SHOWN_MODELS])
    more = len(models) - SHOWN_MODELS
    return f"Its models: {shown}" + (f" and {more} more." if more > 0 else ".")


def is_unknown(checked: CheckedRemote) -> bool:
    """The server shows a certificate that nobody vouches for and nobody agreed to; not one in the place of another."""
    changed = checked.problem is not None and checked.problem.code == RemoteChanged.code
    return checked.fingerprint is not None and checked.features is None and not changed


def checked_words(checked: CheckedRemote, host: str) -> str:
    """What a check has found, or why it found nothing."""
    if is_unknown(checked):
        return TRUST
    if checked.problem is not None:
        compare = f" {COMPARE}" if checked.fingerprint is not None else ""
        return f"{checked.problem.text}{compare}"
    where = {
        "this machine": "It is another program on this machine.",
        "local network": f"What is said to it goes to {host}, in your local network.",
        "elsewhere": f"What is said to it leaves this machine and goes to {host}, elsewhere.",
    }[checked.whereabouts]
    if checked.features is None:
        return where
    features = checked.features
    spent = f" Finding this out took {token_count(features.spent_tokens)}." if features.spent_tokens else ""
    return f"{where} {features_words(features)}. {models_words(features.models)}{spent}"


def key_words(*, has_key: bool, problem: str | None) -> str:
    """What stands below the field for a key."""
    if problem:
        return problem
    return KEY_KEPT if has_key else KEY_HINT


def removal_words(remote: Remote) -> tuple[str, str]:
    """The question before one is taken off the list, and what it means."""
    return (
        f"Take “{short(remote.name)}” off the list?",
        "Its address and its key are forgotten. Conversations that were had with it stay here.",
    )


def certificate_question(remote: Remote) -> tuple[str, str]:
    """The question before another certificate is trusted, and what to compare."""
    return (
        f"Trust the new certificate of “{short(remote.name)}”?",
        f"It is another one than you agreed to. Either the server has a new one, or this is not that server. {COMPARE} "
        f"\n\n{remote.offered_fingerprint or ''}",
    )


def cost_words(usage: Usage) -> str:
    """What an answer cost, by the prices that the person gave: "about 0.0031 USD"; "" where that is not known."""
    if usage.cost is None or not usage.currency:
        return ""
    return f"about {amount(usage.cost, short(usage.currency))}"


def change_words(remote: Remote) -> str:
    """What is no longer as it was agreed to."""
    return f"“{short(remote.name)}” is not used for now. {remote.change or ''}".strip()
