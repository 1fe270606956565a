"""Interval: how sure a number is that is made of a few seeds."""

from collections.abc import Callable
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparsedd import _checks, _random
from sparsedd.phases._curves import Array


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def bootstrap(
    measure: Callable[[NDArray[np.int64]], Array], n: int, *, confidence: float, seed: int, resamples: int
) -> Interval:
    """Return the percentile bootstrap interval of a measure of picks of ``n`` seeds, (resamples, n); nan for one seed."""
    check_resampling(confidence, seed, resamples)
    if n == 1:
        return Interval(nan, nan)
    picks = _random.integers(("bootstrap", seed), resamples * n, n).reshape(resamples, n)
    low, high = np.quantile(measure(picks), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def check_resampling(confidence: float, seed: int, resamples: int) -> None:
    """Check the arguments of a bootstrap."""
    if not 0 < _checks.real("confidence", confidence) < 1:
        hint = f" It is a share, not a percentage: did you mean {confidence / 100:g}?" if 1 < confidence <= 100 else ""
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.{hint}")
    _checks.whole("seed", seed)
    _checks.whole("resamples", resamples, least=1)
