"""Advice: which level to ship, which phase the last one is in, and whether to prune further."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsedd.phases._curves import Array, check_accuracies, check_sparsity, check_tolerance
from sparsedd.phases._interval import Interval, bootstrap
from sparsedd.phases._outlook import find_sparsest, format_percent, judge_last_level
from sparsedd.phases._phases import Phase, Phases, phases


@dataclass(frozen=True)
class Advice:
    """Advice on a sweep: what to ship, and whether to prune further. ``str`` says it in plain words.

    Attributes
    ----------
    ship
        The sparsity of the sparsest level whose test accuracy is within the tolerance of the best level's.
    level
        Its number: its place in what was passed, 0 being the dense net.
    best
        That of the level of the highest test accuracy, the sparsest of several.
    gain
        Test accuracy at ``ship`` less that of the dense net, as a new seed may expect it: each seed is measured at the level
        that the *other* seeds choose. A single seed chooses for itself, which flatters it.
    gain_interval
        Bootstrap interval of it over the seeds, each resample choosing anew, so that it counts the choice; nan for a single
        seed.
    best_gain
        The same as ``gain``, at ``best``.
    phase
        Of the last level. A sweep that ends in its dip has no Sweet phase to tell the dip from a collapse: where ``phases`` has
        Collapsed, but a Sweet phase may still come, it is Critical.
    further, because
        Whether it is worth it to prune further, and why.
    phases
        Of the mean over the seeds.
    seeds
        How many.
    tolerance, confidence
        As they were passed.
    """

    ship: float
    level: int
    best: float
    gain: float
    gain_interval: Interval
    best_gain: float
    phase: Phase
    further: bool
    because: str
    phases: Phases
    seeds: int
    tolerance: float
    confidence: float

    def __str__(self) -> str:
        """Answer each question in a line, and say what to beware of."""
        answer = "Prune further" if self.further else "Prune no further"
        lines = [
            self._say_what_to_ship(),
            f"The last level, {format_percent(self.phases.sparsity[-1])} sparsity, is {self.phase}. {answer}: {self.because}.",
        ]
        if len(self.phases.sparsity) > 1:
            lines.append("Whatever data chose the level flatters it: choose on validation data, and test once.")
        return "\n".join(lines)

    def __repr__(self) -> str:
        answer = "prune further" if self.further else "prune no further"
        difference = f"{100 * abs(self.gain):.1f} points {'below' if self.gain < 0 else 'above'} {self._dense}"
        return f"Advice(ship level {self.level}, {self.ship:.2%}, {difference}; the last level is {self.phase}; {answer})"

    @property
    def _dense(self) -> str:
        first = self.phases.sparsity[0]
        return f"the first level ({format_percent(first)} sparsity)" if first else "the dense net"

    def _say_what_to_ship(self) -> str:
        """Say what to ship, and what that is worth."""
        first, within = self.phases.sparsity[0], f"within {_format_points(self.tolerance)} of"
        if len(self.phases.sparsity) == 1:
            return f"There is only {self._dense}, and nothing to compare it with."
        if self.ship == first:
            return f"Ship {self._dense}: no sparser level comes {within} its test accuracy."
        best = self._dense if self.best == first else f"the best level, which is {format_percent(self.best)}"
        why = f"the sparsest {within} {best}"
        if self.ship == self.best:
            why = "no level has a higher test accuracy"
        phase = self.phases[self.ship]  # a level that has recovered from a collapse is none to call Collapsed
        named = "" if phase is Phase.COLLAPSED else f" ({phase})"
        shipped = f"level {self.level}, {format_percent(self.ship)} sparsity{named}"
        words = f"Ship {shipped}: {why}. {self._say_gain()}"
        if self.best == first:
            return f"{words} No level is better than {self._dense}."
        if self.best_gain <= self.tolerance:
            return f"{words} No level is better than {self._dense} by more than {_format_points(self.tolerance)}."
        return words

    def _say_gain(self) -> str:
        """Say what a new seed gains by it, as far as these tell."""
        low, high = self.gain_interval
        difference = f"{100 * abs(self.gain):.1f} points {'less' if self.gain < 0 else 'more'} than with {self._dense}"
        if self.seeds == 1:
            return f"That is {difference}, in the one seed that also chose the level: one seed has no interval, run several."
        unsure = "; it may be neither better nor worse" if low <= 0 <= high else ""
        # the interval can be no wider than the seeds, and these lie on both sides of the median this often
        few = "" if 1 - 2.0 ** (1 - self.seeds) >= self.confidence else ", which are too few to be that sure"
        return (
            f"A new seed may expect {difference}{unsure} ({100 * self.confidence:g} % interval {100 * low:+z.1f} to "
            f"{100 * high:+z.1f}, with the choice of level counted, from {self.seeds} seeds{few})."
        )


def advise(
    sparsity: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    *,
    tolerance: float = 0.02,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 10_000,
) -> Advice:
    """Choose the sparsity to ship, and tell in which phase the last level is and whether to prune further.

    Further pruning is worth it while the last level is Light, and while its test accuracy is within the tolerance of the best,
    since a sparser net may do as well. As long as no level has surpassed the dense net, it is also worth it while the net still
    memorises, that is, gets more of its training labels right than of the test data, and has not lost more than twice what the
    dense net gets right beyond the test data; and while test accuracy rises again: it is Critical then, and the Sweet phase may
    lie beyond. It is not once the net has collapsed or is past its peak. These are rules of thumb from what the
    paper sees, not predictions: with clean labels there may be no dip, and no Sweet phase after it.

    Parameters
    ----------
    sparsity
        (levels,), rising, the dense level first.
    train_accuracy
        (levels,) or (seeds, levels), on the labels that were trained on.
    test_accuracy
        (levels,) or (seeds, levels), of data that was not trained on: best of validation data, since it chooses the level.
    tolerance
        δ, the difference in accuracy that counts, for the phases too.
    confidence
        Of the interval, in (0, 1). It can't be trusted far for a few seeds, and the sentence says so.
    seed
        Of the resampling.
    resamples
        How many.

    Raises
    ------
    ValueError
        When lengths differ, a number is not finite, or sparsity does not rise.

    Examples
    --------
    >>> test = [[0.80, 0.70, 0.90, 0.89, 0.60], [0.82, 0.74, 0.92, 0.90, 0.64]]
    >>> advice = advise([0, 0.8, 0.97, 0.98, 0.999], [1, 0.95, 0.80, 0.78, 0.60], test)
    >>> advice
    Advice(ship level 3, 98.00%, 8.5 points above the dense net; the last level is Collapsed; prune no further)
    >>> advice.level, advice.ship, advice.best, round(advice.gain, 3), advice.phase, advice.further
    (3, 0.98, 0.97, 0.085, <Phase.COLLAPSED: 'Collapsed'>, False)
    >>> print(advise([0, 0.8], [1, 0.95], [0.80, 0.70]))
    Ship the dense net: no sparser level comes within 2 points of its test accuracy.
    The last level, 80.00 % sparsity, is Critical. Prune further: the net still memorises (train 95.0 %, test 70.0 %). ...
    Whatever data chose the level flatters it: choose on validation data, and test once.
    """
    s = check_sparsity(sparsity)
    train = check_accuracies("train_accuracy", train_accuracy, s).mean(axis=0)
    test = check_accuracies("test_accuracy", test_accuracy, s)
    found = phases(s, train, test, tolerance=tolerance)
    near, best, mean, n = check_tolerance(tolerance), check_tolerance(0), test.mean(axis=0), len(test)
    once = np.arange(n)[None]
    ahead, ship = judge_last_level(found, train, mean, near), int(find_sparsest(mean, near))
    return Advice(
        ship=float(s[ship]),
        level=ship,
        best=float(s[find_sparsest(mean, best)]),
        gain=float(_measure_gain(test, once, near)[0]),
        gain_interval=bootstrap(
            lambda picks: _measure_gain(test, picks, near), n, confidence=confidence, seed=seed, resamples=resamples
        ),
        best_gain=float(_measure_gain(test, once, best)[0]),
        phase=ahead.phase,
        further=ahead.further,
        because=ahead.because,
        phases=found,
        seeds=n,
        tolerance=float(tolerance),
        confidence=float(confidence),
    )


def _measure_gain(test: Array, picks: NDArray[np.int64], near: float) -> Array:
    """Return the mean gain of the seeds of each pick, (resamples,), each measured at the level that the others choose."""
    r, n = picks.shape
    counts = np.bincount((picks + n * np.arange(r)[:, None]).ravel(), minlength=r * n).reshape(r, n)
    sums: Array = counts @ test
    mean: Array = np.zeros(r)
    for seed, times in zip(test, counts.T[..., None], strict=True):
        others = np.where(times < n, (sums - times * seed) / np.maximum(n - times, 1), seed)  # alone, it chooses for itself
        mean += times[:, 0] / n * (seed[find_sparsest(others, near)] - seed[0])
    return mean


def _format_points(tolerance: float) -> str:
    points = f"{100 * tolerance:.6g}"
    return f"{points} point{'s' * (points != '1')}"
