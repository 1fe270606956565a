"""Illustrations: the pictures of a sweep in a page, each with its caption."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sparsedd import plotting
from sparsedd.experiments._families import Member
from sparsedd.experiments._html import Html, joined, tag
from sparsedd.experiments._measures import Levels as Sweep
from sparsedd.experiments._svg import drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def illustrations(sweep: Sweep, members: Sequence[Member], key: str) -> list[Html]:
    """Double descent, wide or narrow as the page is; then learning distance, memorisation and dynamics."""
    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    descent = partial(plotting.double_descent, sweep.sparsity, *accuracies, phases=sweep.phases)
    caption = f"Training and test accuracy against sparsity, {_spread(sweep)}, in the four phases."
    both = (
        tag("div", drawn(descent, caption, f"{key}-wide", 9.6, 4.2), class_="wide"),
        tag("div", drawn(descent, caption, f"{key}-narrow", 4.9, 4.2), class_="narrow"),
    )
    return [_figure(joined(both), caption), *_small(sweep, members, key)]


def _small(sweep: Sweep, members: Sequence[Member], key: str) -> list[Html]:
    """The pictures that stand side by side."""
    pictures: dict[str, Callable[..., Axes]] = {}
    if sweep.has("learning_distance"):
        pictures["Learning distance: how far the weights end from those that the dense net began with."] = partial(
            plotting.learning_distance, sweep.sparsity, sweep["learning_distance"], sweep["test_accuracy"]
        )
    memory = {kind: 100 * sweep[f"{column}_accuracy"] for kind, column in (("right", "clean"), ("wrong", "flipped"))}
    if all(np.isfinite(values).all() for values in memory.values()):
        pictures["Memorisation: how many of the right and of the wrong training labels the net gives."] = partial(
            plotting.against_sparsity, sweep.sparsity, memory, ylabel="labels as trained on (%)"
        )
    curves = [record.epochs for member in members for record in member.records]
    several = all(curves) and max((len(curve.epoch) for curve in curves if curve), default=1) > 1
    for part, name in () if not several else (("train", "training"), ("test", "test")):
        pictures[f"Dynamics: {name} accuracy in the course of training, at four levels."] = partial(
            plotting.against_epoch, _dynamics(sweep, members, part), ylabel=f"{name} accuracy (%)"
        )
    return [_figure(drawn(draw, caption, f"{key}-{k}"), caption) for k, (caption, draw) in enumerate(pictures.items())]


def _dynamics(sweep: Sweep, members: Sequence[Member], part: str) -> dict[str, tuple[Any, Any]]:
    """Accuracy against the epoch, (seeds, epochs), at the four landmarks."""
    found = {}
    for mark in sweep.landmarks:
        curves = [member.records[mark.level].curves for member in members if member.seed in sweep.seeds]
        values = np.array([getattr(curve, f"{part}_accuracy") for curve in curves])
        found[str(mark)] = (np.array(curves[0].epoch), 100 * values)
    return found


def _spread(sweep: Sweep) -> str:
    n = len(sweep.seeds)
    return f"mean and sample standard deviation of {n} seeds" if n > 1 else "one seed"


def _figure(picture: Html, caption: str) -> Html:
    return tag("figure", picture, tag("figcaption", caption))
