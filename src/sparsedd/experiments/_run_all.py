"""run_all: many experiments, in as many processes as the caller's executor has."""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from functools import partial
from typing import TypeVar

import torch

from sparsedd import _checks
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._labels import make_labels
from sparsedd.experiments._run import run
from sparsedd.sweeps._record import Record
from sparsedd.sweeps._workers import WHY_DEAD, pinned, spread

T = TypeVar("T")


def run_all(
    experiments: Iterable[Experiment],
    out: str | os.PathLike[str],
    executor: Executor | None = None,
    *,
    device: str | torch.device = "cpu",
) -> dict[Experiment, list[Record]]:
    """Run many experiments into one folder, which many processes and machines may share.

    Each experiment is a task. What the folder holds is not computed again, and a level that another process is at is waited
    for. So a call may be repeated, or made twice side by side, and the task of a killed worker may be given to another.

    Parameters
    ----------
    experiments
        One for each seed.
    out
        The folder, as for :func:`run`.
    executor
        Any :class:`concurrent.futures.Executor`: a pool of processes, Dask's ``Client.get_executor()``, Ray, MPI, Slurm. None
        runs one experiment after the other, here.
    device
        Where to train. With an executor, ``"cuda"`` means all GPUs of a machine: the tasks take them in turns.

    Returns
    -------
    dict
        The levels of each experiment, in the order given.

    Raises
    ------
    ValueError, TypeError, RuntimeError
        When an experiment has failed, and the others have finished. The message names it, and its error is the cause.
    RuntimeError
        When the executor has lost a process and can't go on. The same call, with a new executor, can.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     results = run_all([Experiment(seed=seed).scaled("smoke") for seed in range(2)], out)
    >>> [len(levels) for levels in results.values()]
    [3, 3]
    """
    wanted = list(dict.fromkeys(_checks.every("experiments", experiments, Experiment, "Experiments")))
    _checks.folder("out", out)
    if executor is None:
        _checks.device("device", device)
    else:
        _checks.executor("executor", executor)
    futures: dict[Experiment, Future[dict[Experiment, list[Record]]]] = {}
    results: dict[Experiment, list[Record]] = {}
    failed: dict[Experiment, Exception] = {}
    try:
        if executor is not None:
            tasks = spread([partial(work, [e], out, device=device) for e in wanted])
            futures |= {e: executor.submit(task) for e, task in zip(wanted, tasks, strict=True)}
        for e in wanted:
            try:
                results[e] = futures[e].result()[e] if futures else list(run(e, out, device=device))
            except BrokenExecutor:
                raise
            except Exception as error:
                failed[e] = error
    except BaseException as error:  # an interrupt, for one
        for future in futures.values():
            future.cancel()  # those that have not begun
        if isinstance(error, BrokenExecutor):
            raise RuntimeError(
                f"a process of the executor has died: {WHY_DEAD} All finished levels are in {out}. With a new executor, the "
                "same call goes on from there."
            ) from error
        raise
    if failed:
        raise _failure(failed, wanted, out) from next(iter(failed.values()))
    return results


def _failure(failed: Mapping[Experiment, Exception], wanted: Sequence[Experiment], out: object) -> Exception:
    """Return the error to raise when experiments have failed, of the kind of the first: wrong value, type or state."""
    experiment, error = next(iter(failed.items()))
    called = f"{make_labels(wanted)[experiment]}, seed {experiment.seed}"
    kind = next((kind for kind in (ValueError, TypeError) if isinstance(error, kind)), RuntimeError)
    return kind(
        f"{len(failed)} of {len(wanted)} experiments failed, all others have finished. What was computed is kept in {out}: "
        f"the same call goes on from there. {called}: {type(error).__name__}: {error}"
    )


def work(
    experiments: Sequence[Experiment], out: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> dict[Experiment, list[Record]]:
    """Run experiments side by side in a worker process, a level of each in turn.

    It works on one thread, so that the bits of a result don't depend on how many processes there are. A process that
    :mod:`multiprocessing` has started ends with the one that started it.
    """
    return pinned(_side_by_side, _checks.every("experiments", experiments, Experiment, "Experiments"), out, device)


def _side_by_side(
    experiments: Sequence[Experiment], out: str | os.PathLike[str], device: str | torch.device
) -> dict[Experiment, list[Record]]:
    results: dict[Experiment, list[Record]] = {experiment: [] for experiment in experiments}
    going = {experiment: run(experiment, out, device=device) for experiment in experiments}
    while going:
        for experiment in list(going):
            level = next(going[experiment], None)
            if level is None:
                del going[experiment]
            else:
                results[experiment].append(level)
    return results
