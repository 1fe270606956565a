"""Worker processes of one machine, watched while they work."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from types import FrameType
from typing import TypeVar

from sparsedd import _files

T = TypeVar("T")
PATIENCE = 10.0  # seconds, for a worker that is told to end: it does so before its next line of Python


@contextmanager
def workers(count: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, by default one for each core; what goes wrong, or an interrupt, ends them.

    A run that is ended so goes on where it was.
    """
    with ProcessPoolExecutor(count or cores(), mp_context=get_context("spawn"), initializer=_begin) as pool:
        try:
            yield pool
        except BaseException:
            _end(pool)
            raise


def submitted(pool: ProcessPoolExecutor, tasks: Sequence[Callable[[], T]]) -> list[Future[T]]:
    """The tasks, given to the pool, whose processes begin here."""
    with _unheard(signal.SIGINT):
        return [pool.submit(task) for task in tasks]


def watched(pool: ProcessPoolExecutor, tasks: Sequence[Callable[[], object]], every: float = 0.5) -> Iterator[int]:
    """Have the pool do the tasks, and yield now and then how many are done, the last time when all are."""
    pending = set(submitted(pool, tasks))
    while pending:
        finished, pending = wait(pending, timeout=every)
        for future in finished:
            future.result()
        yield len(tasks) - len(pending)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _unheard(number: signal.Signals) -> Iterator[None]:
    """A signal waits until the block ends; processes that begin in it never hear it.

    Ctrl-C goes to all processes of a terminal. It is for the one that has begun the others, and ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """What a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    """End this process at once, with nothing half written left behind."""
    _files.abandon()
    os._exit(128 + number)


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list(pool._processes.values())
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(PATIENCE)
    finally:
        for process in processes:
            process.kill()
