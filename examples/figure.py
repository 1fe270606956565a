"""Any figure of the paper
=======================

Compute what it needs, draw it, and judge what the paper says with it.
"""

import argparse
from pathlib import Path

import matplotlib

from sparsedd.experiments import FIGURES, reproduce

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="13", choices=FIGURES, metavar="N", help="1 to 49 (default: 13)")
parser.add_argument(
    "--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"), help="small shows the phenomenon"
)
parser.add_argument("--out", type=Path, default=Path("out/figure"))
options = parser.parse_args()

figure = FIGURES[options.figure].scaled(options.scale)
print(figure)
for claim in reproduce(figure, options.out):
    print(f"- {claim}")
