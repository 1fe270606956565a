"""Boundaries: where the phases begin, and how sure that is."""

from math import ceil, floor, inf
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sparsedd import _random
from sparsedd.phases._curves import check_accuracies, check_sparsity
from sparsedd.phases._interval import Interval, check_resampling
from sparsedd.phases._phases import Phase, phases


class Boundary(NamedTuple):
    """Where a phase begins.

    Attributes
    ----------
    phase
        Critical, Sweet or Collapsed.
    start
        The sparsity in the mean over the seeds; ``inf`` where the phase is not reached.
    interval
        A percentile bootstrap interval over the seeds, ``inf`` standing for a phase that is not reached; None for one seed.
    reached
        The share of the resampled sweeps that reach the phase.
    """

    phase: Phase
    start: float
    interval: Interval | None
    reached: float

    def __repr__(self) -> str:
        sure = f", {self.interval.low:.2%} to {self.interval.high:.2%}" if self.interval else ""
        return f"Boundary({self.phase} from {self.start:.2%}{sure}, reached by {self.reached:.0%})".replace("inf%", "∞")


def boundaries(
    sparsity: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    *,
    tolerance: float = 0.02,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[Boundary, ...]:
    """Find where Critical, Sweet and Collapsed begin, with bootstrap intervals over the seeds.

    The whole rule of :mod:`sparsedd.phases` is applied anew to each resampled set of seeds. The intervals can't be trusted far
    for three seeds.

    Parameters
    ----------
    sparsity, train_accuracy, test_accuracy, tolerance
        As for :func:`phases`.
    confidence, seed, resamples
        As for :func:`double_descent`.

    Examples
    --------
    >>> test = [[0.8, 0.8, 0.7, 0.95, 0.6], [0.8, 0.7, 0.7, 0.95, 0.6]]
    >>> boundaries([0, 0.5, 0.8, 0.9, 0.99], [1, 1, 0.9, 0.8, 0.6], test)[0]
    Boundary(Critical from 29.29%, 29.29% to 68.38%, reached by 100%)
    """
    check_resampling(confidence, seed, resamples)
    s = check_sparsity(sparsity)
    train, test = check_accuracies("train_accuracy", train_accuracy, s), check_accuracies("test_accuracy", test_accuracy, s)
    n = max(len(train), len(test))
    if {len(train), len(test)} - {1, n}:
        raise ValueError(f"train_accuracy and test_accuracy must be of the same seeds, got {len(train)} and {len(test)}.")
    train, test = (np.broadcast_to(part, (n, len(s))) for part in (train, test))
    starts = phases(s, train, test, tolerance=tolerance).boundaries
    picks = np.sort(_random.integers(("boundaries", seed), resamples * n, n).reshape(resamples, n), axis=1)
    drawn, counts = np.unique(picks, axis=0, return_counts=True)
    resampled = [phases(s, train[pick], test[pick], tolerance=tolerance).boundaries for pick in drawn]
    every = np.sort(np.repeat(np.array(resampled), counts, axis=0), axis=0)
    tail = (1 - confidence) / 2 * resamples
    low, high = every[floor(tail)], every[ceil(resamples - tail) - 1]
    reached = (every < inf).mean(axis=0)
    return tuple(
        Boundary(phase, starts[k], Interval(float(low[k]), float(high[k])) if n > 1 else None, float(reached[k]))
        for k, phase in enumerate(list(Phase)[1:])
    )
