"""Lines through the landscape: from a sparse net to its re-dense one, and around the latter."""

import os
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from sparsedd import _checks, _files, landscape
from sparsedd.experiments._ambient import undisturbed
from sparsedd.experiments._execution import in_order
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._problem import Problem
from sparsedd.experiments._redense import redense, redense_weights, shown
from sparsedd.experiments._store import Store
from sparsedd.metrics import Evaluation, evaluate
from sparsedd.sweeps._json import build

# By scale: points from 0 to 1, points from -1 to 1, directions.
RESOLUTION = {"smoke": (5, 5, 2), "mini": (51, 25, 3), "small": (101, 51, 5), "paper": (101, 51, 5)}


@dataclass(frozen=True)
class Line:
    """Loss and accuracy at points α along a line; test values are None where they were not measured.

    Attributes
    ----------
    name
        ``"interpolation"``, or ``"direction 0"`` and so on.
    alpha, train_loss, test_loss, train_accuracy, test_accuracy
        (points,).
    """

    name: str
    alpha: tuple[float, ...]
    train_loss: tuple[float, ...]
    train_accuracy: tuple[float, ...]
    test_loss: tuple[float | None, ...]
    test_accuracy: tuple[float | None, ...]

    def __repr__(self) -> str:
        ends = f" from {self.alpha[0]:g} to {self.alpha[-1]:g}" if self.alpha else ""
        return f"Line({self.name}, {len(self.alpha)} points{ends})"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"interpolation|direction \d+", self.name):
            raise ValueError(f"a line is called 'interpolation' or 'direction 0', got {self.name!r:.40}.")
        if len({len(values) for name, values in vars(self).items() if name != "name"}) != 1:
            raise ValueError("the measures of a line must have equally many points.")


def interpolation(
    experiment: Experiment,
    level: int,
    out: str | os.PathLike[str],
    factor: float = 1.0,
    device: str | torch.device = "cpu",
) -> Line:
    """The line from a level's sparse net (α = 0) to its re-dense net (α = 1) (He et al. 2022, A.5, Figs 7 and 40 to 42).

    BatchNorm statistics are estimated anew on the training images at each α. Re-dense training is run where it has not been.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     line = interpolation(Experiment().scaled("smoke"), 1, out)
    >>> line.alpha
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    points = RESOLUTION[_checks.kind("experiment", experiment, Experiment, "an Experiment").scale][0]
    alphas = [k / (points - 1) for k in range(points)]

    def measured(problem: Problem, model: nn.Module) -> list[Line]:
        store = Store(out, experiment)
        ends = store.weights(level), redense_weights(experiment, level, out, factor)

        def both(model: nn.Module) -> tuple[Evaluation, Evaluation]:
            return evaluate(model, in_order(problem.train)), evaluate(model, in_order(problem.test))

        def recalibrate(model: nn.Module) -> None:
            update_bn(in_order(problem.train), model)

        return [_line("interpolation", alphas, landscape.interpolate(model, *ends, both, alphas, recalibrate))]

    return _kept("interpolation", experiment, level, out, factor, device, measured)[0]


def directions(
    experiment: Experiment,
    level: int,
    out: str | os.PathLike[str],
    factor: float = 1.0,
    device: str | torch.device = "cpu",
) -> list[Line]:
    """Training loss along filter-normalised random directions through a level's re-dense net (He et al. 2022, A.6, Fig. 43).

    Biases and norm layers stay, and BatchNorm's statistics too. Re-dense training is run where it has not been.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     lines = directions(Experiment().scaled("smoke"), 1, out)
    >>> [line.name for line in lines], lines[0].alpha
    (['direction 0', 'direction 1'], (-1.0, -0.5, 0.0, 0.5, 1.0))
    """
    _, points, count = RESOLUTION[_checks.kind("experiment", experiment, Experiment, "an Experiment").scale]
    alphas = [2 * k / (points - 1) - 1 for k in range(points)]

    def measured(problem: Problem, model: nn.Module) -> list[Line]:
        def train(model: nn.Module) -> tuple[Evaluation, None]:
            return evaluate(model, in_order(problem.train)), None

        model.load_state_dict(redense_weights(experiment, level, out, factor))
        lines = []
        for k in range(count):
            direction = landscape.filter_normalized(landscape.random_direction(model, seed=k), model)
            lines.append(_line(f"direction {k}", alphas, landscape.line(model, model, direction, alphas, train)))
        return lines

    return _kept("directions", experiment, level, out, factor, device, measured)


def _line(name: str, alphas: Sequence[float], values: Sequence[tuple[Evaluation, Evaluation | None]]) -> Line:
    train, test = zip(*values, strict=True)
    return Line(
        name,
        tuple(alphas),
        tuple(e.loss for e in train),
        tuple(e.accuracy for e in train),
        tuple(e and e.loss for e in test),
        tuple(e and e.accuracy for e in test),
    )


def opened(path: Path, kind: str) -> tuple[Any, list[Line]]:
    """What a file of lines holds: what they were made of, and the lines."""
    _, content = _files.unseal(path, kind)
    with _files.blame(path, f"a file of {kind}"):
        return content["of"], _from_json(content)


def _from_json(content: Any) -> list[Line]:
    return [build(Line, plain) for plain in content["lines"]]


@undisturbed()
def _kept(
    kind: str,
    experiment: Experiment,
    level: int,
    out: str | os.PathLike[str],
    factor: float,
    device: str | torch.device,
    measured: Callable[[Problem, nn.Module], list[Line]],
) -> list[Line]:
    """The lines that the store holds, or else those that are measured now."""
    record = redense(experiment, level, out, factor, device)
    store = Store(out, experiment)
    made_of = [store.digest(level), record.dense.train_loss[-1]]
    path: Path = store.path / f"{level:02d}.redense-{shown(record.factor)}.{kind}.safetensors"
    if (lines := store.kept(path, kind, made_of, _from_json)) is not None:
        return lines
    problem = Problem(experiment, device)
    lines = measured(problem, deepcopy(problem.original))
    store.keep(path, kind, {}, {"of": made_of, "lines": [asdict(line) for line in lines]})
    return lines
