"""Beside the published curve
==========================

The MNIST sweep and that of He et al. (2022, Fig. 1 left), by the number of hidden weights left.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from sparsedd import phases

RESULTS = Path(sys.argv[0]).resolve().parent.parent / "results" / "mnist-paper"
parser = argparse.ArgumentParser(description=__doc__.rpartition("\n\n")[2])
parser.add_argument("--out", type=Path, default=RESULTS, help="folder for comparison.png")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
ours = np.genfromtxt(RESULTS / "5" / "levels.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
ours = ours.reshape(len(set(ours["seed"])), -1)  # seeds × levels
theirs = np.genfromtxt(RESULTS / "published.csv", delimiter=",", names=True, skip_header=2)[None]
curves = {f"this library, {len(ours)} seeds": (ours, ours["remaining"][0]), "published": (theirs, theirs["hidden_weights"][0])}

figure, ax = pyplot.subplots(figsize=(8, 5), layout="constrained")
for (name, (curve, left)), style in zip(curves.items(), ("o-", "x--"), strict=True):
    for part, color in (("train", "#3a6ea5"), ("test", "#c0392b")):
        accuracy = 100 * curve[f"{part}_accuracy"]
        known = ~np.isnan(accuracy[0])
        mean, std = accuracy.mean(axis=0)[known], accuracy.std(axis=0)[known]
        ax.plot(left[known], mean, style, markersize=4, color=color, label=f"{part}, {name}")
        ax.fill_between(left[known], mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
    test, sparsity = curve["test_accuracy"].mean(axis=0), 1 - left / left[0]
    found = phases.double_descent(sparsity, test)
    dip, peak = (int(abs(sparsity - s).argmin()) for s in (found.dip_sparsity, found.peak_sparsity))
    print(f"{name}: dense {test[0]:.3f}, dip {test[dip]:.3f} at {left[dip]:,.0f}, peak {test[peak]:.3f} at {left[peak]:,.0f}")
ax.set(xscale="log", xlabel="hidden weights left", ylabel="accuracy (%)", xlim=(3e5, 200))
ax.legend()
figure.savefig(out / "comparison.png", dpi=120)
