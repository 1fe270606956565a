"""After sparse training: a level's net trained on without its mask, and the loss on lines to it and around it."""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from sparsedd import _checks, _files, landscape
from sparsedd._ambient import undisturbed
from sparsedd._mask import Mask
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._run import run
from sparsedd.experiments._store import Store
from sparsedd.experiments._task import Task
from sparsedd.experiments._train import EVALUATION_BATCH, in_order, sgd, train
from sparsedd.metrics import Evaluation
from sparsedd.sweeps._json import build
from sparsedd.sweeps._record import Curves, Record
from sparsedd.sweeps._store import check_fit

PathLike = str | os.PathLike[str]
REDENSE = "re-dense net"

# By scale: points from 0 to 1, points from -1 to 1, directions.
RESOLUTION = {"smoke": (5, 5, 2), "mini": (51, 25, 3), "quarter": (51, 25, 3), "small": (101, 51, 5), "paper": (101, 51, 5)}


class Place(NamedTuple):
    """Where the net of a level that is trained on without its mask is kept, and what is made of that."""

    experiment: Experiment
    level: int
    out: PathLike
    factor: float

    def path(self, kind: str = "") -> Path:
        """Return where the net is kept, or its lines of a kind."""
        level, factor = _checks.whole("level", self.level), _checks.number("factor", self.factor, above=0)
        return (
            Store(self.out, self.experiment).path
            / f"{level:02d}.redense-{format_factor(factor)}{kind and f'.{kind}'}.safetensors"
        )


@dataclass(frozen=True)
class Redense:
    """The record of a level that was trained on without its mask.

    Attributes
    ----------
    level, sparsity
        Of the sparse net.
    factor
        Of the learning rate, times the last one of sparse training.
    sparse, dense
        The curves of sparse and of re-dense training; epochs are numbered through, so that they are one curve.
    seconds
        What re-dense training took.
    """

    level: int
    sparsity: float
    factor: float
    sparse: Curves
    dense: Curves
    seconds: float

    def __repr__(self) -> str:
        return f"Redense(level {self.level}, sparsity {self.sparsity:.2%}, {self.factor:g} times the last rate, {self.dense!r})"

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """Return the record of its ``asdict``; ValueError where a field is missing or is not what it must be."""
        record: Self = build(cls, plain, "the record of re-dense training")
        return record


@undisturbed()
def redense(
    experiment: Experiment,
    level: int,
    out: PathLike,
    factor: float = 1.0,
    device: str | torch.device = "cpu",
) -> Redense:
    """Train a level's net on without its mask, for as many epochs again (He et al. 2022, A.4, Figs 6 and 37 to 39).

    Pruned weights start from zero. The same optimizer goes on, at the last learning rate of sparse training times ``factor``:
    kept weights keep their momentum, the others have none. The sweep in ``out`` is run up to the level where it has not been,
    and what is there already is not computed again.

    Raises
    ------
    ValueError
        When the experiment has no such level, or a file was altered.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     record = redense(Experiment().scaled("smoke"), 2, out)
    >>> record.sparse.epoch, record.dense.epoch
    ((1, 2), (3, 4))
    """
    factor = _checks.number("factor", factor, above=0)
    _reach(experiment, level, out, device)
    store, path = Store(out, experiment), Place(experiment, level, out, factor).path()
    made_of = store.digest(level)
    if (record := store.kept(path, REDENSE, made_of, lambda content: Redense.from_json(content["record"]))) is not None:
        return record
    task = Task(experiment, device)
    began, model, momentum = time.perf_counter(), deepcopy(task.original), store.momentum(level)
    model.load_state_dict(check_fit(store.weights_path(level), store.weights(level), model.state_dict()))
    if experiment.momentum:
        check_fit(store.momentum_path(level), momentum, dict(model.named_parameters()))
    execution = task.execution(model, Mask.dense(model, task.names))
    optimizer, rate = sgd(execution.model, experiment, momentum), factor * task.rate(task.steps - 1)
    with task.arithmetic():
        [dense] = train(execution, optimizer, start=task.steps, epochs=2 * experiment.epochs, rate=lambda step: rate)
    execution.give_back_()
    before: Record = store.levels()[level]
    record = Redense(level, before.sparsity, factor, before.curves, dense, time.perf_counter() - began)
    store.keep(path, REDENSE, model.state_dict(), {"of": made_of, "record": asdict(record)})
    return record


def redense_weights(experiment: Experiment, level: int, out: PathLike, factor: float = 1.0) -> dict[str, Tensor]:
    """Return the state dict at the end of :func:`redense`, which must have run."""
    store, path = Store(out, experiment), Place(experiment, level, out, factor).path()
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: call redense first.")
    tensors, of, _ = read_redense(path)
    if of != store.digest(level):
        raise ValueError(f"{path} was made of another net: call redense again.")
    return check_fit(path, tensors, store.weights(level))


def read_redense(path: Path) -> tuple[dict[str, Tensor], str, Redense]:
    """Return what a file of a re-dense net holds: the net, the digest of the level that it was made of, and the record."""
    tensors, content = _files.unseal(path, REDENSE)
    with _files.blame(path, f"a {REDENSE}"):
        return tensors, content["of"], Redense.from_json(content["record"])


