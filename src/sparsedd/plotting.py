"""Pictures of a sweep, drawn with matplotlib from plain numbers."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparsedd.phases import Phase, Phases

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["double_descent", "learning_distance"]

COLORS = {Phase.LIGHT: "#dbe7f3", Phase.CRITICAL: "#f6d9d5", Phase.SWEET: "#dcedd8", Phase.COLLAPSED: "#e4e2e6"}


def double_descent(
    sparsity: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    *,
    phases: Phases | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Training and test accuracy against sparsity, mean ± sample standard deviation over the seeds (He et al. 2022, Fig. 1).

    The kept fraction is on a log scale, so that levels stand at equal distances as in the paper, labelled with their
    sparsity.

    Parameters
    ----------
    sparsity
        (levels,), rising, below 1.
    train_accuracy, test_accuracy
        (seeds, levels), or (levels,) for one seed, in [0, 1].
    phases
        Shades the four phases, as :func:`sparsedd.phases.phases` finds them.
    ax
        Where to draw; None makes a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With the curves drawn.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> ax = double_descent([0, 0.5, 0.9], [[1, 1, 0.8]], [[0.8, 0.7, 0.9]])
    >>> ax.get_ylabel()
    'accuracy (%)'
    """
    ax, s = _axes(ax, sparsity)
    train, test = _seeds("train_accuracy", train_accuracy, s), _seeds("test_accuracy", test_accuracy, s)
    if phases is not None:
        _shade(ax, phases, s)
    _band(ax, s, 100 * train, color="#3a6ea5", label="train")
    _band(ax, s, 100 * test, color="#c0392b", label="test")
    n = len(test)
    ax.set_ylabel("accuracy (%)")
    ax.legend(title=f"mean ± std, n = {n}" if n > 1 else "one seed", loc="lower left", framealpha=0.9)
    return ax


def learning_distance(
    sparsity: ArrayLike, distance: ArrayLike, test_accuracy: ArrayLike, *, ax: "Axes | None" = None
) -> "Axes":
    """Learning distance (left axis) and test accuracy (right axis) against sparsity (He et al. 2022, Fig. 9).

    The arguments are those of :func:`double_descent`; ``distance`` has the shape of ``test_accuracy``.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> learning_distance([0, 0.5, 0.9], [50, 60, 30], [0.8, 0.7, 0.9]).get_ylabel()
    'learning distance'
    """
    ax, s = _axes(ax, sparsity)
    distances, test = _seeds("distance", distance, s), _seeds("test_accuracy", test_accuracy, s)
    _band(ax, s, distances, color="#3a6ea5", label="learning distance")
    ax.set_ylabel("learning distance", color="#3a6ea5")
    right = ax.twinx()
    _band(right, s, 100 * test, color="#c0392b", label="test accuracy")
    right.set_ylabel("test accuracy (%)", color="#c0392b")
    return ax


def _axes(ax: "Axes | None", sparsity: ArrayLike) -> tuple["Axes", NDArray[np.float64]]:
    """The axes, with the kept fraction falling to the right on a log scale, labelled as sparsity."""
    s = np.asarray(sparsity, dtype=np.float64)
    if s.ndim != 1 or not len(s) or not ((s >= 0) & (s < 1)).all() or not (np.diff(s) > 0).all():
        raise ValueError("sparsity must be one rising number below 1 for each level.")
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(8, 4.5), layout="constrained")[1]
    ax.set_xscale("log")
    ax.set_xlim(1.0 / 0.97, 0.97 * (1 - s[-1]))
    ticks = s[:: max(1, -(-len(s) // 9))]
    ax.set_xticks(1 - ticks, labels=[_percent(tick) for tick in ticks], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_xlabel("sparsity (%)")
    return ax, s


def _percent(sparsity: float) -> str:
    """As many digits as tell it from 100 %."""
    kept = 100 * (1 - sparsity)
    return f"{100 * sparsity:.{0 if kept in (0, 100) else max(1, int(np.ceil(1 - np.log10(kept))))}f}"


def _seeds(name: str, values: ArrayLike, s: NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if array.ndim != 2 or array.shape[1] != len(s):
        raise ValueError(f"{name} must have shape (seeds, {len(s)}) or ({len(s)},) like sparsity, got {np.shape(values)}.")
    return array


def _band(ax: "Axes", s: NDArray[np.float64], values: NDArray[np.float64], **style: Any) -> None:
    mean = values.mean(axis=0)
    ax.plot(1 - s, mean, marker="o", markersize=3, **style)
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)
        ax.fill_between(1 - s, mean - std, mean + std, color=style["color"], alpha=0.2, linewidth=0)


def _shade(ax: "Axes", phases: Phases, s: NDArray[np.float64]) -> None:
    """A coloured span and a name for each phase within the picture."""
    left, right = ax.get_xlim()
    edges = [left, *(1 - min(b, 1.0) for b in phases.boundaries), right]
    edges = [max(edge, right) for edge in edges]
    for phase, start, end in zip(Phase, edges[:-1], edges[1:], strict=True):
        if start > end:
            ax.axvspan(start, end, color=COLORS[phase], linewidth=0, zorder=0)
            middle = (start * end) ** 0.5
            ax.text(middle, 1.01, phase, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)
