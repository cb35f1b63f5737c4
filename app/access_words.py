"""Other programs that use the engine, in words.

Owns: these sentences: who is connected, what runs for whom, what a key may, what a rule for a changing beginning means,
what it means to serve the local network. Pure; asks nobody. Names that programs give themselves are cut to one short
line.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from app.library_words import used_words
from app.quantities import token_count, whole_duration

if TYPE_CHECKING:
    from engine.protocol_access import (
        Access,
        ClientKey,
        ClientRequest,
        ConnectedClient,
        KeyLimits,
        MadeKey,
        NetworkDoor,
        SteadyOffer,
    )

LONGEST_NAME = 60
LONGEST_LINE = 200
SHOWN_ADDRESSES = 8
DAY_S = 86_400.0
SOON_S = 30 * DAY_S
USUAL_WAITING = 64
"""KeyLimits.waiting where nobody chose another number, which is no news then."""

KEYS_EMPTY = (
    "No keys yet",
    "A program needs a key to ask the models here. Make one for each program, so that one can be taken back without "
    "the others.",
)
NETWORK_KEYS_EMPTY = (
    "No network keys",
    "The keys above work on this machine alone. A program on another machine needs one of its own.",
)
CLIENTS_EMPTY = (
    "Nobody is connected",
    "A program that asks with one of the keys stands here, with what it waits for, and can be ended.",
)
LOADING = ("Waiting for the engine…", "")
INTRODUCTION = (
    "Editors, agents and scripts on this machine can ask the models here, each with a key of its own. A key opens the "
    "models and nothing else: no conversations, no files, no settings."
)
STAYS = (
    "The engine runs while a window is open. Without one it goes on until no program has asked for five minutes; "
    "“seamount serve” in a terminal keeps it running."
)
COPY_NOW = "Copy it now; only a digest of it is kept, so nobody can show it to you again."
SHOWN_ONCE = f"This is shown once. {COPY_NOW}"
KEPT = "It also lies in this account’s keyring: the key’s Copy button gives it again."
PORT_HINT = (
    "From the engine’s next start on. 0 keeps the one before, so that other programs’ settings stay right."
)
ORIGINS_HINT = (
    "Origins of web pages that may call the engine from a browser, one in each line; all others are refused. They need "
    "a key as well."
)
MOST_INTERFACES = 16
INTERFACES_HINT = "Addresses of this machine, with commas between them; none: every network that it is in."
NETWORK_QUESTION = "Serve the local network?"
NETWORK_MEANING = (
    "Every machine in your network can then reach this one at the port below. Who has one of the network keys can ask "
    "the models here, which takes this machine’s computing time, and sees nothing else. What is sent is encrypted, and "
    "the certificate’s fingerprint tells others that it is truly this machine. It is open "
    "whenever the engine runs, after a restart too, until you close it."
)
RULE_WORDS = {
    "pin": "It is put as it stood at first.",
    "move": "It is put at the end of the newest message instead.",
}
PIN_NAME = "Keep such a line as it &stood at first"
PIN_MEANING = (
    "A line of the instructions that differs from the one before it only in numbers, dates or ids is told to the model "
    "as it stood when the conversation began: the model does not learn the new date or number."
)
MOVE_NAME = "Put such a line at the &end of the newest message"
MOVE_MEANING = "The model is told everything, but the line stands in another place than the program put it."


def short(text: str, most: int = LONGEST_NAME) -> str:
    """One line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def key_words(key: ClientKey, now_s: float) -> str:
    """When and by whom a key was used last, and what it may: "used today by Zed · 8 at a time"."""
    used = used_words(key.last_used_at, now_s)
    if key.last_used_at is not None and key.last_used_by:
        used += f" by {short(key.last_used_by)}"
    return " · ".join([used, *limit_words(key.limits), *rule_words(key)])


def secret_words(made: MadeKey) -> str:
    """Whether a new key's secret can be had again."""
    if made.key.is_kept:
        return KEPT
    return f"{made.problem} {COPY_NOW}" if made.problem else SHOWN_ONCE


def limit_words(limits: KeyLimits) -> list[str]:
    """What a key may take, where that is limited."""
    words: list[str] = []
    if limits.answer_tokens:
        words.append(f"answers of {token_count(limits.answer_tokens)} at most")
    if limits.prompt_tokens:
        words.append(f"prompts of {token_count(limits.prompt_tokens)} at most")
    if limits.seconds:
        words.append(f"{whole_duration(limits.seconds)} for an answer at most")
    if limits.waiting != USUAL_WAITING:
        words.append(f"{limits.waiting} at a time" if limits.waiting else "any number at a time")
    return words


def rule_words(key: ClientKey) -> list[str]:
    """Which rules for changing lines were agreed to."""
    agreed = [("pin", key.steady.pin), ("move", key.steady.move)]
    names = {"pin": "changing lines are kept as they stood", "move": "changing lines are moved to the end"}
    return [names[rule] for rule, holds in agreed if holds]


