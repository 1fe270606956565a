"""Pictures: those of a page, each in a light and a dark style."""

import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsedd import plotting
from sparsedd.experiments._figures._measures import Levels
from sparsedd.report._seed import Seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
DARK, NARROW = "screen and (prefers-color-scheme: dark)", "(max-width: 40rem)"
WIDE, SMALL = (9.6, 4.2), (4.9, 3.9)  # inches


@dataclass(frozen=True)
class Picture:
    """A picture with its caption: where it is by default, and for media queries, of which the first that fits counts."""

    caption: str
    source: str
    sources: Sequence[tuple[str, str]]


def draw_pictures(sweep: Levels, seeds: Sequence[Seed]) -> list[Picture]:
    """Draw double descent, wide or narrow as the page is; then learning distance, memorisation and dynamics."""
    n = len(sweep.seeds)
    spread = f"mean and sample standard deviation of {n} seeds" if n > 1 else "one seed"
    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    descent = partial(plotting.double_descent, sweep.sparsity, *accuracies, phases=sweep.phases)
    drawn = [_draw(f"Training and test accuracy against sparsity, {spread}, in the four phases.", descent, WIDE)]
    if sweep.has("learning_distance"):
        distance = partial(plotting.learning_distance, sweep.sparsity, sweep["learning_distance"], sweep["test_accuracy"])
        drawn.append(_draw("Learning distance: how far the weights end from those that the dense net began with.", distance))
    if sweep.has("clean_accuracy") and sweep.has("flipped_accuracy"):
        memory = {"right": 100 * sweep["clean_accuracy"], "wrong": 100 * sweep["flipped_accuracy"]}
        memorised = partial(plotting.against_sparsity, sweep.sparsity, memory, ylabel="labels as trained on (%)")
        drawn.append(_draw("Memorisation: how many of the right and of the wrong training labels the net gives.", memorised))
    curves = [record.epochs for seed in seeds for record in seed.records]
    if all(curves) and max((len(curve.epoch) for curve in curves if curve), default=1) > 1:
        for part, name in (("train", "training"), ("test", "test")):
            dynamics = partial(plotting.against_epoch, _dynamics(sweep, seeds, part), ylabel=f"{name} accuracy (%)")
            drawn.append(_draw(f"Dynamics: {name} accuracy in the course of training, at four levels.", dynamics))
    return drawn


def _dynamics(sweep: Levels, seeds: Sequence[Seed], part: str) -> dict[str, tuple[Any, Any]]:
    """Return accuracy against the epoch, (seeds, epochs), at the four landmarks."""
    found = {}
    for mark in sweep.landmarks:
        curves = [seed.records[mark.level].curves for seed in seeds if seed.number in sweep.seeds]
        values = np.array([getattr(curve, f"{part}_accuracy") for curve in curves])
        found[str(mark)] = (np.array(curves[0].epoch), 100 * values)
    return found


def _draw(caption: str, draw: "Callable[..., Axes]", size: tuple[float, float] = SMALL) -> Picture:
    """Draw with ``draw(ax=)`` in each style, and small too, for a phone, what is wide."""
    media = {f"{DARK} and {NARROW}": ("dark", SMALL), NARROW: ("light", SMALL)} if size != SMALL else {}
    sources = {query: _svg(draw, *drawn) for query, drawn in (media | {DARK: ("dark", size)}).items()}
    return Picture(caption, _svg(draw, "light", size), list(sources.items()))


def _svg(draw: "Callable[..., Axes]", style: str, size: tuple[float, float]) -> str:
    """Return the address of a picture that is its content."""
    from matplotlib import pyplot

    file = io.BytesIO()
    styles = [HERE / "page.mplstyle", HERE / f"{style}.mplstyle"]
    with pyplot.style.context(["default", *styles]):  # whatever the user's own is
        figure, ax = pyplot.subplots(figsize=size, layout="constrained")
        try:
            draw(ax=ax)
            figure.savefig(file, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        finally:
            pyplot.close(figure)
    return f"data:image/svg+xml;base64,{b64encode(file.getvalue()).decode()}"
