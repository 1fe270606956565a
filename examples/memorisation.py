"""Memorisation
============

What the paper argues about and never plots: how well a net knows its right and its wrong labels, level by level.
"""

import argparse
from pathlib import Path

import matplotlib

from sparsedd import plotting
from sparsedd.experiments import FIGURES, run

matplotlib.use("agg")
NUMBERS = ("1", "4", "21", "22", "28", "29", "44", "46", "48")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="44", choices=NUMBERS)
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/memorisation"))
options = parser.parse_args()

for panel in FIGURES[options.figure].scaled(options.scale).panels[:2]:
    levels = list(run(panel.sweeps[0], options.out))
    curves = {
        "wrong labels, as trained on": [100 * level.flipped_accuracy for level in levels],
        "right labels": [100 * level.clean_accuracy for level in levels],
        "test": [100 * level.test_accuracy for level in levels],
    }
    ax = plotting.against_sparsity([level.sparsity for level in levels], curves, ylabel="accuracy (%)")
    ax.get_figure().savefig(options.out / f"{panel.sweeps[0].name}.png")
    print(panel.title)
    for level in levels:
        print(f"  {level.sparsity:8.3%}: right {level.clean_accuracy:.1%}, wrong {level.flipped_accuracy:.1%}")
