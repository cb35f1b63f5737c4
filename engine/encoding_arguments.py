"""The arguments of `seamount encode`, `parse` and `tokenize`, the commands for people who write clients.

Owns: their words, and which call each is (`encoding_commands` has the calls). Loads nothing until one is made.
"""

import argparse
import sys
from collections.abc import Callable

COMMANDS = ("encode", "parse", "tokenize")
_MODES = ("non-think", "high", "max")


def add_arguments(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands; docs/encoding.md shows them."""
    encode = add(COMMANDS[0], help="a conversation in JSON (stdin) as DeepSeek-V4's prompt and its ids")
    parse = add(COMMANDS[1], help="what a DeepSeek-V4 model wrote (stdin), taken apart, in JSON")
    tokenize = add(COMMANDS[2], help="the ids of a text (stdin), control tokens in it being text")
    for command in (encode, parse):
        command.add_argument("--profile", metavar="RELEASE", help="preview (the default) or 0731")
        command.add_argument("--mode", choices=_MODES, help="default: what each case says")
    encode.add_argument(
        "--strict-official",
        action="store_true",
        help="ids with typed control tokens parsed, as the official tools do",
    )
    parse.add_argument(
        "--strict", action="store_true", help="an error for all that the official parser rejects"
    )
    tokenize.add_argument(
        "--parse-control", action="store_true", help="make control tokens of their literals"
    )
    for command in (encode, parse, tokenize):
        command.add_argument("--jsonl", action="store_true", help="many: one line of JSON for each")
    for command in (encode, tokenize):
        command.add_argument(
            "--tokenizer", metavar="PATH", help="a tokenizer.json, its folder, or a GGUF; default: V4's own"
        )


def run(command: str, options: argparse.Namespace) -> int:
    """V4's encoding, stdin to stdout; the exit status. Neither a data folder nor an engine is touched."""
    from engine import encoding_commands

    source, target = encoding_commands.text_streams(sys.stdin, sys.stdout)
    if command == "encode":
        return encoding_commands.encode(
            source,
            target,
            profile=options.profile,
            mode=options.mode,
            strict_official=options.strict_official,
            lines=options.jsonl,
            tokenizer=options.tokenizer,
        )
    if command == "parse":
        return encoding_commands.parse_completions(
            source,
            target,
            profile=options.profile,
            mode=options.mode,
            strict=options.strict,
            lines=options.jsonl,
        )
    return encoding_commands.tokenize(
        source,
        target,
        parse_control=options.parse_control,
        lines=options.jsonl,
        tokenizer=options.tokenizer,
    )
