"""Findings: the numbers of a sweep in a page: a few to remember, the phases, and all levels."""

from math import floor, inf, log10

import numpy as np

from sparsedd import phases
from sparsedd.experiments._boundaries import Boundary, boundaries
from sparsedd.experiments._html import Html, definitions, joined, table, tag, words
from sparsedd.experiments._measures import Array
from sparsedd.experiments._measures import Levels as Sweep
from sparsedd.experiments._sentences import span
from sparsedd.experiments._tables import COLUMNS
from sparsedd.phases import Interval, Phase

MEANING = {
    Phase.LIGHT: "Pruning changes little: both accuracies are near those of the dense net.",
    Phase.CRITICAL: "The net still learns most of its training labels by heart, and test accuracy suffers.",
    Phase.SWEET: "Too small to learn all labels by heart, large enough for the rest: test accuracy is high.",
    Phase.COLLAPSED: "Too few weights are left, and both accuracies fall.",
}


def numbers(sweep: Sweep) -> Html:
    """The four numbers to remember."""
    dd = phases.double_descent(sweep.sparsity, sweep["test_accuracy"])
    dense = sweep["test_accuracy"][:, 0]

    def change(value: float, interval: Interval, sparsity: float) -> Html:
        sure = f"95 % interval {_signed(interval.low)} to {_signed(interval.high)}" if dd.seeds > 1 else "one seed"
        return _number(f"{_signed(value)} points", f"at {_sparsity(sparsity)} % sparsity", sure)

    dip = Interval(-dd.dip_interval.high, -dd.dip_interval.low)
    spread = f"mean ± std of {dd.seeds} seeds" if dd.seeds > 1 else "one seed"
    pairs = {
        "Test accuracy, dense": _number(joined((_mean(dense, 100, 1), words(" %"))), spread),
        "Change at the dip": change(-dd.dip, dip, dd.dip_sparsity) if dd.dip else _number("no dip"),
        "Change at the peak": change(dd.gain, dd.gain_interval, dd.peak_sparsity) if dd.peak_sparsity else _number("no peak"),
    }
    if sweep.has("learning_distance"):
        distance = sweep["learning_distance"]
        farthest = int(distance.mean(axis=0).argmax())
        at = f"at {_sparsity(float(sweep.sparsity[farthest]))} % sparsity"
        before = f"the dense net: {distance[:, 0].mean():.1f}"
        pairs["Learning distance, at most"] = _number(_mean(distance[:, farthest], 1, 1), at, before)
    return definitions(pairs.items(), "numbers")


def phases_table(sweep: Sweep) -> Html:
    """Where each phase begins, and which levels it has."""
    several = len(sweep.seeds) > 1
    levels, absent = sweep.levels_of_phases, []
    head = ["phase", "begins at sparsity (%)", *["95 % interval (%)"] * several, "levels", "what it is"]
    rows = []
    for b in (Boundary(Phase.LIGHT, float(sweep.sparsity[0]), None, 1.0), *boundaries(sweep)):
        if b.phase not in levels:
            sometimes = f" (in {100 * b.reached:.0f} % of resamples there is)" if b.start == inf and b.reached else ""
            absent.append(f" There is no {b.phase} phase{sometimes}.")
            continue
        meaning = tag("span", MEANING[b.phase], class_="words")
        rows.append([_chip(b.phase), _sparsity(b.start), *[_between(b)] * several, span(levels[b.phase]), meaning])
    note = "A boundary lies between the last level of one phase and the first of the next, in the mean over the seeds. " + (
        "The intervals are of a bootstrap over the seeds, and can't be trusted far for a few."
        if several
        else "One seed has no interval: run several."
    )
    note += "".join(absent)
    return joined((table("Where the phases begin", head, rows), tag("p", note, class_="note")), "\n")


def levels_table(sweep: Sweep) -> Html:
    """The table of levels."""
    measures: list[tuple[str, str, float, int]] = [
        ("training (%)", "train_accuracy", 100, 1),
        ("test (%)", "test_accuracy", 100, 1),
        ("best test (%)", "best_test_accuracy", 100, 1),
        ("right labels (%)", "clean_accuracy", 100, 1),
        ("wrong labels (%)", "flipped_accuracy", 100, 1),
        ("learning distance", "learning_distance", 1, 2),
    ]
    own = ["train_loss", "test_loss"] * (not sweep.rows[0][0]["scale"]) + [n for n in sweep.rows[0][0] if n not in COLUMNS]
    measures += [_shown(sweep, column) for column in own]
    there = [(title, sweep[column], scale, digits) for title, column, scale, digits in measures if sweep.has(column)]
    landmarks = sweep.phases.landmarks() if sweep.has_phases else None
    names = {landmarks.critical: " the dip", landmarks.sweet: " the peak"} if landmarks else {}
    counted = sweep.has("remaining")
    rows = []
    for k, s in enumerate(sweep.sparsity.tolist()):
        cells = [_mean(values[:, k], scale, digits) for _, values, scale, digits in there]
        kept = [f"{sweep.rows[0][k]['remaining']:,}"] if counted else []
        phase = [joined((_chip(sweep.phases[s]), names.get(s, "")))] if landmarks else []
        rows.append([str(k), _sparsity(s), *kept, *cells, *phase])
    titles = [*["weights kept"] * counted, *(title for title, *_ in there), *["phase"] * bool(landmarks)]
    note = f"Mean ± sample standard deviation, n = {len(sweep.seeds)}." if len(sweep.seeds) > 1 else "One seed."
    if sweep.has_phases:
        note += " Training accuracy is on the labels as trained on"
        note += ", the right and the wrong ones." if sweep.has("clean_accuracy") else "."
        note += " Test accuracy is at the end of a level"
        note += ", best test accuracy after any epoch that was evaluated." if sweep.has("best_test_accuracy") else "."
    head = ["level", "sparsity (%)", *titles]
    return joined((table("The levels", head, rows), tag("p", words(note), class_="note")), "\n")


def _shown(sweep: Sweep, column: str) -> tuple[str, str, float, int]:
    """Return how a measure of one's own is shown: its title, its name, its factor and its digits."""
    title = column.replace("_", " ")
    if column.endswith("accuracy"):
        return f"{title} (%)", column, 100, 1
    largest = np.nanmax(np.abs(sweep[column]), initial=0)
    return title, column, 1, min(6, max(0, 3 - floor(log10(largest)))) if largest else 1


def _number(value: str, *about: str) -> Html:
    return joined((tag("strong", value), *(tag("span", words(line)) for line in about)))


def _chip(phase: Phase) -> Html:
    return tag("span", str(phase), class_=f"chip {str(phase).lower()}")


def _mean(values: Array, scale: float, digits: int) -> Html:
    """Mean ± sample standard deviation."""
    mean = f"{scale * values.mean():.{digits}f}"
    if len(values) == 1:
        return joined([mean])
    return joined((mean, tag("span", f" ± {scale * values.std(ddof=1):.{digits}f}", class_="spread")))


def _sparsity(value: float) -> str:
    return f"{100 * value:.3f}" if value < inf else "not reached"


def _between(boundary: Boundary) -> str:
    if boundary.interval is None:
        return "–"
    low, high = boundary.interval
    share = f", in {100 * boundary.reached:.0f} % of resamples" if 0 < boundary.reached < 1 else ""
    return "not reached" if low == inf else f"{_sparsity(low)} to {_sparsity(high)}{share}"


def _signed(difference: float) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")
