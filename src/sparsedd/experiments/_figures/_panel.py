"""Panel: one panel of a figure, as data; Drawing: how it is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from sparsedd import plotting
from sparsedd._parameters import abridge
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._figures._measures import SPARSE, Measures, name_redense
from sparsedd.experiments._labels import make_title
from sparsedd.noise import FLIPS, Asymmetric

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Needs: TypeAlias = Literal["epochs", "redense", "interpolation", "directions"]


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Attributes
    ----------
    title
        Above it.
    sweeps
        The experiments that it shows, at paper scale with seed 0: one, or a ticket's and that of its re-initialisation.
    at
        Which landmark of the sweep it is about: 0 the dense net, 1 the dip, 2 the peak, 3 the collapsed net; None: all.
    factor
        Of the last learning rate, in re-dense training.
    """

    title: str
    sweeps: tuple[Experiment, ...]
    at: int | None = None
    factor: float = 1.0

    def __repr__(self) -> str:
        return f"Panel({self.title}: {abridge([sweep.name for sweep in self.sweeps], 1)})"


def move_panels(panels: Sequence[Panel], preset: Experiment) -> tuple[Panel, ...]:
    """Return the panels on another preset, each once, see :meth:`.Figure.on`."""
    pruners = [experiment.pruner for panel in panels for experiment in panel.sweeps]
    about = ["score", *(name for name in ("fraction", "scope") if len({getattr(pruner, name) for pruner in pruners}) > 1)]

    def moved(panel: Panel) -> Panel:
        sweeps = tuple(_on(preset, experiment, about) for experiment in panel.sweeps)
        return replace(panel, sweeps=sweeps, title=panel.title.replace(make_title(panel.sweeps[0]), make_title(sweeps[0])))

    return tuple(dict.fromkeys(map(moved, panels)))


def _on(preset: Experiment, experiment: Experiment, about: Sequence[str]) -> Experiment:
    """Return the preset with everything that a figure varies: noise, what is pruned, and what a level starts from."""
    varied = {name: getattr(experiment, name) for name in ("noise", "retraining", "one_shot", "tickets_of")}
    varied["pruner"] = replace(preset.pruner, **{name: getattr(experiment.pruner, name) for name in about})
    if isinstance(experiment.noise, Asymmetric) and experiment.dataset != preset.dataset:
        varied["noise"] = replace(experiment.noise, flips=name_flips(preset.dataset))
    return replace(preset, **varied)


def name_flips(dataset: Any) -> Any:
    """Return the name of the asymmetric flips of a data set's labels."""
    found = {"digits": "mnist"}.get(dataset, dataset)
    if found not in FLIPS:
        raise ValueError(f"asymmetric noise is not defined for {dataset}, only for {', '.join(FLIPS)}: take another kind.")
    return found


@dataclass(frozen=True)
class Drawing:
    """How a panel is drawn.

    Attributes
    ----------
    draw
        ``(axes, panel, measures)``, which finds the panel's title set.
    needs
        What is computed at the landmarks besides the sweeps; None: nothing.
    """

    draw: "Callable[[Axes, Panel, Measures], None]"
    needs: Needs | None = None

    def __repr__(self) -> str:
        return f"Drawing({getattr(self.draw, '__name__', 'a function')}{f', needs {self.needs}' if self.needs else ''})"


def draw_accuracy(ax: "Axes", panel: Panel, measures: Measures) -> None:
    sweep = measures.sweep(panel.sweeps[0])
    plotting.double_descent(sweep.sparsity, sweep["train_accuracy"], sweep["test_accuracy"], ax=ax)


def draw_phases(ax: "Axes", panel: Panel, measures: Measures) -> None:
    sweep = measures.sweep(panel.sweeps[0])
    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    plotting.double_descent(sweep.sparsity, *accuracies, phases=sweep.phases, ax=ax)
    ax.set_title(panel.title, pad=18)


def draw_distance(ax: "Axes", panel: Panel, measures: Measures) -> None:
    sweep = measures.sweep(panel.sweeps[0])
    plotting.learning_distance(sweep.sparsity, sweep["learning_distance"], sweep["test_accuracy"], ax=ax)


