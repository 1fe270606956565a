"""The command ``sparsedd``: demo, run, figure, report, verify and data. Each continues what it finds in its folder."""

import argparse
import io
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import sparsedd
from sparsedd import _checks
from sparsedd.cli import _data, _demo, _figure, _report, _run, _verify

EXAMPLES = """first:
  sparsedd demo                       the whole phenomenon, in a minute or two: demo/report.html
  sparsedd report demo                what came of it, and what to do about it
  sparsedd figure 5 --scale smoke     a figure of the paper, as small as can be
  sparsedd run --help                 what can be changed about an experiment

Each command has examples of its own: sparsedd COMMAND --help.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 unless something went wrong, which one line on stderr explains.

    It is 2 where the command itself is wrong, with its usage on stderr. That of ``verify`` is 1 when something is damaged, and
    2 when there is nothing to verify.
    """
    if arguments is None and isinstance(sys.stdout, io.TextIOWrapper):  # nobody else's, and it may know ASCII only
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _make_parser().parse_args(arguments)
    try:
        _check_options(options)
        status: int | None = options.command(options)
        print(end="", flush=True)  # so that an error of it is caught here
    except BrokenPipeError:  # the reader has seen enough, as head has
        if arguments is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return 128 + 13  # as if ended by SIGPIPE
    except KeyboardInterrupt:
        if arguments is None:  # this process is about to end, and hears no second one
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(f"\nStopped. {_describe_repeat(options)}\n  {_format_command(arguments)}", file=sys.stderr)
        return 130
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        print(f"sparsedd: {_describe_error(error)}", file=sys.stderr)
        return 1
    return status or 0


def _describe_error(error: Exception) -> str:
    """Return an error's message, and for one of the system's that names a file, what can be done."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} can't be read or written ({error.strerror}): pass another place, or see to this one."
    return str(error)


def _describe_repeat(options: argparse.Namespace) -> str:
    """Say what the same command does when it is given again."""
    if "processes" in options:
        return "All finished levels are kept. The same command goes on from here:"
    return "The same command begins again:"


def _format_command(arguments: Sequence[str] | None) -> str:
    """Return the command as it can be typed into a shell."""
    if arguments is not None:
        return shlex.join(["sparsedd", *arguments])
    called, found = Path(sys.argv[0]), shutil.which("sparsedd")
    if called.name == "__main__.py":
        return shlex.join([Path(sys.executable).name, "-m", "sparsedd", *sys.argv[1:]])
    if found is not None and Path(found).resolve() == called.resolve():
        called = Path("sparsedd")
    return shlex.join([str(called), *sys.argv[1:]])


def _check_options(options: argparse.Namespace) -> None:
    """Raise for folders and devices that can't be used: before the work, not in the middle of it."""
    for name in ("out", "runs", "DIR"):
        if (place := getattr(options, name, None)) is not None:
            _checks.folder(name, place)
    if (device := getattr(options, "device", None)) is not None:
        _checks.device("device", device)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sparsedd",
        description="Unstructured pruning, and sparse double descent.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sparsedd {sparsedd.__version__}")
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    for command in (_demo, _run, _figure, _report, _verify, _data):
        command.add(commands)
    return parser
