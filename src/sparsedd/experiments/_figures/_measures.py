"""Measures: the levels of experiments over their seeds as arrays, and what else a figure's tables say of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsedd import phases
from sparsedd._parameters import abridge
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._labels import make_labels
from sparsedd.experiments._redense import format_factor
from sparsedd.experiments._tables import MEASURES, Tables
from sparsedd.phases import Phase, Phases

SPARSE = "sparse"
Array = NDArray[np.float64]
RISE = 0.02  # the tolerance of phases


def find_dip_and_peak(test: Array) -> tuple[int, int]:
    """Return the levels i < j after the dense one with the largest rise t_j - t_i of test accuracy.

    Where it never rises by more than two points: the highest level, and the lowest before it.
    """
    if len(test) < 3:
        return len(test) - 1, len(test) - 1
    rise = test[2:] - np.minimum.accumulate(test[1:-1])
    peak = int(np.argmax(rise if rise.max() > RISE else test[2:])) + 2
    return int(np.argmin(test[1:peak])) + 1, peak


class Landmark(NamedTuple):
    """One of the four levels that the paper looks at closely (3.1).

    Attributes
    ----------
    phase
        Which: Light stands for the dense net.
    level, sparsity
        Where.
    found
        Whether the sweep has that phase. Where it has not, the level is the one that comes nearest to the words: the dip of
        test accuracy, its peak, the last level.
    """

    phase: Phase
    level: int
    sparsity: float
    found: bool

    def __str__(self) -> str:
        name = "dense" if self.phase is Phase.LIGHT else f"{self.phase} phase" if self.found else f"no {self.phase} phase"
        return f"{100 * self.sparsity:.2f} %: {name}"


@dataclass(frozen=True)
class Levels:
    """The levels that all seeds of an experiment have finished.

    Attributes
    ----------
    name
        Of the experiment.
    seeds
        (n,) rising.
    rows
        n × levels, of ``levels.csv``.
    diverged
        (seed, level) of the seeds that are left out because their training has diverged there.
    """

    name: str
    seeds: tuple[int, ...]
    rows: tuple[tuple[dict[str, Any], ...], ...]
    diverged: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, table: Iterable[dict[str, Any]], name: str) -> "Levels":
        """Return the levels of an experiment's name in the rows of a table.

        Raises
        ------
        ValueError
            When there is none, or a level comes twice.
        """
        by_seed: dict[int, dict[int, dict[str, Any]]] = {}
        names: dict[str, None] = {}
        for row in table:
            names[row["experiment"]] = None
            if row["experiment"] != name:
                continue
            levels = by_seed.setdefault(row["seed"], {})
            if row["level"] in levels:
                raise ValueError(f"the tables have level {row['level']} of seed {row['seed']} of {name} twice: of what runs?")
            levels[row["level"]] = row
        if not by_seed:
            raise ValueError(
                f"the tables have no rows of {name}, but of {abridge(names)}: pass the same --on as when they were made, or "
                "figure.on(preset) in Python."
            )
        diverged = {seed: k for seed, found in by_seed.items() for k, row in found.items() if row["diverged"]}
        if len(diverged) == len(by_seed):  # nothing but what came before
            by_seed = {seed: {k: row for k, row in found.items() if k < diverged[seed]} for seed, found in by_seed.items()}
        else:
            by_seed = {seed: found for seed, found in by_seed.items() if seed not in diverged}
        complete = min(next(k for k in range(len(found) + 1) if k not in found) for found in by_seed.values())
        if not complete:
            raise ValueError(
                f"a seed of {name} has not finished its dense level{', or has diverged in it' if diverged else ''}."
            )
        seeds = tuple(sorted(by_seed))
        rows = tuple(tuple(by_seed[seed][k] for k in range(complete)) for seed in seeds)
        for k in range(complete):
            if len(found := {round(levels[k]["sparsity"], 6) for levels in rows}) > 1:
                raise ValueError(f"the seeds of {name} must have one sparsity at level {k}, got {sorted(found)}.")
        return cls(name, seeds, rows, tuple(sorted(diverged.items())))

    def __getitem__(self, column: str) -> Array:
        """Return a measure (seeds, levels), nan where it is undefined."""
        return _array(self.rows, column)

    def has(self, column: str) -> bool:
        """Return whether a measure is there, for each seed and level."""
        return column in self.rows[0][0] and bool(np.isfinite(self[column]).all())

    @property
    def has_phases(self) -> bool:
        """Whether it has the accuracies that phases are told by."""
        return self.has("train_accuracy") and self.has("test_accuracy")

    @cached_property
    def sparsity(self) -> Array:
        """The sparsities (levels,), the same for all seeds."""
        row: Array = self["sparsity"][0]
        return row

    @property
    def note(self) -> str:
        """A note on seeds that have diverged."""
        return "; ".join(f"seed {seed} diverged at level {level}" for seed, level in self.diverged)

    @cached_property
    def phases(self) -> Phases:
        """The phases of the mean over the seeds."""
        return phases.phases(self.sparsity, self["train_accuracy"], self["test_accuracy"])

    @property
    def levels_of_phases(self) -> dict[Phase, list[int]]:
        """The levels that are in each phase; an empty one is not there."""
        found: dict[Phase, list[int]] = {}
        for level, sparsity in enumerate(self.sparsity.tolist()):
            found.setdefault(self.phases[sparsity], []).append(level)
        return found

    @cached_property
    def landmarks(self) -> tuple[Landmark, ...]:
        """The dense net, the dip, the peak and the last level, with what :func:`.phases` says of them."""
        found, (dip, peak) = self.phases.landmarks(), find_dip_and_peak(self["test_accuracy"].mean(axis=0))
        nearest = (0.0, float(self.sparsity[dip]), float(self.sparsity[peak]), float(self.sparsity[-1]))
        marks = []
        for phase, there, otherwise in zip(Phase, found, nearest, strict=True):
            level = int(np.abs(self.sparsity - (otherwise if there is None else there)).argmin())
            marks.append(Landmark(phase, level, float(self.sparsity[level]), there is not None))
        return tuple(marks)


class Measures:
    """What a figure's tables say of its experiments, over their seeds: what drawings draw, and claims judge.

    Attributes
    ----------
    sweep
        ``sweep(experiment)`` has its levels as arrays: ``["test_accuracy"]`` (seeds, levels), ``.sparsity`` (levels,).
    """

    def __init__(self, tables: Tables, experiments: Iterable[Experiment]) -> None:
        self.tables: Tables = tables
        self.labels: dict[Experiment, str] = make_labels(experiments)
        self.sweep: Callable[[Experiment], Levels] = cache(self._sweep)

    def __repr__(self) -> str:
        return f"Measures({len(self.labels)} experiments, {self.tables!r})"

    def _sweep(self, experiment: Experiment) -> Levels:
        return Levels.of(self.tables.levels, self.labels[experiment])

    def landmark(self, experiment: Experiment, place: int) -> Landmark:
        """Return the dense net (0), or the landmark of the Critical (1), Sweet (2) or Collapsed (3) phase."""
        return self.sweep(experiment).landmarks[place]

    def curves(self, experiment: Experiment, level: int, training: str = SPARSE) -> tuple[Array, dict[str, Array]]:
        """Return the epochs (n,), and each measure (seeds, n)."""
        return self._arrays(self.tables.epochs, experiment, level, "training", training, "epoch")

    def line(self, experiment: Experiment, level: int, name: str) -> tuple[Array, dict[str, Array]]:
        """Return the points α (n,) of a line, and each measure (seeds, n)."""
        return self._arrays(self.tables.lines, experiment, level, "line", name, "alpha")

    def directions(self, experiment: Experiment, level: int) -> tuple[Array, Array]:
        """Return the points α (n,), and the training loss (seeds, directions, n)."""
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
        common = [part[:n] for part in by_seed]
        return _array(common, axis)[0], {name: _array(common, name) for name in MEASURES}


def _array(rows: Iterable[Iterable[dict[str, Any]]], column: str) -> Array:
    return np.array([[np.nan if row.get(column) is None else row[column] for row in part] for part in rows])


def name_redense(factor: float) -> str:
    """Return what ``epochs.csv`` calls re-dense training at a factor of the last rate."""
    return f"re-dense × {format_factor(factor)}"
