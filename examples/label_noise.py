"""Label noise
===========

Which labels become which, and how many.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot

from sparsedd import NoisyLabels
from sparsedd.data import DATASETS
from sparsedd.experiments import FIGURES

matplotlib.use("agg")
NUMBERS = [number for number, figure in FIGURES.items() if figure.experiments[0].noise is not None]
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="22", choices=NUMBERS, metavar="N", help="default: 22")
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/label_noise"))
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)

for experiment in dict.fromkeys(FIGURES[options.figure].scaled(options.scale).experiments[:3]):
    source = DATASETS[experiment.dataset]()
    noisy = NoisyLabels(source.train, experiment.noise, num_classes=source.num_classes, seed=0)
    became = np.zeros((source.num_classes, source.num_classes), dtype=int)
    np.add.at(became, (noisy.clean.numpy(), noisy.targets.numpy()), 1)
    print(noisy)
    figure, ax = pyplot.subplots(layout="constrained")
    figure.colorbar(ax.imshow(became, cmap="Blues"), label="labels")
    ax.set(xlabel="label as trained on", ylabel="original label", title=str(experiment.noise))
    figure.savefig(options.out / f"{experiment.name}.png")
