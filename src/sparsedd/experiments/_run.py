"""run: an experiment, level by level; reinit: its tickets with new weights."""

import os
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn

from sparsedd import _checks, models
from sparsedd._ambient import undisturbed
from sparsedd._mask import Mask
from sparsedd._state import read_tensors
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._own import Own
from sparsedd.experiments._store import Store
from sparsedd.experiments._task import Task
from sparsedd.sweeps import Level, Record, Sweep
from sparsedd.sweeps._masks import Masks
from sparsedd.sweeps._ranks import Ranks


def run(experiment: Experiment, out: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Iterator[Record]:
    """Run an experiment, yielding the record of each level when it has finished and is stored.

    Levels that the folder ``out`` already holds are yielded from there. A run that was stopped at any moment goes on with the
    level it was in, and gives the same results, bit for bit, on one machine's CPU with one number of threads. Several may run
    one experiment in one folder: a level is computed once, and the others wait for it. An experiment that takes the masks of
    another one runs that one too, as far as it has not been run. A run whose training has diverged ends with that level, see
    :attr:`.Record.diverged`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     records = list(run(Experiment().scaled("smoke"), out))
    >>> [record.remaining for record in records]
    [5040, 4032, 3225]
    """
    store = Store(out, experiment)
    store._warn_of_changes()
    finished = store.levels()
    yield from finished
    if len(finished) == experiment.levels or any(record.diverged for record in finished):
        return
    sweep, done = Run(Task(experiment, device), store, out, device), len(finished)
    with closing(iter(sweep)) as levels:  # so that an error leaves no lock behind
        while (record := sweep.finish(levels)) is not None:
            yield from store.levels()[done : record.level]  # of others, who had the folder
            yield record
            done = record.level + 1
    yield from store.levels()[done:]


class Run(Sweep):
    """The sweep of an experiment: its nets, its scores, its folder."""

    @undisturbed()
    def __init__(self, task: Task, store: Store, out: str | os.PathLike[str], device: str | torch.device) -> None:
        e = task.experiment
        self.task = task
        super().__init__(
            store.path,
            deepcopy(task.original),
            e.pruner,
            levels=e.levels,
            names=task.names,
            retraining=e.retraining,
            rewind_step=e.rewind_step,
            reinit=self._draw if e.retraining.weights == "reinit" else None,
            one_shot=e.one_shot,
            seed=e.seed,
        )
        self._store = self._net._store = store
        self._net.original = read_tensors(task.original)
        self._config = {"key": e.key, **e.config()}
        self._ranks = self._net.ranks = Ranks(alone=True)
        self._masks = _Masks(self, out, device)

    @undisturbed()
    def finish(self, levels: Iterator[Level]) -> Record | None:
        """Train the next of the levels, and return its record; None if there is none."""
        with self.task.arithmetic():
            level = next(levels, None)
            return None if level is None else self.task.retrain(level, self.model)

    def _same(self) -> bool:
        return (self.path / "config.json").exists()  # what is in it, the store has compared

    def _draw(self, model: nn.Module, seed: int) -> None:
        if isinstance(self.task.experiment.model, Own):
            model.load_state_dict(self.task.model(seed).state_dict())
        else:
            models.initialize_(model, seed, self.task.experiment.initialization)


class _Masks(Masks):
    """The masks of an experiment: pruned by its scores, or those of another one, which runs as far as they are needed."""

    def __init__(self, sweep: Run, out: str | os.PathLike[str], device: str | torch.device) -> None:
        self._task, e = sweep.task, sweep.task.experiment
        tickets = None
        if e.tickets_of is not None:
            original = replace(e, retraining=e.tickets_of, tickets_of=None)
            tickets, self._source = Store(out, original), run(original, out, device=device)
        super().__init__(
            sweep._net, sweep._dense, sweep._store, e.pruner, levels=e.levels, one_shot=e.one_shot, tickets=tickets
        )

    def reach(self, number: int) -> bool:
        if self.tickets is None:
            return True
        return number < len(self.tickets.levels()) or any(record.level == number for record in self._source)

    def prune(self, number: int, mask: Mask) -> Mask:
        """Prune without a word of layers that have become empty: the report says which."""
        model, source = self._net.model, 0 if self._one_shot else number - 1
        if self._one_shot:
            return self._task.prune(model, source, lambda p: p._prune_to(model, p.sparsity(number), mask))
        return self._task.prune(model, source, lambda p: p._prune(model, mask))


def reinit(experiment: Experiment, out: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Iterator[Record]:
    """Run the tickets of an experiment with new initial weights at every level (He et al. 2022, Figs 10, 33 and 34).

    The same as :func:`run` of :meth:`.Experiment.reinitialized`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     tickets, others = (list(f(Experiment().scaled("smoke"), out)) for f in (run, reinit))
    >>> [ticket.remaining == other.remaining for ticket, other in zip(tickets, others)]
    [True, True, True]
    """
    _checks.kind("experiment", experiment, Experiment, "an Experiment")
    return run(experiment.reinitialized(), out, device=device)
