"""The four phases of a sweep, by the rule that the package begins with."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf, sqrt
from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from sparsedd import _checks
from sparsedd.phases._curves import Array, check_accuracies, check_sparsity, check_tolerance, find_dip_and_peak


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
    """The phase of each sparsity.

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
        """Return the phase at a sparsity in [0, 1]."""
        _checks.share("sparsity", sparsity, one=True)
        return list(Phase)[sum(sparsity >= boundary for boundary in self.boundaries)]

    def landmarks(self) -> Landmarks:
        """Return the four sparsities that the paper looks at closely."""
        return self._landmarks

    def __repr__(self) -> str:
        after = (*self.boundaries[1:], inf)  # a phase that ends where it begins is empty
        starts = ", ".join(
            f"{phase} from {start:.2%}"
            for phase, start, end in zip(list(Phase)[1:], self.boundaries, after, strict=True)
            if start < end
        )
        return f"Phases(Light{', ' + starts if starts else ' throughout'})"


def phases(sparsity: ArrayLike, train_accuracy: ArrayLike, test_accuracy: ArrayLike, *, tolerance: float = 0.02) -> Phases:
    """Find the phases of a sweep, by the rule of :mod:`sparsedd.phases`.

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
    s = check_sparsity(sparsity)
    train = check_accuracies("train_accuracy", train_accuracy, s).mean(axis=0)
    test = check_accuracies("test_accuracy", test_accuracy, s).mean(axis=0)
    tolerance = check_tolerance(tolerance)
    n = len(s)
    dip, peak = find_dip_and_peak(test)
    light = _find_first((test < test[0] - tolerance) | (train < train[0] - tolerance), 0)
    if test[peak] - test[dip] > tolerance and test[peak] >= test[0] - tolerance:
        above_dense = test[peak] > test[0] + tolerance
        sweet = _find_first(test > (test[0] + tolerance if above_dense else (test[dip] + test[peak]) / 2), dip)
        collapsed = _find_first((test < test[peak] - tolerance) & (train < train[peak] - tolerance), peak)
        light = min(light, sweet)
    else:
        dip = peak = sweet = n
        collapsed = _find_first((test < test[0] - tolerance) & (train < test[0] - tolerance), 0)
    sweet = min(sweet, collapsed)
    light = min(light, sweet)
    starts = [k if k < n else None for k in (light, sweet, collapsed)]
    landmarks = Landmarks(
        dense=float(s[0]),
        critical=float(s[dip]) if dip < n else None,
        sweet=float(s[peak]) if peak < n else None,
        collapsed=float(s[-1]) if collapsed < n else None,
    )
    boundaries = tuple(inf if k is None else _find_boundary(s, k) for k in starts)
    return Phases(tuple(map(float, s)), boundaries, landmarks)  # type: ignore[arg-type]


def _find_first(where: Any, start: int) -> int:
    """Return the first level from ``start`` on at which a condition holds, or the number of levels."""
    return next((k for k in range(start, len(where)) if where[k]), len(where))


def _find_boundary(s: Array, k: int) -> float:
    """Return where a phase begins whose first level is k: between the levels, at the geometric mean of their densities."""
    return float(s[0]) if k == 0 else 1.0 - sqrt((1.0 - s[k - 1]) * (1.0 - s[k]))
