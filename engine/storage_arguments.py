"""The arguments of `seamount sessions`, `backup` and `restore`.

Owns: their words, and which call each is (`sessions_command` has the calls). Loads nothing until one is made.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from engine.errors import BadRequest
from engine.paths import DataFolder

COMMANDS = ("sessions", "backup", "restore")


def add_arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands; docs/sessions.md tells what they do."""
    sessions = add(
        COMMANDS[0], help="the conversations: list, show, export, import, verify, compact, encrypt"
    )
    actions = sessions.add_subparsers(dest="action", metavar="ACTION")
    listing = actions.add_parser("list", help="all of them, the most recently used first (the default)")
    listing.add_argument("query", metavar="TEXT", nargs="?", help="only those that hold this")
    listing.add_argument("--json", action="store_true", help="as JSON")
    show = actions.add_parser("show", help="one, as Markdown")
    show.add_argument("name", metavar="ID", help="the beginning of its id, or its title")
    show.add_argument("--json", action="store_true", help="all its branches, as JSON")
    export = actions.add_parser("export", help="as files: Markdown to read, JSON to import again")
    export.add_argument("names", metavar="ID", nargs="*", help="the beginning of an id, or a title")
    export.add_argument("--all", action="store_true", help="every conversation")
    export.add_argument(
        "--format", choices=("markdown", "json"), default="markdown", help="default: markdown"
    )
    export.add_argument(
        "--to", metavar="PATH", help="a file, or a folder that is there; default: the terminal"
    )
    take_in = actions.add_parser("import", help="conversations that were exported as JSON")
    take_in.add_argument("files", metavar="FILE", nargs="+", help="a file that `export --format json` wrote")
    actions.add_parser("verify", help="read everything that is kept and check it; status 1 if it is not well")
    _add_encrypt(actions.add_parser)
    actions.add_parser("compact", help="give back to the disk what deleted conversations have left")

    backup = add(COMMANDS[1], help="everything but the models into one file")
    backup.add_argument("file", metavar="FILE", help="the file to write; it must not be there yet")
    backup.add_argument(
        "--with-snapshots",
        action="store_true",
        help="also what models have read, so that it is not read again",
    )
    restore = add(COMMANDS[2], help="a backup in the place of what is there, which is kept aside")
    which = restore.add_mutually_exclusive_group(required=True)
    which.add_argument("file", metavar="FILE", nargs="?", help="a file that `seamount backup` wrote")
    which.add_argument(
        "--previous",
        action="store_true",
        help="what was there before a newer Seamount's first start (docs/updating.md)",
    )
    restore.add_argument("--check", action="store_true", help="only see whether FILE is whole")


def _add_encrypt(add: Callable[..., argparse.ArgumentParser]) -> None:
    """docs/encryption.md."""
    encrypt = add("encrypt", help="encryption of what is kept: what is so, on, off, or its recovery key")
    wish = encrypt.add_mutually_exclusive_group()
    for name, text in (
        ("on", "encrypt everything; a recovery key is shown once"),
        ("off", "store everything as plain text again"),
        ("recover", "take the recovery key, a line of stdin"),
    ):
        wish.add_argument(f"--{name}", dest="asked", action="store_const", const=name, help=text)
    encrypt.add_argument(
        "--remove-plain-files",
        action="store_true",
        help="with --on: delete older copies that are not encrypted",
    )


def run(command: str, options: argparse.Namespace, folder: DataFolder) -> int:
    """Do what is asked; the exit status. Raises SeamountError and its kinds."""
    from engine import sessions_command as commands

    if command == "backup":
        return commands.back_up(folder, _path(options.file), with_states=options.with_snapshots)
    if command == "restore" and options.previous:
        if options.check:
            raise BadRequest("Nothing was checked", "--check wants a file's name", "name one")
        return commands.restore_previous(folder)
    if command == "restore":
        return commands.restore(folder, _path(options.file), only_check=options.check)
    action = options.action
    if action == "show":
        return commands.show(folder, options.name, as_json=options.json)
    if action == "export":
        to = None if options.to is None else _path(options.to)
        return commands.export(folder, options.names, kind=options.format, to=to, every=options.all)
    if action == "import":
        return commands.import_files(folder, [_path(file) for file in options.files])
    if action == "verify":
        return commands.verify(folder)
    if action == "compact":
        return commands.compact(folder)
    if action == "encrypt":
        from engine.encryption_command import encrypt

        return encrypt(folder, options.asked, remove_plain_files=options.remove_plain_files)
    query, as_json = getattr(options, "query", None), getattr(options, "json", False)
    return commands.list_sessions(folder, query, as_json=as_json)


def _path(text: str) -> Path:
    return Path(text).expanduser()
