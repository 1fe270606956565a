"""Pictures of a sweep, drawn with matplotlib from plain numbers."""

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from sparsedd import _checks
from sparsedd.phases import Phase, Phases
from sparsedd.phases._curves import Array, check_points, check_seeds, check_shares, check_sparsity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["against_epoch", "against_sparsity", "double_descent", "interpolation", "learning_distance", "loss_along"]

BLUE, RED = "#3a6ea5", "#c0392b"
CURVES = (BLUE, RED, "#2e8b57", "#b8860b", "#7d4fa3", "#555555")
COLORS = {Phase.LIGHT: "#dbe7f3", Phase.CRITICAL: "#f6d9d5", Phase.SWEET: "#dcedd8", Phase.COLLAPSED: "#e4e2e6"}
# On dark paper, such as that of the style "dark_background", each of these gives way to one that can be seen there.
DARK = {
    **dict(zip(CURVES, ("#79aee6", "#f0867a", "#6cc594", "#dcb14a", "#bb97e0", "#a9b1ba"), strict=True)),
    **dict(zip(COLORS.values(), ("#1d2c3c", "#40262a", "#213626", "#2d2c33"), strict=True)),
}


def double_descent(
    sparsity: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    *,
    phases: Phases | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw training and test accuracy against sparsity, mean ± sample deviation over the seeds (He et al. 2022, Fig. 1).

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
    s = _check_levels(sparsity)
    train, test = check_shares("train_accuracy", train_accuracy, s), check_shares("test_accuracy", test_accuracy, s)
    if phases is not None:
        _checks.kind("phases", phases, Phases, "what sparsedd.phases.phases gives")
    ax = _scale_axes(ax, s)
    if phases is not None:
        _shade_phases(ax, phases, s)
    _draw_band(ax, 1 - s, 100 * train, color=BLUE, label="train")
    _draw_band(ax, 1 - s, 100 * test, color=RED, label="test")
    ax.set_ylabel("accuracy (%)")
    ax.legend(title=_format_spread(len(test)), framealpha=0.9)
    return ax


def learning_distance(
    sparsity: ArrayLike, distance: ArrayLike, test_accuracy: ArrayLike, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw learning distance (left axis) and test accuracy (right axis) against sparsity (He et al. 2022, Fig. 9).

    The arguments are those of :func:`double_descent`; ``distance`` has the shape of ``test_accuracy``.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> learning_distance([0, 0.5, 0.9], [50, 60, 30], [0.8, 0.7, 0.9]).get_ylabel()
    'learning distance'
    """
    s = _check_levels(sparsity)
    distances, test = check_seeds("distance", distance, s), check_shares("test_accuracy", test_accuracy, s)
    ax = _scale_axes(ax, s)
    _draw_band(ax, 1 - s, distances, color=BLUE, label="learning distance")
    ax.set_ylabel("learning distance", color=_adapt(BLUE, ax))
    right = ax.twinx()
    _draw_band(right, 1 - s, 100 * test, color=RED, label="test accuracy")
    right.set_ylabel("test accuracy (%)", color=_adapt(RED, ax))
    handles, labels = (a + b for a, b in zip(ax.get_legend_handles_labels(), right.get_legend_handles_labels(), strict=True))
    for side in (ax, right):  # room for the legend, which would lie on one curve or the other
        low, high = side.get_ylim()
        side.set_yticks([tick for tick in side.get_yticks() if low <= tick <= high])
        side.set_ylim(low, high + 0.25 * (high - low))
    right.legend(handles, labels, title=_format_spread(len(test)), framealpha=0.9, loc="upper center", ncols=2)
    return ax


def against_sparsity(sparsity: ArrayLike, curves: Mapping[str, ArrayLike], *, ylabel: str, ax: "Axes | None" = None) -> "Axes":
    """Draw any measures against sparsity, mean ± sample standard deviation over the seeds (He et al. 2022, Figs 10, 11 and 32).

    Parameters
    ----------
    sparsity
        As for :func:`double_descent`.
    curves
        Label → (seeds, levels), or (levels,).
    ylabel
        What the measures are.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> ax = against_sparsity([0, 0.5], {"ticket": [0.8, 0.7], "new weights": [0.8, 0.6]}, ylabel="accuracy")
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['ticket', 'new weights']
    """
    s = _check_levels(sparsity)
    arrays = {label: check_seeds(label, values, s) for label, values in _check_labels("curves", curves).items()}
    ax, n = _scale_axes(ax, s), 0
    for (label, array), color in zip(arrays.items(), cycle(CURVES), strict=False):
        _draw_band(ax, 1 - s, array, color=color, label=label)
        n = len(array)
    ax.set_ylabel(ylabel)
    ax.legend(title=_format_spread(n), framealpha=0.9)
    return ax


def against_epoch(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    dashed: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    ylabel: str = "accuracy (%)",
    mark: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw measures against the epoch, mean ± sample standard deviation over the seeds (He et al. 2022, Figs 6 and 35 to 39).

    Parameters
    ----------
    curves
        Label → (epochs (n,), values (seeds, n) or (n,)).
    dashed
        The same for dashed lines, each in the colour of the curve of its label.
    ylabel
        What the measures are.
    mark
        An epoch at which a vertical line is drawn, such as the one at which re-dense training begins.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> against_epoch({"test": ([1, 2], [0.5, 0.6])}, mark=1.5).get_xlabel()
    'epoch'
    """
    colors, n = dict(zip(_check_labels("curves", curves), cycle(CURVES), strict=False)), 0
    for label in _check_labels("dashed", dashed) if dashed else {}:
        if label not in colors:
            raise ValueError(f"dashed must have labels of curves, got {label!r}: there are {', '.join(map(repr, curves))}.")
    if mark is not None:
        _checks.number("mark", mark)
    lines = [
        (style, label, *_check_curve(label, c))
        for style, drawn in (("-", curves), ("--", dashed or {}))
        for label, c in drawn.items()
    ]
    ax = _get_axes(ax)
    for style, label, x, array in lines:
        name = label if style == "-" else None
        _draw_band(ax, x, array, color=colors[label], label=name, marker="", linestyle=style)
        n = len(array)
    if mark is not None:
        ax.axvline(mark, color="#888888", linewidth=1, linestyle=":")
    ax.set(xlabel="epoch", ylabel=ylabel)
    ax.legend(title=_format_spread(n), framealpha=0.9)
    return ax


def interpolation(
    alpha: ArrayLike,
    *,
    train_loss: ArrayLike,
    test_loss: ArrayLike,
    train_accuracy: ArrayLike,
    test_accuracy: ArrayLike,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw loss (left axis) and accuracy (right axis) from a sparse net to its re-dense one (He et al. 2022, Fig. 7).

    Solid lines are training data, dashed ones test data, in the mean over the seeds.

    Parameters
    ----------
    alpha
        (points,).
    train_loss, test_loss, train_accuracy, test_accuracy
        (seeds, points), or (points,).

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> values = dict(train_loss=[2, 1], test_loss=[2, 1.5], train_accuracy=[0.5, 1], test_accuracy=[0.5, 0.4])
    >>> interpolation([0, 1], **values).get_xlabel()
    'α'
    """
    x = check_points("alpha", alpha)
    losses = check_seeds("train loss", train_loss, x), check_seeds("test loss", test_loss, x)
    accuracies = check_shares("train accuracy", train_accuracy, x), check_shares("test accuracy", test_accuracy, x)
    ax = _get_axes(ax)
    right = ax.twinx()
    for style, part, loss, accuracy in zip(("-", "--"), ("train", "test"), losses, accuracies, strict=True):
        _draw_band(ax, x, loss, color=BLUE, linestyle=style, marker="", label=f"{part} loss")
        _draw_band(right, x, 100 * accuracy, color=RED, linestyle=style, marker="", label=f"{part} accuracy")
    ax.set_xlabel("α")
    ax.set_ylabel("loss", color=_adapt(BLUE, ax))
    right.set_ylabel("accuracy (%)", color=_adapt(RED, ax))
    return ax


def loss_along(alpha: ArrayLike, losses: Mapping[str, ArrayLike], *, ax: "Axes | None" = None) -> "Axes":
    """Draw training loss along directions through minima, on a log scale (He et al. 2022, Figs 8 and 43).

    Parameters
    ----------
    alpha
        (points,), in units of the filters' norms.
    losses
        Label → (seeds or directions, points), or (points,); the mean is drawn.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("agg")
    >>> loss_along([-1, 0, 1], {"0 %": [2, 0.1, 2]}).get_yscale()
    'log'
    """
    x = check_points("alpha", alpha)
    means = {label: check_seeds(label, values, x).mean(axis=0) for label, values in _check_labels("losses", losses).items()}
    ax = _get_axes(ax)
    for (label, mean), color in zip(means.items(), cycle(CURVES), strict=False):
        ax.plot(x, mean, color=_adapt(color, ax), label=label)
    ax.set(xlabel="α", ylabel="training loss", yscale="log")
    ax.legend(title="sparsity before", framealpha=0.9)
    return ax


def _get_axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        if not hasattr(ax, "twinx"):
            raise TypeError(f"ax must be a matplotlib Axes, such as pyplot.subplots() gives, or None, got {ax!r}.")
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(8, 4.5), layout="constrained")[1]


def _format_spread(n: int) -> str:
    return f"mean ± std, n = {n}" if n > 1 else "one seed"


def _check_levels(sparsity: ArrayLike) -> Array:
    s = check_sparsity(sparsity)
    if s[-1] == 1:
        raise ValueError("sparsity must be below 1 to be drawn: the log scale of kept weights has no zero.")
    return s


def _scale_axes(ax: "Axes | None", s: Array) -> "Axes":
    """Return axes on which the kept fraction falls to the right on a log scale, labelled as sparsity."""
    ax = _get_axes(ax)
    ax.set_xscale("log")
    ax.set_xlim(1.0 / 0.97, 0.97 * (1 - s[-1]))
    width = ax.get_window_extent().width / ax.figure.dpi  # inches
    most = min(9, max(2, int(1.5 * width)))  # as many as there is room for
    ticks = s[:: max(1, -(-len(s) // most))]
    ax.set_xticks(1 - ticks, labels=[_format_percent(tick) for tick in ticks], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_xlabel("sparsity (%)")
    return ax


def _format_percent(sparsity: float) -> str:
    """Format a sparsity in percent, with as many digits as tell it from 100."""
    kept = 100 * (1 - sparsity)
    return f"{100 * sparsity:.{0 if kept in (0, 100) else max(1, int(np.ceil(1 - np.log10(kept))))}f}"


def _check_labels(name: str, curves: Mapping[str, Any]) -> Mapping[str, Any]:
    if not _checks.kind(name, curves, Mapping, "a mapping of labels to curves"):
        raise ValueError(f"{name} must have at least one curve, got {curves!r}.")
    return curves


def _check_curve(label: str, curve: tuple[ArrayLike, ArrayLike]) -> tuple[Array, Array]:
    if not isinstance(curve, tuple | list) or len(curve) != 2:
        raise TypeError(f"the curve {label!r} must be (epochs, values), got {curve!r}.")
    x = check_points(f"epochs of {label!r}", curve[0])
    return x, check_seeds(label, curve[1], x)


def _draw_band(ax: "Axes", x: Array, values: Array, *, marker: str = "o", **style: Any) -> None:
    """Draw mean ± sample standard deviation over the first axis."""
    mean = values.mean(axis=0)
    style["color"] = _adapt(style["color"], ax)
    ax.plot(x, mean, marker=marker, markersize=3, **style)
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)
        ax.fill_between(x, mean - std, mean + std, color=style["color"], alpha=0.2, linewidth=0)


def _shade_phases(ax: "Axes", phases: Phases, s: Array) -> None:
    """Draw a coloured span and a name for each phase within the picture."""
    left, right = ax.get_xlim()
    edges = [left, *(1 - min(b, 1.0) for b in phases.boundaries), right]
    edges = [max(edge, right) for edge in edges]
    for phase, start, end in zip(Phase, edges[:-1], edges[1:], strict=True):
        if start > end:
            ax.axvspan(start, end, color=_adapt(COLORS[phase], ax), linewidth=0, zorder=0)
            middle = (start * end) ** 0.5
            ax.text(middle, 1.01, phase, transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=9)


def _adapt(color: str, ax: "Axes") -> str:
    """Return a colour of ours as it can be seen on the paper of the axes, or of the figure where axes have none."""
    from matplotlib.colors import to_rgba

    *rgb, alpha = to_rgba(ax.get_facecolor())
    if not alpha:
        *rgb, alpha = to_rgba(ax.figure.get_facecolor())
    return DARK[color] if alpha and sum(rgb) < 1.5 else color
