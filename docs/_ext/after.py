"""The pictures of the page *After the paper*, drawn from the tables in results/after-the-paper/."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
from drawn import LARGE, save, write_both
from matplotlib import pyplot

from sparsedd import plotting

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from after_the_paper import by_seed, read, search

COLORS = ("#c0392b", "#3a6ea5", "#2e8b57", "#b8860b", "#7d4fa3", "#555555", "#888888")


def clean_labels():
    """Wrong labels that are missed, against the trainings that were spent: a panel for each noise."""
    table = read("clean_labels")
    noises, ways = (list(dict.fromkeys(table[name])) for name in ("noise", "way"))
    ways.remove("sweep: margins")
    figure, axes = pyplot.subplots(1, len(noises), figsize=(10, 4), layout="constrained")
    for ax, noise in zip(axes, noises, strict=True):
        for way, color in zip(ways, COLORS, strict=True):
            rows = table[(table["noise"] == noise) & (table["way"] == way)]
            spent = np.unique(rows["trainings"])
            missed = [100 * rows["false_negative_rate"][rows["trainings"] == n].mean() for n in spent]
            ax.plot(spent, missed, marker="s" if way.startswith("sweep") else "o", color=color, label=way)
        ax.set(title=noise, xlabel="trainings", xscale="log", xticks=(1, 2, 5, 10, 18), xticklabels=(1, 2, 5, 10, 18))
        ax.minorticks_off()
    axes[0].set_ylabel("wrong labels missed (%)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def remedies():
    """Test accuracy against sparsity, with and without each remedy."""
    table = read("remedies")
    every = {name: table[table["remedy"] == name] for name in dict.fromkeys(table["remedy"])}
    curves = {name: 100 * by_seed(rows, "test_accuracy") for name, rows in every.items()}
    ax = plotting.against_sparsity(by_seed(every["none"], "sparsity")[0], curves, ylabel="test accuracy (%)")
    ax.set_ylim(bottom=48)
    ax.get_legend().set_loc("lower left")
    return ax


def fewer_trainings():
    """Accuracy of one-shot levels of the first seed, and the levels that the search trains."""
    table = read("fewer_trainings")
    sparsity, held, test = (by_seed(table, name)[0] for name in ("sparsity", "validation_accuracy", "test_accuracy"))
    best, found = search(held.__getitem__, len(held))
    curves = {"test": 100 * test, "validation, as noisy as the training data": 100 * held}
    ax = plotting.against_sparsity(sparsity, curves, ylabel="accuracy (%)")
    chosen = sorted(found)
    ax.plot(1 - sparsity[chosen], 100 * held[chosen], "o", color="#000000", fillstyle="none", markersize=10)
    ax.axvline(1 - sparsity[best], color="#888888", linestyle=":")
    return ax


def forgetting():
    """Labels that are known no more, and the accuracy of the hardest and the easiest test images, against sparsity."""
    table = read("forgetting")
    names = {
        "wrong labels forgotten": "wrong_forgotten",
        "right labels forgotten": "right_forgotten",
        "hardest quarter, accuracy": "quarter_1",
        "easiest quarter, accuracy": "quarter_4",
    }
    curves = {label: 100 * by_seed(table, name) for label, name in names.items()}
    ax = plotting.against_sparsity(by_seed(table, "sparsity")[0], curves, ylabel="share (%)")
    ax.get_legend().set_loc((0.02, 0.06))
    return ax


def setup(app):
    """Draw them before the pages are read."""

    def write(app):
        folder = Path(app.srcdir) / "_generated" / "after-the-paper"
        for draw in (clean_labels, remedies, fewer_trainings, forgetting):
            for suffix, settings in ("", {}), ("-small", LARGE):
                with matplotlib.rc_context(settings):
                    write_both(save(draw().figure), folder / f"{draw.__name__}{suffix}")

    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
