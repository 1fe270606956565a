"""Pictures drawn from the paper's MNIST sweep as this library computed it: the one on the first page, and memorisation."""

import io
import runpy
from contextlib import redirect_stdout
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import matplotlib
import numpy as np
from drawn import LARGE, save, write_both
from matplotlib import pyplot

from sparsedd import phases, plotting
from sparsedd.phases import Phase

RESULT = Path(__file__).parents[2] / "results" / "mnist-paper" / "1" / "levels.csv"
HUES = {Phase.LIGHT: "#3a6ea5", Phase.CRITICAL: "#d0392b", Phase.SWEET: "#2e9b57", Phase.COLLAPSED: "#77737d"}
SAYS = ("much like\nthe dense net", "pruning makes\nit worse", "pruning makes it\nbetter than dense", "too little\nis left")
THEMES = {
    "light": {"text": "#22252b", "faint": "#6b7078", "train": "#3a6ea5", "test": "#c0392b", "shade": 0.13},
    "dark": {"text": "#e3e5e8", "faint": "#9aa0a8", "train": "#7fb2e5", "test": "#ff7f6e", "shade": 0.22},
}
WIDE, NARROW = "wide", "narrow"
SIZES = {WIDE: (8.2, 4.4), NARROW: (4.3, 5.0)}
TICKS = {WIDE: (0, 50, 80, 90, 95, 98, 99, 99.5, 99.9), NARROW: (0, 80, 95, 99, 99.9)}


def columns(*names: str) -> list[np.ndarray]:
    """Sparsity (levels,), and columns (seeds, levels) of the table."""
    table = np.genfromtxt(RESULT, delimiter=",", names=True, dtype=None, encoding="utf-8")
    table = table.reshape(len(np.unique(table["seed"])), -1)
    return [table["sparsity"][0], *(table[name] for name in names)]


def double_descent(theme: str, size: str) -> str:
    """The four phases, named and in a few words: SVG on a transparent ground."""
    ink, wide = THEMES[theme], size == WIDE
    settings = {"text.color": ink["text"], "axes.edgecolor": ink["faint"]}
    with matplotlib.rc_context(settings):
        figure, ax = pyplot.subplots(figsize=SIZES[size], layout="constrained")
        s, train, test = columns("train_accuracy", "test_accuracy")
        kept, mean = 1 - s, 100 * test.mean(axis=0)
        ax.set(xscale="log", xlim=(1.11, 0.94 * kept[-1]), ylim=(71, 103))
        ax.set_xlabel("sparsity: the share of weights that is pruned", color=ink["text"])
        shade(ax, phases.phases(s, train, test), ink, wide)
        for accuracy, color in ((train, ink["train"]), (test, ink["test"])):
            middle, std = 100 * accuracy.mean(axis=0), 100 * accuracy.std(axis=0, ddof=1)
            ax.plot(kept, middle, color=color, linewidth=2.2)
            ax.fill_between(kept, middle - std, middle + std, color=color, alpha=0.25, linewidth=0)
        ax.text(0.018, 90.5, "test accuracy", color=ink["test"])
        label = "training accuracy,\nwith wrong labels"
        ax.text(0.018, 81, label.replace("\n", " ") if wide else label, color=ink["train"])
        ax.axhline(mean[0], color=ink["test"], linewidth=1, linestyle=(0, (2, 3)), alpha=0.7)
        for k, up, word in ((0, 1, "dense"), (mean.argmin(), -1, "worse"), (mean.argmax(), 1, "better")):
            ax.plot(kept[k], mean[k], "o", color=ink["test"], markersize=6)
            style = {"ha": "center" if k else "left", "va": "bottom" if up > 0 else "top", "weight": "bold"}
            value = f"{mean[k]:.0f} %", word
            text = "\n".join(value[::-up])
            ax.annotate(text, (kept[k], mean[k]), (0, 8 * up), textcoords="offset points", color=ink["test"], **style)
        ax.set_xticks([1 - t / 100 for t in TICKS[size]], labels=[f"{t:g} %" for t in TICKS[size]])
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter(lambda value, position: f"{value:.0f} %")
        ax.tick_params(colors=ink["faint"], length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        return save(figure, transparent=True)


def shade(ax, found: phases.Phases, ink: dict, wide: bool) -> None:
    """A ground for each phase, its name, and what it means where there is room."""
    edges = [ax.get_xlim()[0], *(1 - boundary for boundary in found.boundaries), ax.get_xlim()[1]]
    for phase, says, left, right in zip(Phase, SAYS, edges[:-1], edges[1:], strict=True):
        ax.axvspan(left, right, color=HUES[phase], alpha=ink["shade"], linewidth=0)
        style = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}
        middle = (left * right) ** 0.5  # of a log scale
        ax.text(middle, 1.13 if wide else 1.02, phase, weight="bold", fontsize=11 if wide else 8.5, **style)
        if wide:
            ax.text(middle, 1.015, says, color=ink["faint"], fontsize=9, **style)


def memorisation() -> str:
    """How many of the wrong and of the right training labels are learned: SVG."""
    s, flipped, clean, test = columns("flipped_accuracy", "clean_accuracy", "test_accuracy")
    curves = {"wrong training labels": 100 * flipped, "right training labels": 100 * clean, "test labels": 100 * test}
    return save(plotting.against_sparsity(s, curves, ylabel="labels predicted (%)").get_figure())


def example(name: str, *arguments: str) -> str:
    """The last figure that a script in examples/ draws: SVG."""
    script = str(RESULT.parents[3] / "examples" / f"{name}.py")
    with TemporaryDirectory() as out, patch("sys.argv", [script, *arguments, "--out", out]), redirect_stdout(io.StringIO()):
        runpy.run_path(script)
    picture = save(pyplot.gcf())
    pyplot.close("all")
    return picture


def setup(app):
    """Draw them before the pages are read."""

    def write(app):
        folder = Path(app.srcdir) / "_generated"
        (folder / "mnist-paper").mkdir(parents=True, exist_ok=True)
        for theme, size in product(THEMES, SIZES):
            (folder / f"double-descent-{theme}-{size}.svg").write_text(double_descent(theme, size))
        for suffix, settings in ("", {}), ("-small", LARGE):
            with matplotlib.rc_context(settings):
                write_both(memorisation(), folder / "mnist-paper" / f"memorisation{suffix}")
                write_both(example("compare_with_the_paper"), folder / "mnist-paper" / f"comparison{suffix}")
                write_both(example("label_noise", "5"), folder / "mnist-paper" / f"label_noise{suffix}")

    app.connect("builder-inited", write)
    return {"parallel_read_safe": True}
