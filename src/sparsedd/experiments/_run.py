"""run: an experiment, level by level; reinit: its tickets with new weights."""

import os
from collections.abc import Iterator
from dataclasses import replace

import torch

from sparsedd import _checks
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Level
from sparsedd.experiments._problem import Problem
from sparsedd.experiments._store import Store


def run(experiment: Experiment, out: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Iterator[Level]:
    """Run an experiment, yielding each level when it has finished and is stored.

    Levels that the folder ``out`` already holds are yielded from there. A run that was stopped at any moment goes on with the
    level it was in, and gives the same results, bit for bit, on one machine's CPU with one number of threads. Several may run
    one experiment in one folder: a level is computed once, and the others wait for it. An experiment that takes the masks of
    another one runs that one too, as far as it has not been run. A run whose training has diverged ends with that level, see
    :attr:`.Level.diverged`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     levels = list(run(Experiment().scaled("smoke"), out))
    >>> [level.remaining for level in levels]
    [5040, 4032, 3225]
    """
    store = Store(out, experiment)
    finished = store.levels()
    yield from finished
    if len(finished) == experiment.levels or any(level.diverged for level in finished):
        return
    problem = Problem(experiment, device)
    tickets = source = None
    if experiment.tickets_of is not None:
        original = replace(experiment, retraining=experiment.tickets_of, tickets_of=None)
        tickets, source = Store(out, original), run(original, out, device=device)
    for number in range(len(finished), experiment.levels):
        if source is not None and not any(level.level == number for level in source):
            return  # the tickets have diverged
        with store.locked():
            finished = store.levels()  # somebody else may have had the lock
            level = finished[number] if number < len(finished) else problem.level(number, store, tickets)
        yield level
        if level.diverged:
            return


def reinit(experiment: Experiment, out: str | os.PathLike[str], *, device: str | torch.device = "cpu") -> Iterator[Level]:
    """The tickets of an experiment with new initial weights at every level (He et al. 2022, Figs 10, 33 and 34).

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
