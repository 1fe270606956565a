"""The table of the figures: what each shows, its command, what it needs, and the hours of a CPU core that it takes."""

from collections.abc import Hashable
from dataclasses import replace
from functools import cache

import numpy as np
from drawn import RESULTS, load

from sparsedd.experiments import FIGURES, PRESETS, Experiment, Figure, Measures

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"}
LANDMARKS = 4


def tabulate_figures() -> str:
    """Return the table, in Markdown."""
    head = "| figure | shows | command | needs | hours | hours on MNIST |", "| --- | --- | --- | --- | --- | --- |"
    return "\n".join([*head, *(row(number, figure) for number, figure in FIGURES.items())])


def row(number: str, figure: Figure) -> str:
    """Return the row of a figure."""
    needs = ", ".join(dict.fromkeys(NAMES[experiment.dataset] for experiment in figure.experiments))
    needs += "; a GPU" * any(experiment.model != "lenet_300_100" for experiment in figure.experiments)
    on_mnist = figure.on(PRESETS["lenet-mnist"])
    cells = number, figure.caption, f"`sparsedd figure {number}`", needs, say_hours(figure), say_hours(on_mnist)
    return f"| {' | '.join(cells)} |"


def say_hours(figure: Figure) -> str:
    """Say how many hours of a core a figure takes with all its seeds, and which of its data were never timed."""
    known, unknown = 0.0, {}
    for experiment in figure.members():
        seconds = time_levels().get(find_training(experiment), ())
        if len(seconds) >= experiment.levels:
            known += seconds[: experiment.levels].sum() + count_redense(figure, experiment) * seconds[0]
        else:
            unknown[NAMES[experiment.dataset]] = None
    said = f"{known / 3600:.0f}"
    return said if not unknown else f"{said} + not timed: {', '.join(unknown)}" if known else "not timed"


def count_redense(figure: Figure, experiment: Experiment) -> int:
    """Count an experiment's nets that are trained on without a mask, each as long as the dense one was."""
    if figure.drawing.needs in (None, "epochs"):
        return 0
    panels = [panel for panel in figure.panels if panel.sweeps[0] == replace(experiment, seed=0)]
    return sum(LANDMARKS if panel.at is None else 1 for panel in panels)


def find_training(experiment: Experiment) -> Hashable:
    """Return what the time of a level depends on, but for the number of weights left."""
    e = experiment
    return e.dataset, e.train_size, e.augmentation, e.model, e.width, e.epochs, e.batch_size, e.evaluate_every, e.precision


@cache
def time_levels() -> dict[Hashable, np.ndarray]:
    """Return the seconds (levels,) of each training in results/, those of the seed that was fastest: disturbed least."""
    found: dict[Hashable, np.ndarray] = {}
    for table in sorted(RESULTS.glob("*/*/levels.csv")):
        figure, tables = load(table.parent)
        for experiment in figure.experiments:
            seconds = Measures(tables, figure.experiments).sweep(experiment)["seconds"]
            key, fastest = find_training(experiment), seconds[seconds.sum(axis=1).argmin()]
            if len(fastest) == experiment.levels and fastest.sum() < np.sum(found.get(key, np.inf)):
                found[key] = fastest
    return found
