"""One shot
========

Iterative and one-shot pruning: the authors pruned ResNet-101 in one shot, the paper says iteratively.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

from sparsedd import plotting
from sparsedd.experiments import FIGURES, run

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="5", choices=("5", "12", "30"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/one_shot"))
options = parser.parse_args()

iterative = FIGURES[options.figure].scaled(options.scale).experiments[0]
curves = {}
for label, experiment in (("iterative", iterative), ("one shot", replace(iterative, one_shot=True))):
    levels = list(run(experiment, options.out))
    curves[label] = [100 * level.test_accuracy for level in levels]
    print(f"{label}: " + ", ".join(f"{level.remaining:,} weights {level.test_accuracy:.1%}" for level in levels))
ax = plotting.against_sparsity([level.sparsity for level in levels], curves, ylabel="test accuracy (%)")
ax.get_figure().savefig(options.out / "one_shot.png")
