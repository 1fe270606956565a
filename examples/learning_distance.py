"""Learning distance
=================

Is the net that went farther from its initial weights the one that generalises worse?
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np

from sparsedd import plotting
from sparsedd.experiments import FIGURES, run

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="9", choices=("9", "12", "44", "45", "46", "47", "48", "49"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/learning_distance"))
options = parser.parse_args()

for panel in FIGURES[options.figure].scaled(options.scale).panels:
    levels = list(run(panel.sweeps[0], options.out))
    distance = np.array([level.learning_distance for level in levels])
    accuracy = np.array([level.test_accuracy for level in levels])
    ax = plotting.learning_distance([level.sparsity for level in levels], distance, accuracy)
    ax.get_figure().savefig(options.out / f"{panel.sweeps[0].name}.png")
    print(f"{panel.title}: farthest at level {distance.argmax()} ({distance.max():.1f}), worst at level {accuracy.argmin()}")
