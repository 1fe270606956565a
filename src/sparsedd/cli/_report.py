"""The command ``sparsedd report``."""

import argparse
from pathlib import Path

from sparsedd.cli._options import Commands, drawable, new
from sparsedd.experiments._report import found_in, write

EXAMPLES = """examples:
  sparsedd report demo      demo/report.html, and the table and the picture of the runs as they are now

It can be given while a run is still going, or after it was stopped.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new(commands, "report", "one page about the runs in a folder, with table, pictures and advice", EXAMPLES)
    parser.set_defaults(command=command)
    parser.add_argument("out", type=Path, metavar="DIR", help="the --out of an earlier command")


def command(options: argparse.Namespace) -> None:
    """Write the page, the table and the pictures again, of the runs as they are now, and print the sentences."""
    drawable()
    results = found_in(options.out)
    if not results:
        raise ValueError(
            f"{options.out} holds no runs with a finished level: pass the --out of an earlier command, or where figures keep "
            "their runs, such as figures/runs."
        )
    write(options.out, results)
