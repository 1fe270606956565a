"""Claims: what the paper says with each kind of figure, measured on the tables.

Where an effect of a sweep is measured at a level that was chosen for being extreme, the level is chosen without the seed that
is measured, so that the interval counts the choice. Re-dense nets exist only at landmark levels, which all seeds share; they
are judged only where :mod:`sparsedd.phases` finds the phase.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from sparsedd import landscape, phases
from sparsedd.experiments._figures._claim import Claim, Effect, judge
from sparsedd.experiments._figures._measures import Array, Levels, Measures, find_dip_and_peak, name_redense
from sparsedd.experiments._figures._panel import Panel

POINT = 0.01  # what "no more than noise" means, in accuracy or as a share
LEVEL = -np.log(0.8)  # one of the paper's levels, on the axis of log density

Panels: TypeAlias = Sequence[Panel]
Claims: TypeAlias = Callable[[Panels, Measures], Iterator[Claim]]


# ---------------------------------------------------------------- measured at places that the other seeds choose


def _others(curves: Array) -> Iterator[Array]:
    """Yield for each seed the mean curve of the other ones (its own, if it is alone)."""
    for seed in range(len(curves)):
        yield np.delete(curves, seed, axis=0).mean(axis=0) if len(curves) > 1 else curves[0]


def _places(sweep: Levels, column: str = "test_accuracy") -> tuple[Array, Array]:
    """Return for each seed the levels of the dip and the peak of the others' mean curve."""
    dips, peaks = np.array([find_dip_and_peak(mean) for mean in _others(sweep[column])]).T
    return dips, peaks


def _at(curves: Array, levels: Array) -> Array:
    values: Array = curves[np.arange(len(curves)), levels]
    return values


def _dip(sweep: Levels, column: str = "test_accuracy") -> Array:
    curves = sweep[column]
    return curves[:, 0] - _at(curves, _places(sweep, column)[0])


def _where(sweep: Levels) -> tuple[str, str]:
    """Format the sparsities of dip and peak in the mean curve."""
    _, dip, peak, _ = sweep.landmarks
    return f"{100 * dip.sparsity:.2f} %", f"{100 * peak.sparsity:.2f} %"


def _dip_and_peak_of_each(sweep: Levels) -> tuple[Array, Array]:
    """Return for each seed the log densities of its dip and peak, which stand for the Critical and the Sweet phase (3.1).

    Nan where it has not both phases. Where the Sweet phase *begins* would not do: that is where the dense net is surpassed,
    which is sooner the worse the dense net is.
    """
    found = []
    for train, test in zip(sweep["train_accuracy"], sweep["test_accuracy"], strict=True):
        _, dip, peak, _ = phases.phases(sweep.sparsity, train, test).landmarks()
        found.append([np.nan, np.nan] if dip is None or peak is None else [np.log1p(-dip), np.log1p(-peak)])
    critical, sweet = np.array(found).T
    return critical, sweet


def _regained(sweep: Levels) -> Array:
    """Return for each seed how far test accuracy falls and then rises again before the net collapses.

    min(t_0 - t_i, t_j - t_i), at the levels i < j at which that is largest in the others' mean: a net that only falls has no
    dip, however far.
    """
    found = []
    others = zip(_others(sweep["train_accuracy"]), _others(sweep["test_accuracy"]), strict=True)
    for own, (train, test) in zip(sweep["test_accuracy"], others, strict=True):
        collapse = phases.phases(sweep.sparsity, train, test).boundaries[2]
        alive = range(1, int((sweep.sparsity < collapse).sum()))
        pairs = [(i, j) for j in alive for i in range(1, j)]
        i, j = max(pairs, key=lambda pair: min(test[0] - test[pair[0]], test[pair[1]] - test[pair[0]]), default=(0, 0))
        found.append(min(own[0] - own[i], own[j] - own[i]))
    return np.array(found)


# ---------------------------------------------------------------- the claims, by what a figure shows


