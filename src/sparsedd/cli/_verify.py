"""The command ``sparsedd verify``."""

import argparse
import sys
from functools import partial
from pathlib import Path

from sparsedd import experiments
from sparsedd.cli._options import Commands, new
from sparsedd.sweeps._workers import pinned

EXAMPLES = """examples:
  sparsedd verify demo            a line for each run and table in demo/, and for each damaged file, with what to do
  sparsedd verify demo --repair   compute the damaged levels again; all others stay as they are, byte for byte
  sparsedd verify --repair mine   of a sweep with a script of its own: take out the damaged level and those after it;
                                  the script computes them again, and verify says beforehand which they are
  sparsedd verify mask.safetensors

exit status: 0 all is well, 1 something is damaged, 2 there is nothing to verify
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    purpose = "check that files are what was written; compute damaged levels again"
    parser = new(commands, "verify", purpose, EXAMPLES)
    parser.set_defaults(command=command)
    parser.add_argument("path", type=Path, metavar="DIR", help="with all folders in it; or one file")
    what = "compute what is damaged again; of a sweep with a script of its own, take it out with the levels after it"
    parser.add_argument("--repair", action="store_true", help=what)
    parser.add_argument("--device", default="cpu", help="where it was trained (default: cpu)")


def command(options: argparse.Namespace) -> int:
    """Print for each run or file whether it is what was written."""
    if options.repair:
        findings = pinned(partial(experiments.repair, device=options.device), options.path)
    else:
        findings = experiments.verify(options.path)
    for finding in findings:
        print(finding)
    if not findings:
        why = "does not exist" if not options.path.exists() else "holds nothing to verify"
        why = "is no file of sparsedd's" if options.path.is_file() else why
        print(f"sparsedd: {options.path} {why}: pass the --out of an earlier command.", file=sys.stderr)
        return 2
    return 0 if all(finding.ok for finding in findings) else 1
