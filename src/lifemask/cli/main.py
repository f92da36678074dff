"""Entry point of the `lifemask` command: parse, run one subcommand, return its exit code."""

import codecs
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Annotated

import tyro

import lifemask
from lifemask.cli.draw import Draw
from lifemask.cli.encode import Encode
from lifemask.cli.evaluate import Evaluate
from lifemask.cli.exit_codes import DONE, FAILED, INTERRUPTED, TERMINATED
from lifemask.cli.licenses import Licenses
from lifemask.cli.models import Models
from lifemask.cli.reconstruct import Reconstruct
from lifemask.cli.relight import Relight
from lifemask.cli.train import Train
from lifemask.cli.turntable import Turntable

_DESCRIPTION = """One photo in; a detailed, relightable, animatable 3D head out.

`lifemask --version` prints the version. Exit codes: 0 done, 1 something failed, 2 wrong usage,
3 no face found, 4 doubtful result (with --strict), 130 interrupted."""

Command = (
    Annotated[Reconstruct, tyro.conf.subcommand("reconstruct")]
    | Annotated[Relight, tyro.conf.subcommand("relight")]
    | Annotated[Turntable, tyro.conf.subcommand("turntable")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Licenses, tyro.conf.subcommand("licenses")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Draw, tyro.conf.subcommand("draw")]
    | Annotated[Encode, tyro.conf.subcommand("encode")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; default arguments are those of the process."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments) == ["--version"]:
        print(f"lifemask {lifemask.__version__}")
        return DONE
    _print_any_name()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        command = tyro.cli(
            Command,  # pyright: ignore[reportArgumentType] - a union of annotated types
            prog="lifemask",
            description=_DESCRIPTION,
            args=list(arguments),
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
        code = command.run()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(
            "Interrupted. Finished results are complete; no file is half-written.", file=sys.stderr
        )
        return INTERRUPTED
    except BrokenPipeError:
        # Another program has closed the output. Without this, Python reports the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _print_any_name() -> None:
    """Let names of files be printed that are no text or have letters which the output lacks."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = codecs.lookup(sys.stdout.encoding).name == "utf-8"
        # In UTF-8, the bytes of a name pass unchanged, so that other programs find the file.
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _terminate(*_: object) -> None:
    """Exit as after Ctrl-C, which removes half-written files."""
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
