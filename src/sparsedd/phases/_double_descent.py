"""Double descent: how deep test accuracy dips, and how high it rises again."""

from dataclasses import dataclass
from functools import partial

from numpy.typing import ArrayLike

from sparsedd.phases._curves import check_accuracies, check_sparsity, find_dip_and_peak
from sparsedd.phases._interval import Interval, bootstrap


@dataclass(frozen=True)
class DoubleDescent:
    """The dip of test accuracy below the dense net, and its gain above it.

    Attributes
    ----------
    dip, gain
        t_0 - t at the dip, and t at the peak - t_0, in the mean over the seeds. A dip of 0 is none; a gain may be negative.
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

    def __repr__(self) -> str:
        dip = f"dip {100 * self.dip:.1f} points at {self.dip_sparsity:.2%}" if self.dip else "no dip"
        risen = self.peak_sparsity > self.dip_sparsity
        gain = f"gain {100 * self.gain:.1f} points at {self.peak_sparsity:.2%}" if risen else "no gain"
        return f"DoubleDescent({dip}, {gain}, {self.seeds} {'seed' if self.seeds == 1 else 'seeds'})"


def double_descent(
    sparsity: ArrayLike, test_accuracy: ArrayLike, *, confidence: float = 0.95, seed: int = 0, resamples: int = 10_000
) -> DoubleDescent:
    """Measure the dip and the gain of a sweep, with percentile bootstrap intervals over the seeds.

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
    s = check_sparsity(sparsity)
    curves = check_accuracies("test_accuracy", test_accuracy, s)
    i, j = find_dip_and_peak(curves.mean(axis=0))
    dips, gains = curves[:, 0] - curves[:, i], curves[:, j] - curves[:, 0]
    interval = partial(bootstrap, n=len(curves), confidence=confidence, seed=seed, resamples=resamples)
    return DoubleDescent(
        dip=float(dips.mean()),
        gain=float(gains.mean()),
        dip_interval=interval(lambda picks: dips[picks].mean(axis=1)),
        gain_interval=interval(lambda picks: gains[picks].mean(axis=1)),
        dip_sparsity=float(s[i]),
        peak_sparsity=float(s[j]),
        seeds=len(curves),
    )