def format_factor(factor: float) -> str:
    """Return a factor with all its digits."""
    return repr(float(factor)).removesuffix(".0")


def _reach(experiment: Experiment, level: int, out: PathLike, device: str | torch.device) -> None:
    """Have the sweep in the folder finish a level."""
    _checks.kind("experiment", experiment, Experiment, "an Experiment")
    _checks.device("device", device)
    if not 0 <= _checks.whole("level", level) < experiment.levels:
        raise ValueError(f"level must be below the {experiment.levels} levels of the experiment, got {level}.")
    records = run(experiment, out, device=device)
    last = next(record for record in records if record.level == level or record.diverged)
    if last.level < level:
        raise ValueError(
            f"seed {experiment.seed} of {experiment.name} diverged at level {last.level}, so it has no level {level}."
        )


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
    out: PathLike,
    factor: float = 1.0,
    device: str | torch.device = "cpu",
) -> Line:
    """Measure the line from a level's sparse net (α = 0) to its re-dense net (α = 1) (He et al. 2022, A.5, Figs 7, 40 to 42).

    BatchNorm statistics are estimated anew on the training images at each α. Re-dense training is run where it has not been.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     line = interpolation(Experiment().scaled("smoke"), 1, out)
    >>> line.alpha
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    points = _resolution(experiment)[0]
    alphas = [k / (points - 1) for k in range(points)]

    def measure(task: Task) -> list[Line]:
        def both(model: nn.Module) -> tuple[Evaluation, Evaluation]:
            return task.evaluate(model, task.train), task.evaluate(model, task.test)

        def recalibrate(model: nn.Module) -> None:
            with task.autocast():
                update_bn(in_order(task.train, EVALUATION_BATCH), model)  # whose statistics are means over batches

        ends = Store(out, experiment).weights(level), redense_weights(experiment, level, out, factor)
        values = landscape.interpolate(deepcopy(task.original), *ends, both, alphas, recalibrate)
        return [_make_line("interpolation", alphas, values)]

    return _measure_lines("interpolation", Place(experiment, level, out, factor), device, measure)[0]


def directions(
    experiment: Experiment,
    level: int,
    out: PathLike,
    factor: float = 1.0,
    device: str | torch.device = "cpu",
) -> list[Line]:
    """Measure loss along filter-normalised random directions through a level's re-dense net (He et al. 2022, A.6, Fig. 43).

    It is the training loss. Biases and norm layers stay, and BatchNorm's statistics too. Re-dense training is run where it
    has not been.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     lines = directions(Experiment().scaled("smoke"), 1, out)
    >>> [line.name for line in lines], lines[0].alpha
    (['direction 0', 'direction 1'], (-1.0, -0.5, 0.0, 0.5, 1.0))
    """
    _, points, count = _resolution(experiment)
    alphas = [2 * k / (points - 1) - 1 for k in range(points)]

    def measure(task: Task) -> list[Line]:
        def train(model: nn.Module) -> tuple[Evaluation, None]:
            return task.evaluate(model, task.train), None

        model = deepcopy(task.original)
        model.load_state_dict(redense_weights(experiment, level, out, factor))
        lines = []
        for k in range(count):
            direction = landscape.filter_normalized(landscape.random_direction(model, seed=k), model)
            lines.append(_make_line(f"direction {k}", alphas, landscape.line(model, model, direction, alphas, train)))
        return lines

    return _measure_lines("directions", Place(experiment, level, out, factor), device, measure)


@undisturbed()
def _measure_lines(kind: str, place: Place, device: str | torch.device, measure: Callable[[Task], list[Line]]) -> list[Line]:
    """Return the lines that the store holds, or else measure them now."""
    record, store, path = redense(*place, device), Store(place.out, place.experiment), place.path(kind)
    made_of = [store.digest(place.level), record.dense.train_loss[-1]]
    if (lines := store.kept(path, kind, made_of, _parse_lines)) is not None:
        return lines
    task = Task(place.experiment, device)
    with task.arithmetic():
        lines = measure(task)
    store.keep(path, kind, {}, {"of": made_of, "lines": [asdict(line) for line in lines]})
    return lines


def read_lines(path: Path, kind: str) -> tuple[Any, list[Line]]:
    """Return what a file of lines holds: what they were made of, and the lines."""
    _, content = _files.unseal(path, kind)
    with _files.blame(path, f"a file of {kind}"):
        return content["of"], _parse_lines(content)


def _parse_lines(content: Any) -> list[Line]:
    return [build(Line, plain) for plain in content["lines"]]


def _resolution(experiment: Experiment) -> tuple[int, int, int]:
    return RESOLUTION[_checks.kind("experiment", experiment, Experiment, "an Experiment").scale]


def _make_line(name: str, alphas: Sequence[float], values: Sequence[tuple[Evaluation, Evaluation | None]]) -> Line:
    train, test = zip(*values, strict=True)
    return Line(
        name,
        tuple(alphas),
        tuple(e.loss for e in train),
        tuple(e.accuracy for e in train),
        tuple(e and e.loss for e in test),
        tuple(e and e.accuracy for e in test),
    )
