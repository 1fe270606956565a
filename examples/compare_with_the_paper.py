"""The MNIST sweep beside the published one (He et al. 2022, Fig. 1 left), by the number of hidden weights left."""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from sparsedd import phases, plotting

pyplot.switch_backend("agg")
RESULTS = Path(__file__).parent.parent / "results" / "mnist-lenet-symmetric20"


def columns(path: Path) -> dict[str, np.ndarray]:
    rows = list(csv.DictReader(line for line in path.read_text().splitlines() if not line.startswith("#")))
    numeric = {name for name in rows[0] if name not in ("experiment", "scale")}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in numeric}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=RESULTS, help="folder for comparison.png")
out = parser.parse_args().out
out.mkdir(parents=True, exist_ok=True)
ours, theirs = columns(RESULTS / "levels.csv"), columns(RESULTS / "published.csv")

figure, (top, bottom) = pyplot.subplots(2, 1, figsize=(8, 8), layout="constrained")
for part, color in (("train", "#3a6ea5"), ("test", "#c0392b")):
    top.plot(ours["remaining"], 100 * ours[f"{part}_accuracy"], "o-", ms=3, color=color, label=f"{part}, this library")
    known = ~np.isnan(theirs[f"{part}_accuracy"])
    top.plot(
        theirs["hidden_weights"][known], 100 * theirs[f"{part}_accuracy"][known], "x--", color=color, label=f"{part}, published"
    )
top.set(xscale="log", xlabel="hidden weights left", ylabel="accuracy (%)")
top.invert_xaxis()
top.legend()
plotting.learning_distance(ours["sparsity"], ours["learning_distance"], ours["test_accuracy"], ax=bottom)
figure.savefig(out / "comparison.png", dpi=150)

for name, curve, left in (("ours", ours, ours["remaining"]), ("published", theirs, theirs["hidden_weights"])):
    test, train = curve["test_accuracy"], curve["train_accuracy"]
    found = phases.double_descent(1 - left / left[0], test)
    dip, peak = (int(np.argmin(abs(1 - left / left[0] - s))) for s in (found.dip_sparsity, found.peak_sparsity))
    print(
        f"{name}: dense {test[0]:.3f}; dip {test[dip]:.3f} at {left[dip]:,.0f} hidden weights; "
        f"highest {test[peak]:.3f} at {left[peak]:,.0f}; train/test there {train[peak] / test[peak]:.3f}"
    )
distance = ours["learning_distance"]
print(
    f"learning distance: {distance[0]:.1f} dense, {distance.max():.1f} at most, at "
    f"{ours['remaining'][distance.argmax()]:,.0f} hidden weights, {distance[-1]:.1f} at the last level"
)
