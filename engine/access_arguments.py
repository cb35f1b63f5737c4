"""The arguments of `seamount keys` and `seamount network`.

Owns: their words, and which call each is (`access_commands` has the calls). Loads nothing until one is made.
"""

import argparse
from collections.abc import Callable

from engine.paths import DataFolder

COMMANDS = ("keys", "network")


def add_arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands; docs/access.md tells what they do."""
    keys = add(COMMANDS[0], help="keys for other programs: list, make, show, limit, rename, revoke")
    actions = keys.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="all of them, with when each was used last (the default)")
    listing.add_argument("--json", action="store_true", help="as JSON")
    make = actions.add_parser("make", help="a new one, with what to paste where")
    make.add_argument("name", metavar="NAME", help="which program it is for")
    make.add_argument("--network", action="store_true", help="for the network's socket, and only for that")
    make.add_argument(
        "--once", action="store_true", help="shown this once, and not kept in this account's keyring"
    )
    show = actions.add_parser("show", help="one again, where the keyring has it")
    show.add_argument("name", metavar="NAME", help="its name, or the beginning of its id")
    limit = actions.add_parser("limit", help="what one may take; 0: no limit of its own")
    limit.add_argument("name", metavar="NAME", help="its name, or the beginning of its id")
    limit.add_argument("--answer-tokens", type=_number, metavar="N", help="of one answer")
    limit.add_argument("--prompt-tokens", type=_number, metavar="N", help="of one request")
    limit.add_argument("--waiting", type=_number, metavar="N", help="requests that wait or run at once")
    limit.add_argument("--seconds", type=_number, metavar="N", help="of computing for one answer")
    rename = actions.add_parser("rename", help="another name for one")
    rename.add_argument("name", metavar="NAME", help="its name, or the beginning of its id")
    rename.add_argument("new_name", metavar="NEW")
    revoke = actions.add_parser("revoke", help="one opens nothing any more, and what it runs is ended")
    revoke.add_argument("name", metavar="NAME", help="its name, or the beginning of its id")

    network = add(COMMANDS[1], help="the socket for the local network, closed unless you open it")
    doors = network.add_subparsers(dest="action", metavar="ACTION")
    doors.add_parser("show", help="whether it is open, where, and its certificate (the default)")
    opening = doors.add_parser(
        "open", help="let programs on other machines in, with TLS and keys of their own"
    )
    opening.add_argument("--port", type=_port, default=0, metavar="N", help="default: the one before, or any")
    opening.add_argument("--certificate", metavar="FILE", help="a certificate of your own, PEM")
    opening.add_argument("--key", metavar="FILE", help="its key, PEM, without a password")
    opening.add_argument(
        "--at", metavar="ADDRESS", action="append", default=[], help="only at this address of the machine"
    )
    doors.add_parser("close", help="nobody from another machine comes in any more")


def run(command: str, options: argparse.Namespace, folder: DataFolder) -> int:
    """Do what is asked; the exit status. Raises SeamountError and its kinds."""
    from engine import access_commands as commands

    action: str | None = options.action
    if command == COMMANDS[1]:
        if action == "open":
            return commands.open_network(
                folder, options.port, options.certificate, options.key, tuple(options.at)
            )
        return commands.close_network(folder) if action == "close" else commands.show_network(folder)
    if action == "make":
        return commands.make_key(folder, options.name, is_network=options.network, keep=not options.once)
    if action == "show":
        return commands.show_key(folder, options.name)
    if action == "limit":
        names = ("answer_tokens", "prompt_tokens", "waiting", "seconds")
        return commands.limit_key(folder, options.name, {name: getattr(options, name) for name in names})
    if action == "rename":
        return commands.rename_key(folder, options.name, options.new_name)
    if action == "revoke":
        return commands.revoke_key(folder, options.name)
    return commands.list_keys(folder, as_json=getattr(options, "json", False))


def _number(text: str) -> int:
    return _from_0_to(1_048_576, text, "a number from 0 to 1048576")


def _port(text: str) -> int:
    return _from_0_to(65535, text, "a port is a number from 0 to 65535")


def _from_0_to(most: int, text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
        raise argparse.ArgumentTypeError(what)
    return int(text)
