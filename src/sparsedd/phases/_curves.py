"""Curves: the numbers of a sweep, checked, and their largest rise."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsedd import _checks

Array = NDArray[np.float64]


def check_points(name: str, values: ArrayLike) -> Array:
    """Return one number for each point of a curve, (points,)."""
    points = _checks.numbers(name, values)
    if points.ndim != 1 or not len(points):
        raise ValueError(f"{name} must be one number for each point of a curve, got an array of shape {points.shape}.")
    return points


def check_sparsity(sparsity: ArrayLike) -> Array:
    """Return the sparsity of each level, (levels,), which must rise within [0, 1]."""
    s = check_points("sparsity", sparsity)
    if not (np.isfinite(s).all() and (np.diff(s) > 0).all() and s[0] >= 0 and s[-1] <= 1):
        raise ValueError(f"sparsity must rise from level to level within [0, 1], got {_format(s)}.{_hint(s)}")
    return s


def check_seeds(name: str, values: ArrayLike, points: Array) -> Array:
    """Return the curve of each seed, (seeds, points)."""
    array, n = _checks.numbers(name, values), len(points)
    if array.ndim not in (1, 2) or not len(array) or array.shape[-1] != n:
        raise ValueError(f"{name} must have shape (seeds, {n}) or ({n},), a number for each point, got {array.shape}.")
    return np.atleast_2d(array)


def check_shares(name: str, values: ArrayLike, points: Array) -> Array:
    """Return the curve of each seed, (seeds, points), all in [0, 1] or NaN where a measure is undefined."""
    curves = check_seeds(name, values, points)
    if len(wrong := curves[(curves < 0) | (curves > 1)]):
        raise ValueError(f"{name} must be in [0, 1], got {_format(wrong)}.{_hint(wrong)}")
    return curves


def check_accuracies(name: str, values: ArrayLike, points: Array) -> Array:
    """Return the curve of each seed, (seeds, points), all in [0, 1]."""
    curves = check_shares(name, values, points)
    if np.isnan(curves).any():
        raise ValueError(f"{name} must be finite, got {_format(curves[np.isnan(curves)])}.")
    return curves


def check_tolerance(tolerance: float) -> float:
    """Return δ and a little more: a difference of just δ, up to rounding, is not more than δ."""
    if not _checks.real("tolerance", tolerance) >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}.")
    return float(_checks.share("tolerance", tolerance, one=True)) + 1e-9


def find_dip_and_peak(test: Array) -> tuple[int, int]:
    """Return the levels i < j with the largest rise of test accuracy, the earliest of several."""
    lowest = np.minimum.accumulate(test)
    peak = int(np.argmax(test - lowest))
    return int(np.argmin(test[: peak + 1])), peak


def _hint(values: Array) -> str:
    return " It is a share, not a percentage." if 1 < values.max() <= 100 else ""


def _format(values: Array) -> str:
    return ", ".join(f"{v:.6g}" for v in values.flat[:6]) + (", ..." if values.size > 6 else "")
