"""run_all: many experiments, in as many processes as the caller's executor has."""

import ctypes
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from multiprocessing import parent_process
from threading import Lock
from typing import Any, TypeVar

import torch

from sparsedd import _checks
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Level
from sparsedd.experiments._run import run

T = TypeVar("T")


def run_all(
    experiments: Sequence[Experiment],
    out: str | os.PathLike[str],
    executor: Executor | None = None,
    *,
    device: str | torch.device = "cpu",
) -> dict[Experiment, list[Level]]:
    """Run many experiments into one folder, which many processes and machines may share.

    Parameters
    ----------
    experiments
        One for each seed.
    out
        The folder, as for :func:`run`.
    executor
        Any :class:`concurrent.futures.Executor`: a pool of processes, Dask's ``Client.get_executor()``, MPI, Slurm. None
        runs one experiment after the other, here.

    device
        Where to train.

    Returns
    -------
    dict
        The levels of each experiment, in the order given.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     results = run_all([Experiment(seed=seed).scaled("smoke") for seed in range(2)], out)
    >>> [len(levels) for levels in results.values()]
    [3, 3]
    """
    experiments = _checks.every("experiments", experiments, Experiment, "Experiments")
    if executor is None:
        return {experiment: list(run(experiment, out, device=device)) for experiment in experiments}
    _checks.executor("executor", executor)
    futures = [executor.submit(work, [experiment], out, device=device) for experiment in experiments]
    return {experiment: levels for future in futures for experiment, levels in future.result().items()}


def work(
    experiments: Sequence[Experiment], out: str | os.PathLike[str], *, device: str | torch.device = "cpu"
) -> dict[Experiment, list[Level]]:
    """The task of a worker process: run experiments side by side, a level of each in turn.

    It works on one thread, so that the bits of a result don't depend on how many processes there are, and on Linux it ends
    with the process that started it.
    """
    return pinned(_side_by_side, _checks.every("experiments", experiments, Experiment, "Experiments"), out, device)


def pinned(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on one thread; when the last such call of this process is done, it has its threads again."""
    _Pinned.begin()
    try:
        return function(*arguments)
    finally:
        _Pinned.end()


class _Pinned:
    """How many calls are on one thread, and how many threads there were before: an executor may have threads for workers."""

    lock, calls, threads = Lock(), 0, 1

    @classmethod
    def begin(cls) -> None:
        with cls.lock:
            if not cls.calls:
                cls.threads = torch.get_num_threads()
            cls.calls += 1
            torch.set_num_threads(1)
        if parent_process() is not None:  # a process of a pool
            _keep_memory()
            _end_with_parent()

    @classmethod
    def end(cls) -> None:
        with cls.lock:
            cls.calls -= 1
            if not cls.calls:
                torch.set_num_threads(cls.threads)


def _side_by_side(
    experiments: Sequence[Experiment], out: str | os.PathLike[str], device: str | torch.device
) -> dict[Experiment, list[Level]]:
    results: dict[Experiment, list[Level]] = {experiment: [] for experiment in experiments}
    going = {experiment: run(experiment, out, device=device) for experiment in experiments}
    while going:
        for experiment in list(going):
            level = next(going[experiment], None)
            if level is None:
                del going[experiment]
            else:
                results[experiment].append(level)
    return results


def _keep_memory() -> None:
    """Have the C library keep freed memory for the next step: mapping it anew costs a third of a small net's step."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except OSError:  # not glibc
        return
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3
    for option, size in ((trim_threshold, 2**30), (top_pad, 2**26), (mmap_threshold, 2**25)):
        mallopt(option, size)


def _end_with_parent() -> None:
    """On Linux, be killed with the process that started this one, so that no orphan goes on writing."""
    try:
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (OSError, AttributeError):
        return
