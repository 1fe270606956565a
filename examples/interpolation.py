"""Is there a barrier?
===================

The straight line from a sparse net to its re-dense net: does the loss rise on it?
"""

import argparse
from pathlib import Path

import matplotlib

from sparsedd import plotting
from sparsedd.experiments import FIGURES, interpolation

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="40", choices=("7", "40", "41", "42"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/interpolation"))
options = parser.parse_args()

experiment = FIGURES[options.figure].scaled(options.scale).experiments[0]
for level in (1, experiment.levels - 1):
    line = interpolation(experiment, level, options.out)  # runs the sweep and re-dense training where they have not been
    ax = plotting.interpolation(
        line.alpha,
        train_loss=line.train_loss,
        test_loss=line.test_loss,
        train_accuracy=line.train_accuracy,
        test_accuracy=line.test_accuracy,
    )
    ax.get_figure().savefig(options.out / f"level-{level}.png")
    rises = sum(after > before for before, after in zip(line.train_loss, line.train_loss[1:], strict=False))
    print(f"level {level}: training loss {line.train_loss[0]:.3f} to {line.train_loss[-1]:.3f}, rising in {rises} steps")
