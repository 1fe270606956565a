"""The command ``sparsedd demo``, which is a ``run`` of its own preset."""

from pathlib import Path

from sparsedd.cli import _run
from sparsedd.cli._options import Commands, add_run_options, new

EXAMPLES = """examples:
  sparsedd demo                         a line for each level, then demo/report.html, with picture and table
  sparsedd demo --dry-run               what would run, and what is there
  sparsedd demo --seeds 8 --out more    more seeds, and so narrower bands, in a folder of their own
  sparsedd demo --seeds 8               the same in demo/: the seeds that are there are not computed again

Ctrl-C stops it. The same command goes on from there.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new(commands, "demo", "sparse double descent on scikit-learn's digits, in a minute or two on two cores", EXAMPLES)
    unchanged = dict.fromkeys(("noise", "score", "scope", "retraining", "precision"))
    parser.set_defaults(command=_run.command, preset="lenet-digits", scale="small", one_shot=False, reinit=False, **unchanged)
    add_run_options(parser, seeds=4, out=Path("demo"))
