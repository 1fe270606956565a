"""The MNIST sweep beside the published one (He et al. 2022, Fig. 1 left), by the number of hidden weights left."""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot

from sparsedd import phases, plotting
from sparsedd.experiments import Tables

matplotlib.use("agg")
RESULTS = Path(__file__).parent.parent / "results" / "mnist-paper"
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=RESULTS, help="folder for comparison.png")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
sweep = Tables.read(RESULTS / "5").levels
seeds = sorted({row["seed"] for row in sweep})


def ours(column):
    return np.array([[row[column] for row in sweep if row["seed"] == seed] for seed in seeds])


theirs = np.genfromtxt(RESULTS / "published.csv", delimiter=",", names=True, skip_header=2)
curves = {
    f"this library, {len(seeds)} seeds": (ours("remaining")[0], ours("train_accuracy"), ours("test_accuracy")),
    "published": (theirs["hidden_weights"], theirs["train_accuracy"][None], theirs["test_accuracy"][None]),
}

figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(8, 8), layout="constrained")
for (name, (left, train, test)), style in zip(curves.items(), ("o-", "x--"), strict=True):
    for part, values, color in (("train", train, "#3a6ea5"), ("test", test, "#c0392b")):
        mean, std = 100 * values.mean(axis=0), 100 * values.std(axis=0)
        known = ~np.isnan(mean)
        top.plot(left[known], mean[known], style, markersize=4, color=color, label=f"{part}, {name}")
        top.fill_between(left[known], (mean - std)[known], (mean + std)[known], color=color, alpha=0.2, linewidth=0)
    train, test, sparsity = train.mean(axis=0), test.mean(axis=0), 1 - left / left[0]
    found = phases.double_descent(sparsity, test)
    dip, peak = (int(abs(sparsity - s).argmin()) for s in (found.dip_sparsity, found.peak_sparsity))
    print(f"{name}: dense {test[0]:.3f}; dip {test[dip]:.3f} at {left[dip]:,.0f} hidden weights; "
          f"highest {test[peak]:.3f} at {left[peak]:,.0f}; train/test there {train[peak] / test[peak]:.3f}; "
          f"fewest {left[-1]:,.0f}")  # fmt: skip
top.set(xscale="log", xlabel="hidden weights left", ylabel="accuracy (%)", xlim=(3e5, 200))
top.legend()
plotting.learning_distance(ours("sparsity")[0], ours("learning_distance"), ours("test_accuracy"), ax=bottom)
figure.savefig(out / "comparison.png", dpi=120)
