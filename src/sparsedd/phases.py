r"""Phases: the four phases of a sweep, and how deep and how high its double descent goes. Plain numbers in and out.

The paper describes the phases in words (He et al. 2022, 2.3); the rule that follows them here has one parameter, the
tolerance δ. With a_k and t_k the training and test accuracy of level k, the dip and the peak are the pair of levels i < j with
the largest rise t_j - t_i.

========= ====================================================================================================================
Light     from level 0 on, while neither a_k nor t_k is more than δ below its dense value
Critical  from there until, after the dip, t_k exceeds t_0 by more than δ (where no level does: is nearer the peak than the dip)
Sweet     from there, while test accuracy stays high
Collapsed from the first level after the peak at which both a_k and t_k are more than δ below their values at the peak
========= ====================================================================================================================

Where test accuracy never rises by more than δ, or rises to less than t_0 - δ, there is no Sweet phase, and the net has
collapsed where both accuracies are more than δ below the dense *test* accuracy: it has lost what generalises, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf, nan, sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsedd import _checks, _random

__all__ = ["DoubleDescent", "Interval", "Landmarks", "Phase", "Phases", "double_descent", "phases"]

Array = NDArray[np.float64]


class Phase(StrEnum):
    """One of the four phases; it compares and prints as its name."""

    LIGHT = "Light"
    CRITICAL = "Critical"
    SWEET = "Sweet"
    COLLAPSED = "Collapsed"


class Landmarks(NamedTuple):
    """The four sparsities of section 3.1: dense, the dip and the peak of test accuracy, the last level if it has collapsed.

    None where the sweep has no such level.
    """

    dense: float
    critical: float | None
    sweet: float | None
    collapsed: float | None


@dataclass(frozen=True)
class Phases:
    """Which sparsity is in which phase.

    Attributes
    ----------
    sparsity
        Of the levels, rising.
    boundaries
        The sparsities at which Critical, Sweet and Collapsed begin: between the last level of one phase and the first of the
        next, at the geometric mean of their densities. ``inf`` for a phase that is not reached; equal to the next where a
        phase is empty.
    """

    sparsity: tuple[float, ...]
    boundaries: tuple[float, float, float]
    _landmarks: Landmarks

    def __getitem__(self, sparsity: float) -> Phase:
        """The phase at a sparsity in [0, 1]."""
        _checks.share("sparsity", sparsity, one=True)
        return list(Phase)[sum(sparsity >= boundary for boundary in self.boundaries)]

    def landmarks(self) -> Landmarks:
        """The four sparsities that the paper looks at closely."""
        return self._landmarks

    def __repr__(self) -> str:
        starts = ", ".join(
            f"{phase} from {start:.2%}" for phase, start in zip(list(Phase)[1:], self.boundaries, strict=True) if start < inf
        )
        return f"Phases(Light{', ' + starts if starts else ' throughout'})"


def phases(sparsity: ArrayLike, train_accuracy: ArrayLike, test_accuracy: ArrayLike, *, tolerance: float = 0.02) -> Phases:
    """The phases of a sweep, see the rule above.

    Parameters
    ----------
    sparsity
        (levels,), rising, the dense level first.
    train_accuracy, test_accuracy
        (levels,) or (seeds, levels), of which the mean over the seeds counts.
    tolerance
        δ, the difference in accuracy that counts.

    Raises
    ------
    ValueError
        When lengths differ, a number is not finite, or sparsity does not rise.

    Examples
    --------
    >>> found = phases([0, 0.5, 0.8, 0.9, 0.99], [1, 1, 0.9, 0.8, 0.6], [0.8, 0.8, 0.7, 0.95, 0.6])
    >>> found
    Phases(Light, Critical from 68.38%, Sweet from 85.86%, Collapsed from 96.84%)
    >>> found[0.8], found.landmarks().sweet
    (<Phase.CRITICAL: 'Critical'>, 0.9)
    """
    s = _levels(sparsity)
    train, test = (
        _curves("train_accuracy", train_accuracy, s).mean(axis=0),
        _curves("test_accuracy", test_accuracy, s).mean(axis=0),
    )
    if not _checks.real("tolerance", tolerance) >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}.")
    tolerance = float(_checks.share("tolerance", tolerance, one=True))
    tolerance += 1e-9  # a difference of just δ, up to rounding, is not more than δ
    n = len(s)
    dip, peak = _dip_and_peak(test)
    light = _first((test < test[0] - tolerance) | (train < train[0] - tolerance), 0)
    if test[peak] - test[dip] > tolerance and test[peak] >= test[0] - tolerance:
        above_dense = test[peak] > test[0] + tolerance
        sweet = _first(test > (test[0] + tolerance if above_dense else (test[dip] + test[peak]) / 2), dip)
        collapsed = _first((test < test[peak] - tolerance) & (train < train[peak] - tolerance), peak)
        light = min(light, sweet)
    else:
        dip = peak = sweet = n
        collapsed = _first((test < test[0] - tolerance) & (train < test[0] - tolerance), 0)
    sweet = min(sweet, collapsed)
    light = min(light, sweet)
    starts = [k if k < n else None for k in (light, sweet, collapsed)]
    landmarks = Landmarks(
        dense=float(s[0]),
        critical=float(s[dip]) if dip < n else None,
        sweet=float(s[peak]) if peak < n else None,
        collapsed=float(s[-1]) if collapsed < n else None,
    )
    boundaries = tuple(inf if k is None else _between(s, k) for k in starts)
    return Phases(tuple(map(float, s)), boundaries, landmarks)  # type: ignore[arg-type]


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True)
class DoubleDescent:
    """How deep test accuracy falls below the dense net, and how high it then rises above it.

    Attributes
    ----------
    dip, gain
        t_0 - t at the dip, and t at the peak - t_0, in the mean over the seeds. Negative where there is none.
    dip_interval, gain_interval
        Bootstrap intervals over the seeds, at the sparsities found in the mean curve; nan for a single seed.
    dip_sparsity, peak_sparsity
        Where: the levels i < j with the largest rise t_j - t_i.
    seeds
        How many.
    """

    dip: float
    gain: float
    dip_interval: Interval
    gain_interval: Interval
    dip_sparsity: float
    peak_sparsity: float
    seeds: int


def double_descent(
    sparsity: ArrayLike, test_accuracy: ArrayLike, *, confidence: float = 0.95, seed: int = 0, resamples: int = 10_000
) -> DoubleDescent:
    """The dip and the gain of a sweep, with percentile bootstrap intervals over the seeds.

    The places are found in the mean curve, so that the intervals say how sure the differences *there* are; they don't count
    that a place was chosen for being extreme, nor can they be trusted far for three seeds.

    Parameters
    ----------
    sparsity
        (levels,), rising, the dense level first.
    test_accuracy
        (seeds, levels), or (levels,) for one seed.
    confidence
        Of the intervals, in (0, 1).
    seed
        Of the resampling.
    resamples
        How many.

    Examples
    --------
    >>> found = double_descent([0, 0.8, 0.99], [[0.80, 0.70, 0.90], [0.82, 0.74, 0.92]])
    >>> round(found.dip, 3), round(found.gain, 3), found.peak_sparsity
    (0.09, 0.1, 0.99)
    """
    s = _levels(sparsity)
    curves = _curves("test_accuracy", test_accuracy, s)
    if not 0 < _checks.real("confidence", confidence) < 1:
        hint = f" It is a share, not a percentage: did you mean {confidence / 100:g}?" if 1 < confidence <= 100 else ""
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.{hint}")
    _checks.whole("seed", seed)
    _checks.whole("resamples", resamples, least=1)
    i, j = _dip_and_peak(curves.mean(axis=0))
    dips, gains = curves[:, 0] - curves[:, i], curves[:, j] - curves[:, 0]
    n = len(curves)
    picks = _random.integers(("bootstrap", seed), resamples * n, n).reshape(resamples, n)

    def interval(differences: Array) -> Interval:
        if n == 1:
            return Interval(nan, nan)
        low, high = np.quantile(differences[picks].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
        return Interval(float(low), float(high))

    return DoubleDescent(
        dip=float(dips.mean()),
        gain=float(gains.mean()),
        dip_interval=interval(dips),
        gain_interval=interval(gains),
        dip_sparsity=float(s[i]),
        peak_sparsity=float(s[j]),
        seeds=n,
    )


def _dip_and_peak(test: Array) -> tuple[int, int]:
    """The levels i < j with the largest rise of test accuracy, the earliest of several."""
    lowest = np.minimum.accumulate(test)
    peak = int(np.argmax(test - lowest))
    return int(np.argmin(test[: peak + 1])), peak


def _first(where: Any, start: int) -> int:
    """The first level from ``start`` on at which a condition holds, or the number of levels."""
    return next((k for k in range(start, len(where)) if where[k]), len(where))


def _between(s: Array, k: int) -> float:
    return float(s[0]) if k == 0 else 1.0 - sqrt((1.0 - s[k - 1]) * (1.0 - s[k]))


def _levels(sparsity: ArrayLike) -> Array:
    s = _checks.numbers("sparsity", sparsity)
    if s.ndim != 1 or not len(s):
        raise ValueError(f"sparsity must be one number a level, got an array of shape {s.shape}.")
    if not (np.isfinite(s).all() and (np.diff(s) > 0).all() and s[0] >= 0 and s[-1] <= 1):
        raise ValueError(f"sparsity must rise from level to level within [0, 1], got {_shown(s)}.{_hint(s)}")
    return s


def _curves(name: str, values: ArrayLike, s: Array) -> Array:
    array = _checks.numbers(name, values)
    curves = np.atleast_2d(array)
    if curves.ndim != 2 or curves.shape[1] != len(s) or not len(curves):
        raise ValueError(f"{name} must have shape (seeds, {len(s)}) or ({len(s)},) like sparsity, got {array.shape}.")
    if not np.isfinite(curves).all():
        raise ValueError(f"{name} must be finite, got {_shown(curves[~np.isfinite(curves)])}.")
    if not ((curves >= 0) & (curves <= 1)).all():
        raise ValueError(f"{name} must be in [0, 1], got {_shown(curves)}.{_hint(curves)}")
    return curves


def _hint(values: Array) -> str:
    return " It is a share, not a percentage." if 1 < values.max() <= 100 else ""


def _shown(values: Array) -> str:
    numbers: Sequence[float] = values.ravel().tolist()
    return ", ".join(f"{v:.6g}" for v in numbers[:6]) + (", ..." if len(numbers) > 6 else "")
