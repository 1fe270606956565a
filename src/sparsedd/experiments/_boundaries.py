"""Boundaries: where the phases begin, and how sure that is."""

from math import ceil, floor, inf
from typing import NamedTuple

import numpy as np

from sparsedd import _random, phases
from sparsedd.experiments._measures import Levels as Sweep
from sparsedd.phases import Interval, Phase


class Boundary(NamedTuple):
    """Where a phase begins.

    Attributes
    ----------
    phase
        Which.
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


def boundaries(sweep: Sweep, *, confidence: float = 0.95, seed: int = 0, resamples: int = 2000) -> tuple[Boundary, ...]:
    """The boundaries of Critical, Sweet and Collapsed: the whole rule is applied anew to each resampled set of seeds."""
    n, starts = len(sweep.seeds), sweep.phases.boundaries
    if n == 1:
        return tuple(Boundary(phase, s, None, float(s < inf)) for phase, s in zip(list(Phase)[1:], starts, strict=True))
    picks = np.sort(_random.integers(("boundaries", seed), resamples * n, n).reshape(resamples, n), axis=1)
    drawn, counts = np.unique(picks, axis=0, return_counts=True)
    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    found = [phases.phases(sweep.sparsity, *(part[pick] for part in accuracies)).boundaries for pick in drawn]
    every = np.sort(np.repeat(np.array(found), counts, axis=0), axis=0)
    tail = (1 - confidence) / 2 * resamples
    low, high = every[floor(tail)], every[ceil(resamples - tail) - 1]
    return tuple(
        Boundary(phase, starts[k], Interval(float(low[k]), float(high[k])), float((every[:, k] < inf).mean()))
        for k, phase in enumerate(list(Phase)[1:])
    )
