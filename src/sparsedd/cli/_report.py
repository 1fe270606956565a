"""The command ``sparsedd report``."""

import argparse
from pathlib import Path

from sparsedd.cli._options import Commands, drawable, new
from sparsedd.report import write_report

EXAMPLES = """examples:
  sparsedd report demo         demo/report.html, and the table and the picture of the runs as they are now
  sparsedd report runs/mine    the same of sweeps of one's own, all seeds together: those of a Sweep, anywhere in the folder
  sparsedd report mine         of a levels.csv alone: experiment, seed, level, sparsity, train_accuracy, test_accuracy

It can be given while a run is still going, or after it was stopped.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new(commands, "report", "one page about the sweeps in a folder, with table, pictures and advice", EXAMPLES)
    parser.set_defaults(command=command)
    parser.add_argument("DIR", type=Path, help="the --out of an earlier command, or any with sweeps or a levels.csv")


def command(options: argparse.Namespace) -> None:
    """Write the page, the table and the pictures again, of the runs as they are now, and print the sentences."""
    drawable()
    write_report(options.DIR)
