"""Retraining methods
==================

Four methods as values: what a level starts from, and what becomes of it.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib

from sparsedd import plotting
from sparsedd.experiments import FIGURES, METHODS, run

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="15", choices=("3", "15", "19", "26"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/retraining_methods"))
options = parser.parse_args()

base = FIGURES[options.figure].scaled(options.scale).panels[0].sweeps[0]
curves = {}
for name, method in METHODS.items():
    total = 1000 * base.epochs  # as if an epoch had a thousand steps
    first, rate = method.steps(base.schedule(1000), rewind_step=base.rewind_step, total=total)
    print(f"{name}: weights {method.weights}, from step {first}, learning rate {rate(first):g} to {rate(total - 1):g}")
    levels = list(run(replace(base, retraining=method), options.out))
    curves[name] = [100 * level.test_accuracy for level in levels]
    print("  test accuracy " + " ".join(f"{accuracy:.1f}" for accuracy in curves[name]))

ax = plotting.against_sparsity([level.sparsity for level in levels], curves, ylabel="test accuracy (%)")
ax.get_figure().savefig(options.out / "methods.png")
