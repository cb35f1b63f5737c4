"""The manual page seamount(1), from the command line's own parser.

    .venv-bundle/bin/python packaging/linux/man_page.py     prints it

Owns: its form. What the commands are called and do is said in `engine.cli`, once. Runs in `.venv-bundle`.
"""

import argparse
import datetime
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_FILES = """\
.SH FILES
.TP
.I ~/.local/share/seamount
conversations, settings and models, unless
.B \\-\\-data
or
.B SEAMOUNT_DATA
name another folder
.TP
.I /usr/share/seamount/starter
the small model that the package seamount-starter brings
.SH EXIT STATUS
0 where all went well; another number, and one sentence on standard error, where it did not.
"""


def page(version: str, epoch: int) -> str:
    """The page; `epoch`: seconds since 1970 of the release."""
    sys.path.insert(0, str(ROOT))
    from engine.cli import _parser

    parser = _parser()
    day = datetime.datetime.fromtimestamp(epoch, datetime.UTC).date()
    lines = [
        f'.TH SEAMOUNT 1 "{day}" "seamount {version}" "User Commands"',
        ".SH NAME",
        "seamount \\- talk to language models on this machine",
        ".SH SYNOPSIS",
        ".B seamount",
        "[\\fIOPTIONS\\fR] [\\fICOMMAND\\fR [\\fIARGUMENTS\\fR]]",
        ".SH DESCRIPTION",
        _plain(parser.description or ""),
        ".SH OPTIONS",
        *(each for each in _options(parser) if each.startswith(".TP\n.B \\-\\-")),
        ".SH COMMANDS",
    ]
    for name, about, command in _commands(parser):
        lines += [f".SS {_plain(name)}", _plain(f"{about[:1].upper()}{about[1:]}."), *_options(command)]
    return "\n".join([*lines, _FILES])


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            about = {each.dest: each.help for each in action._choices_actions}
            for name, command in action.choices.items():
                if about.get(name):  # those without a word are the program's own
                    yield name, str(about[name]), command


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Options and arguments of a command; commands beneath it with their usage in a line."""
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for _, about, command in _commands(parser):
                usage = " ".join(command.format_usage().split()).removeprefix("usage: ").replace(" [-h]", "")
                yield f".TP\n.B {_plain(usage)}\n{_plain(about)}"
        elif action.help is not argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            about = formatter._expand_help(action) if action.help else "\\&"
            yield f".TP\n.B {_plain(formatter._format_action_invocation(action))}\n{_plain(about)}"


def _plain(text: str) -> str:
    """Text that troff takes as it stands."""
    if text == "\\&":
        return text
    escaped = re.sub(r"\s+", " ", text).strip().replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    print(page(sys.argv[1], int(sys.argv[2])))
