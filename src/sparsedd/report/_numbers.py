"""Numbers: those of a sweep as a page has them."""

from math import floor, inf, log10
from typing import NamedTuple

import numpy as np

from sparsedd import phases
from sparsedd.experiments._figures._measures import Array, Levels
from sparsedd.experiments._tables import COLUMNS
from sparsedd.phases import Boundary, Phase
from sparsedd.report._summary import format_span


class Mean(NamedTuple):
    """A mean over the seeds, and their sample standard deviation, empty for one seed, as they are written."""

    mean: str
    spread: str


class Column(NamedTuple):
    """A measure in the table of levels: its title and name, and how its values are written."""

    title: str
    name: str
    factor: float = 100
    digits: int = 1


STANDARD = (
    Column("training (%)", "train_accuracy"),
    Column("test (%)", "test_accuracy"),
    Column("best test (%)", "best_test_accuracy"),
    Column("right labels (%)", "clean_accuracy"),
    Column("wrong labels (%)", "flipped_accuracy"),
    Column("learning distance", "learning_distance", 1, 2),
)


def find_phases(sweep: Levels) -> list[tuple[Boundary, str]]:
    """Return where each phase begins, with its levels, which are empty for one that is not there."""
    found = phases.boundaries(sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"])
    light = Boundary(Phase.LIGHT, float(sweep.sparsity[0]), None, 1.0)
    levels = sweep.levels_of_phases
    return [(b, format_span(levels[b.phase]) if b.phase in levels else "") for b in (light, *found)]


def choose_columns(sweep: Levels) -> list[Column]:
    """Return the measures of the table of levels: those of the standard that are there, and a user's own."""
    first = sweep.rows[0][0]
    own = ["train_loss", "test_loss"] * (not first["scale"]) + [name for name in first if name not in COLUMNS]
    return [column for column in (*STANDARD, *(_column(sweep, name) for name in own)) if sweep.has(column.name)]


def average(values: Array, factor: float = 100, digits: int = 1) -> Mean:
    """Return the mean of a measure over the seeds."""
    spread = f"{factor * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return Mean(f"{factor * values.mean():.{digits}f}", spread)


def format_sparsity(value: float) -> str:
    """Return a sparsity in percent, without the sign."""
    return f"{100 * value:.2f}" if value < inf else "not reached"


def format_interval(boundary: Boundary, seeds: int) -> str:
    """Return where a phase may begin, in percent; two seeds that agree tell nothing."""
    if boundary.interval is None or (seeds < 3 and boundary.interval.low == boundary.interval.high):
        return "–"
    low, high = boundary.interval
    share = f", in {100 * boundary.reached:.0f} % of resamples" if 0 < boundary.reached < 1 else ""
    return "not reached" if low == inf else f"{format_sparsity(low)} to {format_sparsity(high)}{share}"


def format_change(difference: float) -> str:
    """Return a difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def _column(sweep: Levels, name: str) -> Column:
    """Return how a measure of one's own is shown: to four digits of the largest."""
    title = name.replace("_", " ")
    if name.endswith("accuracy"):
        return Column(f"{title} (%)", name)
    largest = np.nanmax(np.abs(sweep[name]), initial=0)
    return Column(title, name, 1, min(6, max(0, 3 - floor(log10(largest)))) if largest else 1)
