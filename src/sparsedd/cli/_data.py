"""The command ``sparsedd data``."""

import argparse
from pathlib import Path

from sparsedd import data
from sparsedd.cli._options import Commands, new

EXAMPLES = """examples:
  sparsedd data tiny-imagenet tiny-imagenet-200.zip                into ~/.cache/sparsedd, or what SPARSEDD_DATA names
  sparsedd data tiny-imagenet tiny-imagenet-200.zip --out images   into images/: set SPARSEDD_DATA=images to read it

The digits come with scikit-learn. MNIST and CIFAR are downloaded when they are first needed, to the same folder.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new(commands, "data", "arrange the official archive of a data set as it is read here", EXAMPLES)
    parser.set_defaults(command=command)
    parser.add_argument("dataset", choices=("tiny-imagenet",), help="which")
    parser.add_argument("path", type=Path, metavar="PATH", help="the archive, or the folder that it was unpacked to")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: SPARSEDD_DATA, else ~/.cache/sparsedd")


def command(options: argparse.Namespace) -> None:
    """Arrange the archive, and say where."""
    print(data.arrange_tiny_imagenet(options.path, options.out))
