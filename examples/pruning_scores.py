"""Pruning scores
==============

How deep test accuracy falls and how high it rises, by magnitude, by gradient and at random.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np

from sparsedd import phases, plotting
from sparsedd.experiments import FIGURES, run_all

matplotlib.use("agg")
NUMBERS = ("2", "13", "14", "16", "17", "18", "20", "21", "22", "23", "24", "25", "27", "28", "29")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="13", choices=NUMBERS)
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/pruning_scores"))
options = parser.parse_args()

for panel in FIGURES[options.figure].scaled(options.scale).panels:
    experiment = panel.sweeps[0]
    results = run_all([replace(experiment, seed=seed) for seed in range(2)], options.out)
    sparsity = [level.sparsity for level in results[experiment]]
    train, test = (
        np.array([[getattr(level, f"{part}_accuracy") for level in levels] for levels in results.values()])
        for part in ("train", "test")
    )
    found = phases.double_descent(sparsity, test)
    print(f"{experiment.pruner}: falls by {100 * found.dip:.1f}, rises by {100 * found.gain:.1f} points")
    ax = plotting.double_descent(sparsity, train, test, phases=phases.phases(sparsity, train, test))
    ax.get_figure().savefig(options.out / f"{experiment.pruner.score}.png")
