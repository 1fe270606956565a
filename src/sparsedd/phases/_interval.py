"""Interval: how sure a mean over the seeds is."""

from math import nan
from typing import NamedTuple

import numpy as np

from sparsedd import _checks, _random
from sparsedd.phases._curves import Array


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def bootstrap(values: Array, *, confidence: float, seed: int, resamples: int) -> Interval:
    """The percentile bootstrap interval of the mean of one value a seed; nan for a single seed."""
    if not 0 < _checks.real("confidence", confidence) < 1:
        hint = f" It is a share, not a percentage: did you mean {confidence / 100:g}?" if 1 < confidence <= 100 else ""
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.{hint}")
    _checks.whole("seed", seed)
    _checks.whole("resamples", resamples, least=1)
    if len(values) == 1:
        return Interval(nan, nan)
    n = len(values)
    picks = _random.integers(("bootstrap", seed), resamples * n, n).reshape(resamples, n)
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
