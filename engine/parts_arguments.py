"""The arguments of `seamount parts`.

Owns: their words, and which call each is (`parts_command` has the calls). Loads nothing until one is made.
"""

import argparse
from collections.abc import Callable

from engine.paths import DataFolder

COMMAND = "parts"


def add_arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command; docs/parts.md tells what it does."""
    parts = add(COMMAND, help="optional parts: what is there, install one, remove it")
    actions = parts.add_subparsers(dest="action", metavar="ACTION")
    actions.add_parser("list", help="what is there and what can be had (the default)")
    install = actions.add_parser("install", help="fetch one and put it into the data folder")
    install.add_argument("part", metavar="PART", help="its name: native")
    install.add_argument("--variant", help="another set than the one that suits this machine")
    install.add_argument(
        "--find-links", metavar="FOLDER", help="a folder with wheels that pip looks into too"
    )
    remove = actions.add_parser("remove", help="delete it from the data folder")
    remove.add_argument("part", metavar="PART", help="its name")


def run(options: argparse.Namespace, folder: DataFolder) -> int:
    """Do what is asked; the exit status. Raises SeamountError and its kinds."""
    from engine import parts_command as commands

    if options.action == "install":
        return commands.install(folder, options.part, variant=options.variant, find_links=options.find_links)
    if options.action == "remove":
        return commands.remove(folder, options.part)
    return commands.list_parts(folder)
