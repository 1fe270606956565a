"""The MNIST sweep beside the published one (He et al. 2022, Fig. 1 left), by the number of hidden weights left."""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot

from sparsedd import phases

matplotlib.use("agg")
RESULTS = Path(__file__).parent.parent / "results" / "mnist-paper"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=RESULTS, help="folder for comparison.png")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
ours = np.genfromtxt(RESULTS / "5" / "levels.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
ours = ours.reshape(len(set(ours["seed"])), -1)  # seeds × levels
theirs = np.genfromtxt(RESULTS / "published.csv", delimiter=",", names=True, skip_header=2)[None]
curves = {f"this library, {len(ours)} seeds": (ours, ours["remaining"][0]), "published": (theirs, theirs["hidden_weights"][0])}

figure, ax = pyplot.subplots(figsize=(8, 5), layout="constrained")
for (name, (curve, left)), style in zip(curves.items(), ("o-", "x--"), strict=True):
    train, test = (curve[f"{part}_accuracy"] for part in ("train", "test"))
    for part, accuracy, color in (("train", train, "#3a6ea5"), ("test", test, "#c0392b")):
        mean, std = 100 * accuracy.mean(axis=0), 100 * accuracy.std(axis=0)
        known = ~np.isnan(mean)
        ax.plot(left[known], mean[known], style, markersize=4, color=color, label=f"{part}, {name}")
        ax.fill_between(left[known], (mean - std)[known], (mean + std)[known], color=color, alpha=0.2, linewidth=0)
    train, test, sparsity = train.mean(axis=0), test.mean(axis=0), 1 - left / left[0]
    found = phases.double_descent(sparsity, test)
    dip, peak = (int(abs(sparsity - s).argmin()) for s in (found.dip_sparsity, found.peak_sparsity))
    print(f"{name}: dense {test[0]:.3f}; dip {test[dip]:.3f} at {left[dip]:,.0f} hidden weights; "
          f"highest {test[peak]:.3f} at {left[peak]:,.0f}; train/test there {train[peak] / test[peak]:.3f}; "
          f"fewest {left[-1]:,.0f}")  # fmt: skip
ax.set(xscale="log", xlabel="hidden weights left", ylabel="accuracy (%)", xlim=(3e5, 200))
ax.legend()
figure.savefig(out / "comparison.png", dpi=120)
