"""Sharpness
=========

Training loss along filter-normalised directions through re-dense nets.
"""

import argparse
from pathlib import Path

import matplotlib

from sparsedd import landscape, plotting
from sparsedd.experiments import FIGURES, directions, redense

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="8", choices=("8", "43"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/sharpness"))
options = parser.parse_args()

experiment = FIGURES[options.figure].scaled(options.scale).experiments[0]
losses = {}
for level in (0, experiment.levels // 2, experiment.levels - 1):
    lines = directions(experiment, level, options.out)
    label = f"{redense(experiment, level, options.out).sparsity:.1%}"
    losses[label] = [line.train_loss for line in lines]
    print(f"{label} before: sharpness {landscape.sharpness(lines[0].alpha, losses[label]):.3g}")
plotting.loss_along(lines[0].alpha, losses).get_figure().savefig(options.out / "loss.png")
