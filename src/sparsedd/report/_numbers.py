"""Numbers: those of a sweep in a page: a few to remember, the phases, and all levels."""

from math import floor, inf, log10
from typing import NamedTuple

import numpy as np

from sparsedd import phases
from sparsedd.experiments._sweep import Array, Sweep
from sparsedd.experiments._tables import COLUMNS
from sparsedd.phases import Boundary, Interval, Phase
from sparsedd.report._summary import format_span

MEANING = {
    Phase.LIGHT: "Pruning changes little: both accuracies are near those of the dense net.",
    Phase.CRITICAL: "The net still learns most of its training labels by heart, and test accuracy suffers.",
    Phase.SWEET: "Too small to learn all labels by heart, large enough for the rest: test accuracy is high.",
    Phase.COLLAPSED: "Too few weights are left, and both accuracies fall.",
}


class Mean(NamedTuple):
    """A mean over the seeds and its sample standard deviation, which is empty for one seed; and what else is to be said."""

    mean: str
    spread: str = ""
    unit: str = ""
    about: tuple[str, ...] = ()


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


def find_highlights(sweep: Sweep) -> dict[str, Mean]:
    """Return the four numbers to remember."""
    dd = phases.double_descent(sweep.sparsity, sweep["test_accuracy"])

    def change(value: float, interval: Interval, sparsity: float) -> Mean:
        sure = f"95 % interval {_signed(interval.low)} to {_signed(interval.high)}" if dd.seeds > 1 else "one seed"
        return Mean(_signed(value), unit=" points", about=(f"at {format_sparsity(sparsity)} % sparsity", sure))

    fall = Interval(-dd.dip_interval.high, -dd.dip_interval.low)
    spread = f"mean ± std of {dd.seeds} seeds" if dd.seeds > 1 else "one seed"
    found = {
        "Test accuracy, dense": _mean(sweep["test_accuracy"][:, 0])._replace(unit=" %", about=(spread,)),
        "Change at the dip": change(-dd.dip, fall, dd.dip_sparsity) if dd.dip else Mean("no dip"),
        "Change at the peak": change(dd.gain, dd.gain_interval, dd.peak_sparsity) if dd.peak_sparsity else Mean("no peak"),
    }
    if sweep.has("learning_distance"):
        distance = sweep["learning_distance"]
        farthest = int(distance.mean(axis=0).argmax())
        at = f"at {format_sparsity(sweep.sparsity[farthest])} % sparsity"
        dense = f"the dense net: {distance[:, 0].mean():.1f}"
        found["Learning distance, at most"] = _mean(distance[:, farthest], 1)._replace(about=(at, dense))
    return found


def find_phases(sweep: Sweep) -> tuple[list[tuple[Boundary, str]], list[str]]:
    """Return where each phase begins, with its levels, and a sentence for each that is not there."""
    levels = sweep.levels_of_phases
    found = phases.boundaries(sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"])
    first = Boundary(Phase.LIGHT, float(sweep.sparsity[0]), None, 1.0)
    there = [(b, format_span(levels[b.phase])) for b in (first, *found) if b.phase in levels]
    absent = []
    for b in found:
        if b.phase not in levels:
            sometimes = f" (in {100 * b.reached:.0f} % of resamples there is)" if b.start == inf and b.reached else ""
            absent.append(f"There is no {b.phase} phase{sometimes}.")
    return there, absent


def choose_columns(sweep: Sweep) -> list[Column]:
    """Return the measures of the table of levels: those of the standard that are there, and a user's own."""
    first = sweep.rows[0][0]
    own = ["train_loss", "test_loss"] * (not first["scale"]) + [name for name in first if name not in COLUMNS]
    return [column for column in (*STANDARD, *(_column(sweep, name) for name in own)) if sweep.has(column.name)]


def average(sweep: Sweep, column: Column, level: int) -> Mean:
    """Return a measure at a level."""
    return _mean(sweep[column.name][:, level], column.factor, column.digits)


def format_sparsity(value: float) -> str:
    """Return a sparsity in percent, without the sign."""
    return f"{100 * value:.3f}" if value < inf else "not reached"


def format_interval(boundary: Boundary) -> str:
    """Return where a phase may begin, in percent."""
    if boundary.interval is None:
        return "–"
    low, high = boundary.interval
    share = f", in {100 * boundary.reached:.0f} % of resamples" if 0 < boundary.reached < 1 else ""
    return "not reached" if low == inf else f"{format_sparsity(low)} to {format_sparsity(high)}{share}"


def _column(sweep: Sweep, name: str) -> Column:
    """Return how a measure of one's own is shown: to four digits of the largest."""
    title = name.replace("_", " ")
    if name.endswith("accuracy"):
        return Column(f"{title} (%)", name)
    largest = np.nanmax(np.abs(sweep[name]), initial=0)
    return Column(title, name, 1, min(6, max(0, 3 - floor(log10(largest)))) if largest else 1)


def _mean(values: Array, factor: float = 100, digits: int = 1) -> Mean:
    spread = f"{factor * values.std(ddof=1):.{digits}f}" if len(values) > 1 else ""
    return Mean(f"{factor * values.mean():.{digits}f}", spread)


def _signed(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")
