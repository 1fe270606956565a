"""Re-dense training
=================

Give a sparse net its pruned weights back, and see whether it stays where it is.
"""

import argparse
from pathlib import Path

import matplotlib

from sparsedd import phases, plotting
from sparsedd.experiments import FIGURES, redense, run

matplotlib.use("agg")
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("figure", nargs="?", default="37", choices=("6", "37", "38", "39"))
parser.add_argument("--scale", default="smoke", choices=("smoke", "mini", "quarter", "small", "paper"))
parser.add_argument("--out", type=Path, default=Path("out/redense"))
options = parser.parse_args()

figure = FIGURES[options.figure].scaled(options.scale)
experiment = figure.experiments[0]
levels = list(run(experiment, options.out))
sparsity = [level.sparsity for level in levels]
found = phases.double_descent(sparsity, [level.test_accuracy for level in levels])
for name, where in (("dense", 0.0), ("dip", found.dip_sparsity), ("peak", found.peak_sparsity), ("last", sparsity[-1])):
    record = redense(experiment, sparsity.index(where), options.out)
    epochs = record.sparse.epoch + record.dense.epoch
    curves = {
        part: (epochs, [100 * a for c in (record.sparse, record.dense) for a in getattr(c, f"{part}_accuracy")])
        for part in ("train", "test")
    }
    plotting.against_epoch(curves, mark=record.sparse.epoch[-1] + 0.5).get_figure().savefig(options.out / f"{name}.png")
    before, after = record.sparse.test_accuracy[-1], record.dense.test_accuracy[-1]
    print(f"{name} ({where:.2%} sparsity): test accuracy {before:.1%} with the mask, {after:.1%} after training without it")
