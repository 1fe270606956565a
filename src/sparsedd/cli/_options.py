"""The options that several commands take, and what they need."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sparsedd.experiments._pool import cores

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = argparse._SubParsersAction


def add_run_options(parser: argparse.ArgumentParser, seeds: int | None, out: Path | None) -> None:
    """Add the options of commands that compute."""
    figure = seeds is None
    where = "figures/N, which share figures/runs" if figure else out
    parser.add_argument(
        "--out",
        type=Path,
        default=out,
        required=not (out or figure),
        help=f"folder for table and picture (default: {where})",
    )
    number = "as many as the paper has, fewer when not at paper scale" if figure else seeds
    parser.add_argument("--seeds", type=_whole(1), default=seeds, metavar="K", help=f"how many (default: {number})")
    parser.add_argument("--seed", type=_whole(0), default=None if figure else 0, metavar="S", help="the first (default: 0)")
    parser.add_argument(
        "--processes", type=_whole(1), default=None, metavar="P", help="default: one for each core, one with a GPU or a fleet"
    )
    parser.add_argument("--device", default=None if figure else "cpu", help="default: cpu")
    parser.add_argument(
        "--fleet", action="store_true", default=None if figure else False, help="train nets of one shape as one: for a GPU"
    )


def processes(options: argparse.Namespace) -> int:
    """How many processes share the work."""
    return options.processes or (cores() if options.device == "cpu" and not options.fleet else 1)


def drawable() -> None:
    """Find out that matplotlib is missing before the work, not after it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'sparsedd[demo]'.") from error
    matplotlib.use("agg")


def _whole(least: int) -> Callable[[str], int]:
    """An argument that is an integer of at least ``least``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return value

    return integer
