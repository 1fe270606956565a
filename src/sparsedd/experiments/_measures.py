"""Measures: a figure's tables, asked for what a panel shows."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._labels import labels
from sparsedd.experiments._redense import shown
from sparsedd.experiments._sweep import Array, Landmark, Sweep
from sparsedd.experiments._tables import MEASURES, Tables

SPARSE = "sparse"


def redense_name(factor: float) -> str:
    """What ``epochs.csv`` calls re-dense training at a factor of the last rate."""
    return f"re-dense × {shown(factor)}"


class Measures:
    """What a figure's tables say of its experiments, over their seeds: what drawings draw, and claims judge.

    Attributes
    ----------
    sweep
        ``sweep(experiment)`` has its levels as arrays: ``["test_accuracy"]`` (seeds, levels), ``.sparsity`` (levels,).
    """

    def __init__(self, tables: Tables, experiments: Iterable[Experiment]) -> None:
        self.tables: Tables = tables
        self.labels: dict[Experiment, str] = labels(experiments)
        self.sweep: Callable[[Experiment], Sweep] = cache(self._sweep)

    def __repr__(self) -> str:
        return f"Measures({len(self.labels)} experiments, {self.tables!r})"

    def _sweep(self, experiment: Experiment) -> Sweep:
        return Sweep.of(self.tables.levels, self.labels[experiment])

    def landmark(self, experiment: Experiment, place: int) -> Landmark:
        """The dense net (0), or the landmark of the Critical (1), Sweet (2) or Collapsed (3) phase."""
        return self.sweep(experiment).landmarks[place]

    def curves(self, experiment: Experiment, level: int, training: str = SPARSE) -> tuple[Array, dict[str, Array]]:
        """Epochs (n,), and each measure (seeds, n)."""
        return self._arrays(self.tables.epochs, experiment, level, "training", training, "epoch")

    def line(self, experiment: Experiment, level: int, name: str) -> tuple[Array, dict[str, Array]]:
        """The points α (n,) of a line, and each measure (seeds, n)."""
        return self._arrays(self.tables.lines, experiment, level, "line", name, "alpha")

    def directions(self, experiment: Experiment, level: int) -> tuple[Array, Array]:
        """The points α (n,), and the training loss (seeds, directions, n)."""
        rows, name = self.tables.lines, self.labels[experiment]
        named = {row["line"] for row in rows if row["experiment"] == name and row["line"].startswith("direction")}
        found = [self.line(experiment, level, line) for line in sorted(named)]
        if not found:
            raise ValueError(f"the tables have no directions of {name}.")
        return found[0][0], np.stack([measures["train_loss"] for _, measures in found], axis=1)

    def _arrays(
        self, table: list[dict[str, Any]], experiment: Experiment, level: int, key: str, value: str, axis: str
    ) -> tuple[Array, dict[str, Array]]:
        name = self.labels[experiment]
        rows = [row for row in table if (row["experiment"], row["level"], row[key]) == (name, level, value)]
        seeds = sorted({row["seed"] for row in rows})
        if not rows:
            raise ValueError(f"the tables have no {value} of level {level} of {name}.")
        by_seed = [[row for row in rows if row["seed"] == seed] for seed in seeds]
        n = min(map(len, by_seed))

        def array(column: str) -> Array:
            return np.array([[np.nan if row[column] is None else row[column] for row in part[:n]] for part in by_seed])

        return array(axis)[0], {name: array(name) for name in MEASURES}