def draw_best(ax: "Axes", panel: Panel, measures: Measures) -> None:
    sweep = measures.sweep(panel.sweeps[0])
    curves = {label: 100 * sweep[f"{label}_accuracy".replace(" ", "_")] for label in ("train", "best test", "test")}
    plotting.against_sparsity(sweep.sparsity, curves, ylabel="accuracy (%)", ax=ax)


def draw_gap(ax: "Axes", panel: Panel, measures: Measures) -> None:
    sweep = measures.sweep(panel.sweeps[0])
    gap = {"test error − train error": 100 * (sweep["train_accuracy"] - sweep["test_accuracy"])}
    plotting.against_sparsity(sweep.sparsity, gap, ylabel="generalisation gap (points)", ax=ax)


def draw_tickets(ax: "Axes", panel: Panel, measures: Measures) -> None:
    ticket, other = (measures.sweep(experiment) for experiment in panel.sweeps)
    n = min(len(ticket.sparsity), len(other.sparsity))
    curves = {"lottery ticket": ticket, "new initial weights": other}
    values = {label: 100 * sweep["test_accuracy"][:, :n] for label, sweep in curves.items()}
    plotting.against_sparsity(ticket.sparsity[:n], values, ylabel="test accuracy (%)", ax=ax)


def draw_dynamics(ax: "Axes", panel: Panel, measures: Measures) -> None:
    experiment = panel.sweeps[0]
    found = {str(mark): measures.curves(experiment, mark.level) for mark in measures.sweep(experiment).landmarks}
    test, train = (
        {label: (epochs, 100 * values[f"{part}_accuracy"]) for label, (epochs, values) in found.items()}
        for part in ("test", "train")
    )
    plotting.against_epoch(test, dashed=train, ylabel="test, and dashed training accuracy (%)", ax=ax)


def draw_redense(ax: "Axes", panel: Panel, measures: Measures) -> None:
    experiment, mark = panel.sweeps[0], measures.landmark(panel.sweeps[0], panel.at or 0)
    (epochs, sparse), (more, dense) = (
        measures.curves(experiment, mark.level, training) for training in (SPARSE, name_redense(panel.factor))
    )
    x = np.concatenate([epochs, more])
    curves = {
        part: (x, 100 * np.concatenate([sparse[f"{part}_accuracy"], dense[f"{part}_accuracy"]], axis=1))
        for part in ("train", "test")
    }
    plotting.against_epoch(curves, mark=epochs[-1] + 0.5, ax=ax)
    ax.set_title(f"{panel.title}\n{mark}", fontsize=10)


def draw_interpolation(ax: "Axes", panel: Panel, measures: Measures) -> None:
    mark = measures.landmark(panel.sweeps[0], panel.at or 0)
    alpha, values = measures.line(panel.sweeps[0], mark.level, "interpolation")
    plotting.interpolation(alpha, **values, ax=ax)
    ax.set_title(f"{panel.title}\n{mark}", fontsize=10)


def draw_directions(ax: "Axes", panel: Panel, measures: Measures) -> None:
    marks = measures.sweep(panel.sweeps[0]).landmarks
    found = {str(mark): measures.directions(panel.sweeps[0], mark.level) for mark in marks}
    alpha = found[str(marks[0])][0]
    plotting.loss_along(alpha, {label: loss.mean(axis=1) for label, (_, loss) in found.items()}, ax=ax)


ACCURACY = Drawing(draw_accuracy)
PHASES = Drawing(draw_phases)
DISTANCE = Drawing(draw_distance)
BEST = Drawing(draw_best)
GAP = Drawing(draw_gap)
TICKETS = Drawing(draw_tickets)
DYNAMICS = Drawing(draw_dynamics, needs="epochs")
REDENSE = Drawing(draw_redense, needs="redense")
INTERPOLATION = Drawing(draw_interpolation, needs="interpolation")
DIRECTIONS = Drawing(draw_directions, needs="directions")
