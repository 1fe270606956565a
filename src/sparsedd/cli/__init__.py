"""The command ``sparsedd``: demo, run, figure, report, verify and data. Each continues what it finds in its folder."""

import argparse
import sys
from collections.abc import Sequence

import sparsedd
from sparsedd import _checks
from sparsedd.cli import _data, _demo, _figure, _report, _run, _verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 unless something went wrong, which one line on stderr explains.

    That of ``verify`` is 1 when something is damaged, and 2 when there is nothing to verify.
    """
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        status: int | None = options.command(options)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        print(f"sparsedd: {error}", file=sys.stderr)
        return 1
    return status or 0


def _check(options: argparse.Namespace) -> None:
    """Find out what can't be used before the work, not in the middle of it."""
    for name in ("out", "runs"):
        if (place := getattr(options, name, None)) is not None:
            _checks.folder(name, place)
    if (device := getattr(options, "device", None)) is not None:
        _checks.device("device", device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sparsedd", description="Unstructured pruning, and sparse double descent.")
    parser.add_argument("--version", action="version", version=f"sparsedd {sparsedd.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (_demo, _run, _figure, _report, _verify, _data):
        command.add(commands)
    return parser