def double_descent(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Sections 2.1 and 2.3: first worse, then better than the dense net."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        test, (dips, peaks), (dip, peak) = sweep["test_accuracy"], _places(sweep), _where(sweep)
        yield judge(
            f"{panel.title}: with growing sparsity test accuracy first falls below that of the dense net, then rises above it",
            Effect(f"fall at {dip} sparsity", test[:, 0] - _at(test, dips)),
            Effect(f"gain at {peak}", _at(test, peaks) - test[:, 0]),
        )


def four_phases(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 2.3: Light, Critical, Sweet, Collapsed."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        train, test, (dips, peaks) = sweep["train_accuracy"], sweep["test_accuracy"], _places(sweep)
        yield judge(
            f"{panel.title}: there are four phases, here {sweep.phases!r}",
            Effect("fall of test accuracy in the Critical phase", test[:, 0] - _at(test, dips)),
            Effect("gain in the Sweet phase", _at(test, peaks) - test[:, 0]),
            Effect("fall from there to the last level", _at(test, peaks) - test[:, -1]),
            Effect("fall of training accuracy likewise", _at(train, peaks) - train[:, -1]),
        )


def memorises(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 2.3: up to the dip the net learns its wrong labels by heart, beyond it they are forgotten first."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        wrong, right, (dips, peaks) = sweep["flipped_accuracy"], sweep["clean_accuracy"], _places(sweep)
        yield judge(
            f"{panel.title}: up to the dip most wrong labels are memorised, and at the peak hardly any, but the right ones are",
            Effect("wrong labels learned by the dense net", wrong[:, 0], " %", above=0.5, limit=1.0),
            Effect("at the dip", _at(wrong, dips), " %", above=0.5, limit=1.0),
            Effect("at the peak", _at(wrong, peaks), " %", below=0.1, limit=1.0),
            Effect("right labels learned there", _at(right, peaks), " %", above=0.5, limit=1.0),
        )


def no_double_descent(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 4: without label noise there is no dip to be seen."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        yield judge(
            f"{panel.title}: without label noise test accuracy does not fall by a point and rise again",
            Effect("what it falls and regains", _regained(sweep), below=POINT),
            given=Effect(
                "training accuracy of the dense net, which must overfit", sweep["train_accuracy"][:, 0], " %", above=0.9
            ),
        )


def noise_shifts(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 2.3: more noise moves the Critical phase to lower and the Sweet phase to higher sparsity."""
    for less, more in pairwise(panels):
        pair = _common([measures.sweep(panel.sweeps[0]) for panel in (less, more)])
        (critical, sweet), (critical_more, sweet_more) = map(_dip_and_peak_of_each, pair)
        yield judge(
            f"from {less.title} to {more.title} the Critical phase moves to lower and the Sweet phase to higher sparsity",
            _shift("shift of the dip to lower sparsity", critical_more - critical),
            _shift("shift of the peak to higher sparsity", sweet - sweet_more),
        )


def _shift(text: str, log_density: Array) -> Effect:
    return Effect(text, log_density / LEVEL, " levels of 20 %", quantum=1.0)


def _common(sweeps: Sequence[Levels]) -> list[Levels]:
    """Reduce sweeps to the seeds and levels that all of them have."""
    seeds = set.intersection(*(set(sweep.seeds) for sweep in sweeps))
    levels = min(len(sweep.sparsity) for sweep in sweeps)
    return [
        Levels(
            sweep.name,
            tuple(sorted(seeds)),
            tuple(rows[:levels] for seed, rows in zip(sweep.seeds, sweep.rows, strict=True) if seed in seeds),
        )
        for sweep in sweeps
    ]


def reinitialized_tickets(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 4: re-initialised tickets are ahead in sparsity, and sometimes win."""
    for panel in panels:
        ticket, other = _common([measures.sweep(experiment) for experiment in panel.sweeps])
        (critical, sweet), (critical_other, sweet_other) = _dip_and_peak_of_each(ticket), _dip_and_peak_of_each(other)
        yield judge(
            f"{panel.title}: with new initial weights the Critical and the Sweet phase move to lower sparsity",
            _shift("shift of the dip to lower sparsity", critical_other - critical),
            _shift("shift of the peak to lower sparsity", sweet_other - sweet),
        )
        ahead = other["test_accuracy"] - ticket["test_accuracy"]
        best = np.array([_best_level(mean) for mean in _others(ahead)])
        where = f"{100 * ticket.sparsity[_best_level(ahead.mean(axis=0))]:.2f} %"
        yield judge(
            f"{panel.title}: new initial weights sometimes beat the lottery ticket",
            Effect(f"advantage over the ticket at {where} sparsity, where it is largest", _at(ahead, best)),
        )


def _best_level(curve: Array) -> int:
    """Return the level at which a curve is highest, but for the dense net."""
    return int(curve[1:].argmax()) + 1 if len(curve) > 1 else 0


def best_dips_less(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 4: the best accuracy over the epochs has hardly a dip."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        last, best = _dip(sweep), _dip(sweep, "best_test_accuracy")
        yield judge(
            f"{panel.title}: the best test accuracy of all epochs falls less in the Critical phase than that of the last epoch",
            Effect(
                f"fall at the last epoch, {100 * last.mean():.1f}, less that at the best, {100 * best.mean():.1f}", last - best
            ),
        )


def gap_follows(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Fig. 32: the generalisation gap is a double descent, too."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        gap, (dips, peaks) = sweep["train_accuracy"] - sweep["test_accuracy"], _places(sweep)
        yield judge(
            f"{panel.title}: the generalisation gap grows in the Critical phase, then falls below the dense net's",
            Effect("growth where test accuracy is lowest", _at(gap, dips) - gap[:, 0]),
            Effect("decline where it is highest", gap[:, 0] - _at(gap, peaks)),
        )


def converges(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 2.3: models of all sparsities converge, so that the rise is not for want of training."""
    for panel in panels:
        effects = []
        for mark in measures.sweep(panel.sweeps[0]).landmarks:
            epochs, values = measures.curves(panel.sweeps[0], mark.level)
            tenth, train = max(1, len(epochs) // 10), values["train_accuracy"]
            before, after = train[:, -2 * tenth : -tenth], train[:, -tenth:]
            moved = np.abs(after.mean(axis=1) - before.mean(axis=1)) if before.size else np.full(len(train), np.nan)
            effects.append(Effect(f"change at {100 * mark.sparsity:.2f} % sparsity", moved, below=POINT))
        yield judge(f"{panel.title}: in the last fifth of the epochs training accuracy moves by less than a point", *effects)


def distance_follows(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 3.2: learning distance and test accuracy go together, up to the Sweet phase."""
    for panel in panels:
        sweep = measures.sweep(panel.sweeps[0])
        test, distance, peak = sweep["test_accuracy"], sweep["learning_distance"], sweep.landmarks[2].level
        rho = np.array([_rank_correlation(d[: peak + 1], t[: peak + 1]) for d, t in zip(distance, test, strict=True)])
        yield judge(
            f"{panel.title}: up to the peak of test accuracy, the farther from initialisation the worse",
            Effect("Spearman's correlation of distance and accuracy", rho, "", below=0.0, limit=1.0),
        )
        apart = np.abs(test[:, : peak + 1].argmin(axis=1) - distance[:, : peak + 1].argmax(axis=1)).astype(np.float64)
        yield judge(
            f"{panel.title}: the learning distance is longest within a level of the dip of test accuracy",
            Effect("levels from one to the other", apart, "", below=1.5, quantum=1.0),
        )


def overfits_again(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 3.1: without the mask, a net of the Sweet phase leaves its solution and overfits."""
    for panel in panels:
        if panel.at != 2:
            continue
        experiment, mark = panel.sweeps[0], measures.landmark(panel.sweeps[0], panel.at)
        sparse, dense = (
            {name: values[:, -1] for name, values in measures.curves(experiment, mark.level, training)[1].items()}
            for training in ("sparse", name_redense(panel.factor))
        )
        yield judge(
            f"{panel.title}: trained on without its mask, the net fits its training labels better and the test images worse",
            Effect("rise of training accuracy", dense["train_accuracy"] - sparse["train_accuracy"]),
            Effect("fall of test accuracy", sparse["test_accuracy"] - dense["test_accuracy"]),
            told=mark.found,
        )


def monotone_path(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Section 3.1: there is no barrier between a sparse net and its re-dense one."""
    for panel in panels:
        if not panel.at:
            continue
        experiment, mark = panel.sweeps[0], measures.landmark(panel.sweeps[0], panel.at)
        loss = measures.line(experiment, mark.level, "interpolation")[1]["train_loss"]
        fall = loss[:, 0] - loss[:, -1]
        rise = (loss - np.minimum.accumulate(loss, axis=1)).max(axis=1) / np.where(fall > 0, fall, np.nan)
        yield judge(
            f"{panel.title}, {100 * mark.sparsity:.2f} %: training loss falls monotonically on the line to the re-dense net",
            Effect("fall", fall, ""),
            Effect("largest rise on the way, as a share of the fall", rise, "", below=POINT),
            told=mark.found,
        )


def sharper(panels: Panels, measures: Measures) -> Iterator[Claim]:
    """Fig. 8: the sparser the net was, the sharper the minimum of its re-dense net."""
    for panel in panels:
        marks = measures.sweep(panel.sweeps[0]).landmarks
        sharpness = []
        for mark in marks:
            alpha, loss = measures.directions(panel.sweeps[0], mark.level)
            finite = np.isfinite(loss).all() and (loss > 0).all()
            sharpness.append([landscape.sharpness(alpha, seed) if finite else np.nan for seed in loss])
        yield judge(
            f"{panel.title}: the sparser the net was, the sharper the minimum that re-dense training finds",
            *(
                Effect(
                    f"factor from {100 * before.sparsity:.2f} % ({np.mean(a):.3g}) to {100 * after.sparsity:.2f} % "
                    f"({np.mean(b):.3g}) sparsity, less one",
                    np.array(b) / np.array(a) - 1,
                    "",
                )
                for (before, a), (after, b) in pairwise(zip(marks, sharpness, strict=True))
            ),
            told=all(mark.found for mark in marks),
        )


def _rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's correlation, nan where there is none, or too few numbers to tell."""
    from scipy.stats import spearmanr

    a, b = np.asarray(x), np.asarray(y)
    if len(a) < 5 or not np.isfinite([a, b]).all() or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)
