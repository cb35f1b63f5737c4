"""The arguments of `seamount remotes`.

Owns: their words, and which call each is (`remotes_command` has the calls). Loads nothing until one is made.
"""

import argparse
from collections.abc import Callable

from engine.paths import DataFolder

COMMAND = "remotes"


def add_arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; docs/remote.md tells what it does."""
    remotes = add(COMMAND, help="models on other machines: list, add, check, agree to, remove")
    actions = remotes.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="those that are set up (the default)")
    for name, words in (
        ("add", "set one up; it is asked a few words, which may cost a little"),
        ("check", "ask the same of one, and keep nothing"),
    ):
        each = actions.add_parser(name, help=words)
        each.add_argument(
            "url", metavar="URL", nargs="+", help="https://HOST/v1, or ssh://USER@HOST; more stand by"
        )
        each.add_argument("--name", help="what it is called here")
        each.add_argument(
            "--model", default="", help="what the server calls it; default: the only one it has"
        )
        each.add_argument("--kind", choices=("openai", "deepseek", "seamount"), default="openai")
        each.add_argument("--key-stdin", action="store_true", help="read its key, one line, from stdin")
        each.add_argument("--fingerprint", help="SHA-256 of the certificate to trust, of the first address")
        each.add_argument(
            "--price",
            metavar="READ,WRITTEN[,CACHED[,CURRENCY]]",
            help="what a million tokens cost (default: USD)",
        )
    agree = actions.add_parser("agree", help="accept what has changed at one")
    agree.add_argument("remote", metavar="ID", help="its id, or its name")
    agree.add_argument("--fingerprint", help="the new certificate's SHA-256, where that has changed")
    remove = actions.add_parser("remove", help="forget one, and its key")
    remove.add_argument("remote", metavar="ID", help="its id, or its name")
    port = actions.add_parser(
        "port", help="the port of the Seamount that runs here, for one that comes by ssh"
    )
    port.add_argument("--hold", action="store_true", help="then wait for the end of the standard input")


def run(options: argparse.Namespace, folder: DataFolder) -> int:
    """Do what is asked; the exit status. Raises SeamountError and its kinds."""
    from engine import remotes_command as commands

    if options.action in ("add", "check"):
        asked = commands.asked_of(
            options.url,
            name=options.name,
            model=options.model,
            kind=options.kind,
            fingerprint=options.fingerprint,
            price=options.price,
            reads_key=options.key_stdin,
        )
        return commands.add(folder, asked) if options.action == "add" else commands.check(folder, asked)
    if options.action == "agree":
        return commands.agree(folder, options.remote, options.fingerprint)
    if options.action == "remove":
        return commands.remove(folder, options.remote)
    if options.action == "port":
        return commands.port(folder, holds=options.hold)
    return commands.list_remotes(folder)
