"""Re-dense training: after sparse training, all weights are trained on."""

import os
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from sparsedd import _checks, _files
from sparsedd._mask import Mask
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Curves, Level
from sparsedd.experiments._problem import Problem
from sparsedd.experiments._run import run
from sparsedd.experiments._store import Store
from sparsedd.experiments._train import sgd, train


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

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Self:
        """The record of its ``asdict``."""
        curves = {part: Curves(**{name: tuple(v) for name, v in plain[part].items()}) for part in ("sparse", "dense")}
        return cls(**{**plain, **curves})


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
    if (content := store.kept(path, "re-dense net", made_of)) is not None:
        return Redense.from_json(content["record"])
    problem = Problem(experiment, device)
    began = time.perf_counter()
    model = deepcopy(problem.original)
    model.load_state_dict(store.weights(level))
    last = problem.rate(problem.steps - 1)
    execution = problem.execution(model, Mask.dense(model, problem.names))
    optimizer = sgd(execution.model, experiment, store.momentum(level))
    steps, epochs = problem.steps, 2 * experiment.epochs
    dense = train(execution, optimizer, experiment, start=steps, epochs=epochs, rate=lambda step: factor * last)
    execution.give_back_(model)
    before: Level = store.levels()[level]
    record = Redense(level, before.sparsity, factor, before.epochs, dense, time.perf_counter() - began)
    store.keep(path, "re-dense net", model.state_dict(), {"of": made_of, "record": asdict(record)})
    return record


def redense_weights(experiment: Experiment, level: int, out: str | os.PathLike[str], factor: float = 1.0) -> dict[str, Tensor]:
    """The state dict at the end of :func:`redense`, which must have run."""
    store = Store(out, experiment)
    path = _path(store, level, factor)
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: call redense first.")
    tensors, content = _files.unseal(path, "re-dense net")
    if content["of"] != store.digest(level):
        raise ValueError(f"{path} was made of another net: call redense again.")
    return tensors


def reach(experiment: Experiment, level: int, out: str | os.PathLike[str], device: str | torch.device) -> None:
    """Have the sweep in the folder finish a level."""
    if not 0 <= _checks.whole("level", level) < experiment.levels:
        raise ValueError(f"level must be below the {experiment.levels} levels of the experiment, got {level}.")
    last = next(reached for reached in run(experiment, out, device=device) if reached.level == level or reached.diverged)
    if last.level < level:
        raise ValueError(
            f"seed {experiment.seed} of {experiment.name} diverged at level {last.level}, so it has no level {level}."
        )


def _path(store: Store, level: int, factor: float) -> Any:
    return store.path / f"{level:02d}.redense-{shown(factor)}.safetensors"


def shown(factor: float) -> str:
    """A factor with all its digits."""
    return repr(float(factor)).removesuffix(".0")
