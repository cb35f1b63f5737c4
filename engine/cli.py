"""Every command of `seamount` but the window itself.

Owns: the arguments, and which exit status an error has. Does not know what a command does: each is imported
when it is called, so that `seamount --version` and the window start at once.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import cast

from engine import (
    access_arguments,
    cluster_arguments,
    encoding_arguments,
    outside_command,
    parts_arguments,
    remotes_arguments,
    storage_arguments,
)
from engine.errors import (
    BadRequest,
    DataFolderError,
    EngineRunning,
    NewerData,
    NotBackedUp,
    PortTaken,
    SeamountError,
)
from engine.launch import (
    EXIT_CAN_GO_BACK,
    EXIT_DATA_FOLDER,
    EXIT_NOT_BACKED_UP,
    EXIT_OTHER,
    EXIT_PORT,
    EXIT_RUNNING,
)
from engine.paths import DataFolder, data_folder

_CONVERSION = ("convert", "verify")
_LIBRARY = ("get", "jobs", "move", "remove")
_BACKENDS = ("auto", "llamacpp", "native")

# Qt platforms that draw without a display.
_DISPLAYLESS = {"offscreen", "minimal", "vnc", "linuxfb", "eglfs"}


def main(argv: Sequence[str] | None = None, *, open_window: Callable[[str | None, str | None], int]) -> int:
    """Run the command in `argv` (default: this process's); returns the exit status.

    `open_window(data, request)` opens the window on the data folder named `data` (None: the usual one) and returns
    its exit status; it is handed in because the engine does not know the window. `request`: a link or a model's file
    that it is to open (`outside_request`), or None.
    """
    arguments, request = outside_command.taken(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    _speak_utf8()
    try:
        if request is not None and options.command is not None:
            raise BadRequest(
                "Nothing was done", "a command stands beside what is to be opened", "give one at a time"
            )
        if request is not None and not options.version:
            opened = partial(open_window, cast("str | None", options.data)) if has_display() else None
            return outside_command.open_request(request, opened)
        return _run(options, open_window)
    except SeamountError as error:
        print(f"seamount: {error.text}", file=sys.stderr, flush=True)
        return _status(error)
    except KeyboardInterrupt:
        return 130


def has_display() -> bool:
    """Whether a window can be shown. Only on Linux and its like is there anything to ask."""
    if sys.platform in ("win32", "darwin"):
        return True
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return True
    return os.environ.get("QT_QPA_PLATFORM", "").partition(":")[0] in _DISPLAYLESS


def _run(options: argparse.Namespace, open_window: Callable[[str | None, str | None], int]) -> int:
    if options.version:
        from engine.version import version

        print(f"seamount {version()}")
        return 0
    data = cast("str | None", options.data)
    command = cast("str | None", options.command)
    if command in encoding_arguments.COMMANDS:
        return encoding_arguments.run(command, options)
    if command in _CONVERSION:
        return _conversion(command, options)
    if command == "experts":
        return _experts(options)
    if command == "work":
        from engine.library.jobs.work import work

        return work(Path(options.folder))
    if command is None:
        if has_display():
            return open_window(data, None)
        print("There is no display, so the conversation opens in this terminal.", file=sys.stderr, flush=True)
    folder = data_folder(data)
    if command == "serve":
        from engine.serve import serve

        return serve(
            folder,
            port=options.port,
            model=options.model,
            linger_s=options.linger,
            llama_cpp=options.llama_cpp,
            backend=options.backend,
            without_backup=options.without_backup,
        )
    if command == "models":
        from engine.model_table import print_models

        return print_models(folder)
    if command == "doctor":
        return _doctor(options, folder)
    if command in _LIBRARY:
        return _library(command, options, folder)
    if command in storage_arguments.COMMANDS:
        return storage_arguments.run(command, options, folder)
    if command in access_arguments.COMMANDS:
        return access_arguments.run(command, options, folder)
    if command == parts_arguments.COMMAND:
        return parts_arguments.run(options, folder)
    if command == cluster_arguments.COMMAND:
        return cluster_arguments.run(options, folder)
    if command == remotes_arguments.COMMAND:
        return remotes_arguments.run(options, folder)
    if command == "bench":
        return _bench(options, folder)
    if command == "inspect":
        from engine.inspect_command import inspect

        return inspect(Path(options.path).expanduser(), as_json=options.json)
    from engine.terminal_chat import chat

    return chat(
        folder,
        model=getattr(options, "model", None),
        prompt=getattr(options, "prompt", None),
        backend=getattr(options, "backend", None),
    )


def _doctor(options: argparse.Namespace, folder: DataFolder) -> int:
    """What was found on this machine; or all of Seamount's off it."""
    if options.forget:
        from engine.forget_command import forget

        return forget(folder, sure=options.yes, only_look=options.dry_run)
    if options.yes or options.dry_run:
        raise BadRequest(
            "Nothing was done", "--yes and --dry-run belong to --forget", "add that, or leave them out"
        )
    from engine.doctor import examine

    return examine(folder)


def _conversion(command: str, options: argparse.Namespace) -> int:
    """Checkpoints into GGUF files; neither a data folder nor an engine is touched."""
    from engine import conversion_commands

    if command == "verify":
        return conversion_commands.verify(
            [Path(path).expanduser() for path in options.paths], events=options.events
        )
    return conversion_commands.convert_checkpoint(
        Path(options.source).expanduser(),
        Path(options.target).expanduser(),
        dense=options.dense,
        draft=options.draft,
        consume=options.consume,
        release=options.release,
        events=options.events,
    )


def _experts(options: argparse.Namespace) -> int:
    """A routing trace, recorded or shown; neither a data folder nor an engine is touched."""
    from engine import experts_command

    trace = Path(options.trace).expanduser()
    if options.record is None:
        return experts_command.show(trace, as_json=options.json)
    return experts_command.record(
        trace,
        Path(options.record).expanduser(),
        None if options.text is None else Path(options.text).expanduser(),
        tokens=options.tokens,
        context_tokens=options.context,
        threads=options.threads,
    )


def _bench(options: argparse.Namespace, folder: DataFolder) -> int:
    """This machine measured; models run."""
    from engine.bench_command import Asked, bench_hardware, bench_model
    from engine.llama_builds import settle

    if options.hardware == (options.model is not None):
        raise BadRequest(
            "Nothing was measured", "a model is to be named, or --hardware", "see `seamount bench --help`"
        )
    if (refused := settle(folder)[1].refused) is not None:
        print(f"seamount: {refused.text}", file=sys.stderr, flush=True)
    if options.hardware:
        return bench_hardware(folder, as_json=options.json)
    asked = Asked(
        options.model,
        options.prompt_tokens,
        options.depth,
        options.context,
        options.threads,
        options.backend or "auto",
    )
    return bench_model(folder, asked, as_json=options.json)


def _library(command: str, options: argparse.Namespace, folder: DataFolder) -> int:
    """What the engine is asked to do with models."""
    if command == "get":
        from engine.get_command import Asked, get

        names = [each.name for each in fields(Asked)]
        return get(folder, Asked(**{name: getattr(options, name) for name in names}))
    if command == "jobs":
        from engine.job_commands import jobs

        return jobs(folder, options.job, options.action, remove_partial=options.remove_partial)
    from engine import library_commands

    if command == "move":
        return library_commands.move(folder, options.name, options.folder)
    return library_commands.remove(folder, options.name, for_good=options.for_good, sure=options.yes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seamount",
        description="A window to talk to a model on your own machine; without a command it opens, also on a .gguf "
        "file or a link to a model (seamount://get/OWNER/NAME) in a command's place.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and leave")
    parser.add_argument(
        "--data", metavar="FOLDER", help="the data folder (default: SEAMOUNT_DATA, else the usual)"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    serve = commands.add_parser("serve", help="the engine alone, for other programs")
    serve.add_argument(
        "--port",
        type=_port,
        default=0,
        help="port to listen on; 0, the default: the one before, or any free one",
    )
    serve.add_argument("--model", help="a model's id or the path of its file; default: the one chosen last")
    serve.add_argument(
        "--llama-cpp", metavar="FOLDER", help="use the llama.cpp libraries there (docs/gpu.md)"
    )
    serve.add_argument(
        "--linger", type=_seconds, metavar="SECONDS", help="end this long after the last window has gone"
    )

    serve.add_argument(
        "--without-backup",
        action="store_true",
        help="go on where the backup before a newer version's first start cannot be made (docs/updating.md)",
    )

    chat = commands.add_parser("chat", help="talk in this terminal")
    chat.add_argument("--model", help="a model's id or the path of its file")
    chat.add_argument("--prompt", help="ask this, print the answer, and leave")
    _add_backend(serve)
    _add_backend(chat)

    inspect = commands.add_parser("inspect", help="what a checkpoint folder or a GGUF file holds")
    inspect.add_argument("path", metavar="PATH", help="a folder with a checkpoint, or a .gguf file")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")

    commands.add_parser("models", help="the models there are, with their ids")
    doctor = commands.add_parser("doctor", help="what was found on this machine, and what to do about it")
    doctor.add_argument(
        "--forget",
        action="store_true",
        help="instead: remove everything of Seamount's but the program, saying first what (docs/updating.md)",
    )
    doctor.add_argument("--dry-run", action="store_true", help="with --forget: only say what")
    doctor.add_argument("--yes", action="store_true", help="with --forget: do not ask")
    _add_experts(commands.add_parser)
    _add_bench(commands.add_parser)
    _add_library(commands.add_parser)
    storage_arguments.add_arguments(commands.add_parser)
    parts_arguments.add_arguments(commands.add_parser)
    cluster_arguments.add_arguments(commands.add_parser)
    access_arguments.add_arguments(commands.add_parser)
    remotes_arguments.add_arguments(commands.add_parser)
    _add_conversion(commands.add_parser)
    encoding_arguments.add_arguments(commands.add_parser)
    return parser


def _add_bench(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Measuring; docs/placement.md tells what with."""
    bench = add("bench", help="how fast this machine is, or a model on it")
    bench.add_argument("model", metavar="MODEL", nargs="?", help="a model's id or the path of its file")
    bench.add_argument("--hardware", action="store_true", help="measure memory, processor and disk instead")
    bench.add_argument(
        "--prompt-tokens",
        type=_counts(1),
        metavar="N,N",
        default=(512,),
        help="lengths of prompts (default: 512)",
    )
    bench.add_argument(
        "--depth", type=_counts(0), metavar="N,N", default=(0,), help="tokens before them (default: 0)"
    )
    bench.add_argument("--context", type=_count, metavar="N", help="default: as long as is needed")
    bench.add_argument("--threads", type=_count, metavar="N", default=0, help="default: as suits the machine")
    bench.add_argument("--json", action="store_true", help="as one JSON object")
    _add_backend(bench)


def _add_backend(command: argparse.ArgumentParser) -> None:
    """What computes a model; docs/native.md tells of Seamount's own engine."""
    command.add_argument(
        "--backend",
        choices=_BACKENDS,
        help="what computes the model: llama.cpp, or Seamount's own engine (native: DeepSeek-V4 alone)",
    )


def _add_library(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Models onto the machine, elsewhere, and off it; docs/downloads.md tells how."""
    # What an engine starts for each of its jobs; without a help text it is not listed.
    add("work").add_argument("folder", metavar="FOLDER")
    get = add(_LIBRARY[0], help="fetch a model; goes on where it was")
    get.add_argument(
        "what", metavar="NAME", help="a name of the catalogue, OWNER/NAME, either with @REVISION"
    )
    get.add_argument(
        "--file", metavar="PATTERN", action="append", default=[], dest="files", help="only these files of it"
    )
    get.add_argument("--to", metavar="FOLDER", help="the folder that it goes to")
    get.add_argument("--convert", action="store_true", help="make a GGUF of it while it arrives")
    get.add_argument(
        "--save-as", metavar="FILE", help="the .gguf file that is made, where not in the models folder"
    )
    get.add_argument("--dense", choices=("q8_0", "bf16"), help="see `seamount convert`")
    get.add_argument("--draft", choices=("separate", "keep", "skip"), help="see `seamount convert`")
    get.add_argument("--consume", action="store_true", help="delete each shard once it is converted")
    get.add_argument("--release", metavar="NAME", help="which model it is, where its name does not tell")
    get.add_argument(
        "--token-stdin", action="store_true", help="read an access token for the hub, one line, from stdin"
    )
    get.add_argument("--detach", action="store_true", help="begin it and leave")
    jobs = add(_LIBRARY[1], help="downloads, conversions, checks and moves, and what to do with one")
    jobs.add_argument("job", metavar="ID", nargs="?", help="the beginning of its id")
    jobs.add_argument(
        "action",
        nargs="?",
        choices=("pause", "resume", "cancel", "forget", "watch"),
        help="what to do with it",
    )
    jobs.add_argument(
        "--remove-partial", action="store_true", help="with cancel: delete what it wrote and did not finish"
    )
    move = add(_LIBRARY[2], help="a model or checkpoint to another folder or disk")
    move.add_argument("name", metavar="NAME", help="its name, id or path")
    move.add_argument("folder", metavar="FOLDER", help="the folder that it goes into")
    remove = add(_LIBRARY[3], help="a model or checkpoint to the trash")
    remove.add_argument("name", metavar="NAME", help="its name, id or path")
    remove.add_argument("--for-good", action="store_true", help="delete it instead")
    remove.add_argument("--yes", action="store_true", help="do not ask")


def _add_experts(add: Callable[..., argparse.ArgumentParser]) -> None:
    """What a model's routers choose; docs/experts.md explains the figures."""
    experts = add("experts", help="which experts a model's tokens went to: a trace, shown or recorded")
    experts.add_argument("trace", metavar="TRACE", help="the trace's file")
    experts.add_argument("--json", action="store_true", help="as one JSON object")
    experts.add_argument("--record", metavar="MODEL", help="record it: a GGUF that reads a text and goes on")
    experts.add_argument("--text", metavar="FILE", help="the text, UTF-8; default: stdin")
    experts.add_argument("--tokens", type=_number, default=128, help="how many it then writes (default 128)")
    experts.add_argument("--context", type=_count, default=4096, help="tokens it can hold (default 4096)")
    experts.add_argument("--threads", type=_number, default=0, help="0, the default: as many as suit")


def _add_conversion(add: Callable[..., argparse.ArgumentParser]) -> None:
    """A checkpoint into a GGUF, and its proof; docs/conversion.md tells what becomes of each tensor."""
    convert = add(_CONVERSION[0], help="a DeepSeek-V4 checkpoint into a GGUF; goes on where it was")
    convert.add_argument("source", metavar="SRC", help="the checkpoint's folder")
    convert.add_argument("target", metavar="DST", help="the .gguf file to write")
    convert.add_argument(
        "--dense",
        choices=("q8_0", "bf16"),
        default="q8_0",
        help="the FP8 part: q8_0 (default; smaller, rounded) or bf16 (exact); experts are always exact",
    )
    convert.add_argument(
        "--draft",
        choices=("separate", "keep", "skip"),
        default="separate",
        help="the drafter: a file of its own (default), in the model's (MTP only), or left out",
    )
    convert.add_argument(
        "--consume", action="store_true", help="delete each shard once all of it is written and read back"
    )
    convert.add_argument(
        "--release", metavar="NAME", help="which model it is, where its folder's name does not tell"
    )
    verify = add(_CONVERSION[1], help="whether a converted file or a fetched folder is what it should be")
    verify.add_argument(
        "paths",
        metavar="PATH",
        nargs="+",
        help="the .gguf, which is checked against its receipt; a fetched folder, checked against the hub's "
        "digests; or the checkpoint's folder, then the .gguf",
    )
    for command in (convert, verify):
        command.add_argument("--events", action="store_true", help="progress and result as lines of JSON")


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 31:
        raise argparse.ArgumentTypeError("a number from 0 on")
    return number


def _counts(least: int) -> Callable[[str], tuple[int, ...]]:
    """A reader of numbers with commas between them."""

    def counts(text: str) -> tuple[int, ...]:
        found = tuple(int(each) for each in text.split(","))
        if len(found) > 20 or not all(least <= each <= 1 << 24 for each in found):
            raise argparse.ArgumentTypeError(f"up to 20 numbers from {least} on, with commas between them")
        return found

    return counts


def _count(text: str) -> int:
    return _counts(1)(text)[0]


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError("a number of seconds from 0 on")
    return seconds


def _status(error: SeamountError) -> int:
    if isinstance(error, EngineRunning):
        return EXIT_RUNNING
    if isinstance(error, NewerData) and error.can_go_back:
        return EXIT_CAN_GO_BACK
    if isinstance(error, NotBackedUp):
        return EXIT_NOT_BACKED_UP
    if isinstance(error, DataFolderError):
        return EXIT_DATA_FOLDER
    if isinstance(error, PortTaken):
        return EXIT_PORT
    return EXIT_OTHER


def _speak_utf8() -> None:
    """Models write any character; a terminal that cannot show one shows a question mark."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
