"""Re-dense training: after sparse training, all weights are trained on."""

import os
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd.experiments._ambient import undisturbed
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._problem import Problem
from sparsedd.experiments._run import run
from sparsedd.experiments._store import Store
from sparsedd.experiments._train import sgd, train
from sparsedd.sweeps._json import build
from sparsedd.sweeps._record import Curves, Record
from sparsedd.sweeps._store import check_fit


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
        """The record of its ``asdict``; ValueError where a field is missing or is not what it must be."""
        record: Self = build(cls, plain, "the record of re-dense training")
        return record


@undisturbed()
def redense(
    experiment: Experiment,
    level: int,
    out: str | os.PathLike[str],
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
    reach(experiment, level, out, device)
    store = Store(out, experiment)
    path, made_of = _path(store, level, factor), store.digest(level)
    if (record := store.kept(path, "re-dense net", made_of, lambda content: Redense.from_json(content["record"]))) is not None:
        return record
    problem = Problem(experiment, device)
    began = time.perf_counter()
    model = deepcopy(problem.original)
    model.load_state_dict(check_fit(store.weights_path(level), store.weights(level), model.state_dict()))
    last = problem.rate(problem.steps - 1)
    execution = problem.execution(model, Mask.dense(model, problem.names))
    momentum = store.momentum(level)
    if experiment.momentum:
        check_fit(store.momentum_path(level), momentum, dict(model.named_parameters()))
    optimizer = sgd(execution.model, experiment, momentum)
    steps, epochs = problem.steps, 2 * experiment.epochs
    dense = train(execution, optimizer, experiment, start=steps, epochs=epochs, rate=lambda step: factor * last)
    execution.give_back_(model)
    before: Record = store.levels()[level]
    record = Redense(level, before.sparsity, factor, before.curves, dense, time.perf_counter() - began)
    store.keep(path, "re-dense net", model.state_dict(), {"of": made_of, "record": asdict(record)})
    return record


def redense_weights(experiment: Experiment, level: int, out: str | os.PathLike[str], factor: float = 1.0) -> dict[str, Tensor]:
    """The state dict at the end of :func:`redense`, which must have run."""
    store = Store(out, experiment)
    path = _path(store, level, factor)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: call redense first.")
    tensors, of, _ = opened(path)
    if of != store.digest(level):
        raise ValueError(f"{path} was made of another net: call redense again.")
    return check_fit(path, tensors, store.weights(level))


def opened(path: Path) -> tuple[dict[str, Tensor], str, Redense]:
    """What a file of a re-dense net holds: the net, the digest of the level that it was made of, and the record."""
    tensors, content = _files.unseal(path, "re-dense net")
    with _files.named(path, "a re-dense net"):
        return tensors, content["of"], Redense.from_json(content["record"])


def reach(experiment: Experiment, level: int, out: str | os.PathLike[str], device: str | torch.device) -> None:
    """Have the sweep in the folder finish a level."""
    _checks.kind("experiment", experiment, Experiment, "an Experiment")
    _checks.device("device", device)
    if not 0 <= _checks.whole("level", level) < experiment.levels:
        raise ValueError(f"level must be below the {experiment.levels} levels of the experiment, got {level}.")
    last = next(reached for reached in run(experiment, out, device=device) if reached.level == level or reached.diverged)
    if last.level < level:
        raise ValueError(
            f"seed {experiment.seed} of {experiment.name} diverged at level {last.level}, so it has no level {level}."
        )


def _path(store: Store, level: int, factor: float) -> Path:
    return store.path / f"{_checks.whole('level', level):02d}.redense-{shown(factor)}.safetensors"


def shown(factor: float) -> str:
    """A factor with all its digits."""
    return repr(float(factor)).removesuffix(".0")
