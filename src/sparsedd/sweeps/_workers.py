"""Worker processes of one machine: each on one thread, watched while they work, ended with the one that started them."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from threading import Lock, Thread
from types import FrameType
from typing import Any, TypeVar

import torch

from sparsedd import _checks, _files

T = TypeVar("T")
WHY_DEAD = "was it killed, out of memory, or does the script start without `if __name__ == '__main__':`, which it must have?"
PATIENCE = 10.0  # seconds, for a worker that is told to end: it does so before its next line of Python


@contextmanager
def workers(count: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes, by default one for each core, each on one thread; what goes wrong, or an interrupt, ends them.

    A sweep that is ended so goes on where it was. The bits of a result don't depend on how many processes there are.

    >>> with workers(2) as pool:
    ...     list(pool.map(abs, [-1, -2]))
    [1, 2]
    """
    number = count_cores() if count is None else _checks.whole("count", count, least=1)
    with ProcessPoolExecutor(
        number,
        mp_context=get_context("spawn"),
        initializer=_begin,
    ) as pool:
        try:
            yield pool
        except BaseException as error:
            _end(pool)
            if isinstance(error, BrokenExecutor):
                raise type(error)(f"a process of the pool has died: {WHY_DEAD} What is stored stays: run it again.") from error
            raise


def submit_all(pool: ProcessPoolExecutor, tasks: Sequence[Callable[[], T]]) -> list[Future[T]]:
    """Give the tasks to the pool, whose processes begin here."""
    with _hold_back(signal.SIGINT):
        return [pool.submit(task) for task in tasks]


def watch(pool: ProcessPoolExecutor, tasks: Sequence[Callable[[], object]], every: float = 0.5) -> Iterator[int]:
    """Have the pool do the tasks, and yield now and then how many are done, the last time when all are."""
    pending = set(submit_all(pool, tasks))
    while pending:
        finished, pending = wait(pending, timeout=every)
        for future in finished:
            future.result()
        yield len(tasks) - len(pending)


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _hold_back(number: signal.Signals) -> Iterator[None]:
    """Hold a signal back until the block ends; processes that begin in it never hear it.

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
    """Do what a worker does first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    _Pinned.begin()  # for good


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


def spread(tasks: Iterable[partial[T]]) -> list[partial[T]]:
    """Have tasks whose ``device`` is ``"cuda"`` and no number take the GPUs in turns, those of the machine that does them."""
    return [partial(_take_turn, k, task) for k, task in enumerate(tasks)]


def _take_turn(turn: int, task: partial[T]) -> T:
    device = _checks.device("device", task.keywords["device"])
    if device.index is None and device.type != "cpu":
        device = torch.device(device.type, turn % torch.get_device_module(device).device_count())
    return task(device=device)


def pinned(function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Call a function on one thread; when the last such call of this process is done, it has its threads again."""
    _Pinned.begin()
    try:
        return function(*arguments, **named)
    finally:
        _Pinned.end()


class _Pinned:
    """The count of calls on one thread, and of the threads before them: an executor may have threads for workers."""

    lock, calls, threads = Lock(), 0, 1

    @classmethod
    def begin(cls) -> None:
        with cls.lock:
            if not cls.calls:
                cls.threads = torch.get_num_threads()
            cls.calls += 1
            torch.set_num_threads(1)
            if (parent := parent_process()) is not None:
                _watch_parent(parent)

    @classmethod
    def end(cls) -> None:
        with cls.lock:
            cls.calls -= 1
            if not cls.calls:
                torch.set_num_threads(cls.threads)


@cache
def _watch_parent(parent: BaseProcess) -> None:
    """Have a process of a pool end with the one that started it, from the first call on."""
    Thread(target=_end_with, args=(parent,), name="sparsedd: end with the parent", daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """End when the process that started this one has ended, so that no orphan goes on writing.

    PR_SET_PDEATHSIG would not do: it looks at the *thread* that started this process, which may end long before.
    """
    parent.join()
    os._exit(1)
