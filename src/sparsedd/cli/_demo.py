"""The command ``sparsedd demo``."""

from pathlib import Path

from sparsedd.cli import _run
from sparsedd.cli._options import Commands, add_run_options


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("demo", help="sparse double descent on scikit-learn's digits, in about a minute")
    unchanged = dict.fromkeys(("noise", "score", "scope", "retraining", "precision"))
    parser.set_defaults(command=_run.command, preset="lenet-digits", scale="small", one_shot=False, reinit=False, **unchanged)
    add_run_options(parser, seeds=4, out=Path("demo"))
