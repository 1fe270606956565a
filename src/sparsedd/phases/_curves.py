"""Curves: the numbers of a sweep, checked, and their largest rise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsedd import _checks

Array = NDArray[np.float64]


def levels(sparsity: ArrayLike) -> Array:
    """One sparsity a level, rising."""
    s = _checks.numbers("sparsity", sparsity)
    if s.ndim != 1 or not len(s):
        raise ValueError(f"sparsity must be one number a level, got an array of shape {s.shape}.")
    if not (np.isfinite(s).all() and (np.diff(s) > 0).all() and s[0] >= 0 and s[-1] <= 1):
        raise ValueError(f"sparsity must rise from level to level within [0, 1], got {_shown(s)}.{_hint(s)}")
    return s


def accuracies(name: str, values: ArrayLike, s: Array) -> Array:
    """Those of each seed, (seeds, levels)."""
    array = _checks.numbers(name, values)
    curves = np.atleast_2d(array)
    if curves.ndim != 2 or curves.shape[1] != len(s) or not len(curves):
        raise ValueError(f"{name} must have shape (seeds, {len(s)}) or ({len(s)},) like sparsity, got {array.shape}.")
    if not np.isfinite(curves).all():
        raise ValueError(f"{name} must be finite, got {_shown(curves[~np.isfinite(curves)])}.")
    if not ((curves >= 0) & (curves <= 1)).all():
        raise ValueError(f"{name} must be in [0, 1], got {_shown(curves)}.{_hint(curves)}")
    return curves


def tolerated(tolerance: float) -> float:
    """δ, and a little: a difference of just δ, up to rounding, is not more than δ."""
    if not _checks.real("tolerance", tolerance) >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}.")
    return float(_checks.share("tolerance", tolerance, one=True)) + 1e-9


def dip_and_peak(test: Array) -> tuple[int, int]:
    """The levels i < j with the largest rise of test accuracy, the earliest of several."""
    lowest = np.minimum.accumulate(test)
    peak = int(np.argmax(test - lowest))
    return int(np.argmin(test[: peak + 1])), peak


def _hint(values: Array) -> str:
    return " It is a share, not a percentage." if 1 < values.max() <= 100 else ""


def _shown(values: Array) -> str:
    numbers: Sequence[float] = values.ravel().tolist()
    return ", ".join(f"{v:.6g}" for v in numbers[:6]) + (", ..." if len(numbers) > 6 else "")