def program_name(client: ConnectedClient) -> str:
    """What a program calls itself, else its key's name."""
    return short(client.program or client.key_name or "A program")


def client_words(client: ConnectedClient, now_s: float) -> str:
    """By which key it came, and from where."""
    words = [f"key “{short(client.key_name)}”", short(client.address)]
    if not client.requests:
        ago = max(0.0, now_s - client.last_at)
        words.append("asked just now" if ago < 5 else f"asked {whole_duration(ago)} ago")
    return " · ".join(word for word in words if word)


def request_words(request: ClientRequest) -> str:
    """What becomes of one request."""
    match request.state:
        case "queued":
            if not request.place:
                return "Waiting for the model"
            return f"Waiting: {request.place} {'answer' if request.place == 1 else 'answers'} before this one"
        case "reading":
            return f"Reading {request.done:,} of {request.total:,} tokens"
        case _:
            return f"Writing, {token_count(request.generated_tokens)}"


def running(access: Access | None) -> list[tuple[ConnectedClient, ClientRequest]]:
    """Everything that other programs wait for, what is computed now first."""
    if access is None:
        return []
    order = {"writing": 0, "reading": 1, "queued": 2}
    found = [(client, request) for client in access.clients for request in client.requests]
    return sorted(found, key=lambda each: (order[each[1].state], each[1].place, each[1].since))


def sign_words(access: Access | None) -> str:
    """The sign in the status line: whom the engine answers now; "" for nobody."""
    found = running(access)
    if not found:
        return ""
    client, request = found[0]
    doing = request_words(request)
    more = f" (+{len(found) - 1} more)" if len(found) > 1 else ""
    return f"{program_name(client)}: {doing[:1].lower()}{doing[1:]}{more}"


def offer_words(offer: SteadyOffer) -> tuple[str, str]:
    """What changes and what that costs; what agreeing would change in what the model is told."""
    who = short(offer.program or offer.key_name)
    times = "once so far" if offer.times == 1 else f"{offer.times:,} times so far"
    costs = (
        f"{who} changes a line at the beginning of its instructions with each request, so "
        f"{token_count(offer.reread_tokens)} are read again each time ({times})."
    )
    if offer.suggestion == "pin":
        return costs, (
            "If you agree, the model is told this line as it stood at first, for every request with the key "
            f"“{short(offer.key_name)}”: it does not learn what has changed in it."
        )
    return costs, (
        "If you agree, the model is told this line at the end of the newest message instead, for every request with "
        f"the key “{short(offer.key_name)}”: it learns all of it, in another place."
    )


def revoke_words(key: ClientKey) -> tuple[str, str]:
    """The question before a key is taken back, and what it means."""
    return (
        f"Revoke the key “{short(key.name)}”?",
        "Whatever uses it is refused from now on, and what runs for it is ended. This cannot be undone; a new key has "
        "to be given to the program.",
    )


def closing_words(access: Access | None) -> tuple[str, str] | None:
    """The question before the window is closed, and what it means, while other programs are answered; else None."""
    found = running(access)
    if not found:
        return None
    programs = list(dict.fromkeys(program_name(client) for client, _ in found))
    who = programs[0] if len(programs) == 1 else f"{programs[0]} and {len(programs) - 1} more"
    return (
        f"Close the window while {who} {'is' if len(programs) == 1 else 'are'} answered?",
        "The engine goes on without it: these answers are written to their end, and it ends by itself once no program "
        "has asked for five minutes. To stop them, stay, and end them under Other programs.",
    )


def network_words(door: NetworkDoor) -> str:
    """Whether the local network is served, and how."""
    if door.problem is not None:
        return door.problem.text
    if not door.wanted:
        return "Closed. Only programs on this machine can reach the engine."
    if not door.is_open:
        return "It is being opened."
    return f"Open at port {door.port}, encrypted."


def certificate_words(door: NetworkDoor, now_s: float) -> str:
    """Whose certificate it is, and how long it holds."""
    if door.certificate == "none":
        return ""
    whose = "Your own certificate" if door.certificate == "own" else "A certificate that Seamount made"
    if door.expires_at is None:
        return f"{whose}."
    day = time.strftime("%d %B %Y", time.localtime(door.expires_at)).lstrip("0")
    left = door.expires_at - now_s
    if left <= 0:
        return f"{whose}; it expired on {day}, so others refuse it: choose another one."
    soon = f", in {max(1, round(left / DAY_S))} days" if left < SOON_S else ""
    return f"{whose}; it holds until {day}{soon}."


def origins_words(origins: list[str]) -> str:
    """Which web pages may call the engine."""
    if not origins:
        return "No web page may call the engine from a browser."
    return f"Web pages that may call the engine from a browser: {', '.join(short(each) for each in origins)}."


def anthropic_url(base_url: str) -> str:
    """The base URL as clients of Anthropic's dialect want it: they put /v1 behind it themselves."""
    return base_url.rstrip("/").removesuffix("/v1")
