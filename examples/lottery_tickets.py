"""Lottery tickets
===============

Lottery tickets against the same masks with new initial weights.
"""

import argparse
from pathlib import Path

import matplotlib

from sparsedd import plotting
from sparsedd.experiments import FIGURES, reinit, run

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="10", choices=("10", "33", "34"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/lottery_tickets"))
options = parser.parse_args()

for panel in FIGURES[options.figure].scaled(options.scale).panels:
    ticket = panel.sweeps[0]
    won, drawn = list(run(ticket, options.out)), list(reinit(ticket, options.out))
    curves = {
        label: [100 * level.test_accuracy for level in levels]
        for label, levels in (("lottery ticket", won), ("new initial weights", drawn))
    }
    ax = plotting.against_sparsity([level.sparsity for level in won], curves, ylabel="test accuracy (%)")
    ax.get_figure().savefig(options.out / f"{ticket.name}.png")
    ahead = sum(other.test_accuracy > level.test_accuracy for level, other in zip(won, drawn, strict=True))
    print(f"{panel.title}: new initial weights are ahead at {ahead} of {len(won)} levels")
