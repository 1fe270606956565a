"""The command ``sparsedd report``."""

import argparse
from pathlib import Path

from sparsedd.cli._options import Commands, drawable
from sparsedd.experiments._report import found_in, write


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("report", help="one page about the runs in a folder, with table, pictures and advice")
    parser.set_defaults(command=command)
    parser.add_argument("out", type=Path, metavar="DIR", help="the --out of an earlier command")


def command(options: argparse.Namespace) -> None:
    """Write the page, the table and the pictures again, of the runs as they are now, and print the sentences."""
    drawable()
    results = found_in(options.out)
    if not results:
        raise ValueError(f"{options.out} holds no runs with a finished level: pass the --out of an earlier command.")
    write(options.out, results)
