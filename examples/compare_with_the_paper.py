"""The MNIST sweep beside the published one (He et al. 2022, Fig. 1 left), by the number of hidden weights left."""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot

from sparsedd import phases, plotting

matplotlib.use("agg")
RESULTS = Path(__file__).parent.parent / "results" / "mnist-lenet-symmetric20"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=RESULTS, help="folder for comparison.png")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
ours = np.genfromtxt(RESULTS / "levels.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
theirs = np.genfromtxt(RESULTS / "published.csv", delimiter=",", names=True, skip_header=2)
curves = {"this library": (ours, ours["remaining"]), "published": (theirs, theirs["hidden_weights"])}

figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(8, 8), layout="constrained")
for (name, (curve, left)), style in zip(curves.items(), ("o-", "x--"), strict=True):
    for part, color in (("train", "#3a6ea5"), ("test", "#c0392b")):
        known = ~np.isnan(curve[f"{part}_accuracy"])
        accuracy = 100 * curve[f"{part}_accuracy"][known]
        top.plot(left[known], accuracy, style, markersize=4, color=color, label=f"{part}, {name}")
    test, train, sparsity = curve["test_accuracy"], curve["train_accuracy"], 1 - left / left[0]
    found = phases.double_descent(sparsity, test)
    dip, peak = (int(abs(sparsity - s).argmin()) for s in (found.dip_sparsity, found.peak_sparsity))
    print(f"{name}: dense {test[0]:.3f}; dip {test[dip]:.3f} at {left[dip]:,.0f} hidden weights; "
          f"highest {test[peak]:.3f} at {left[peak]:,.0f}; train/test there {train[peak] / test[peak]:.3f}")  # fmt: skip
top.set(xscale="log", xlabel="hidden weights left", ylabel="accuracy (%)", xlim=(3e5, 200))
top.legend()
plotting.learning_distance(ours["sparsity"], ours["learning_distance"], ours["test_accuracy"], ax=bottom)
figure.savefig(out / "comparison.png", dpi=150)
