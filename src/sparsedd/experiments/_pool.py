"""Worker processes of one machine, watched while they work."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context


@contextmanager
def workers(count: int | None = None) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes, by default one for each core; what goes wrong, or an interrupt, kills them.

    A run that is killed goes on where it was.
    """
    with ProcessPoolExecutor(count or cores(), mp_context=get_context("spawn")) as pool:
        try:
            yield pool
        except BaseException:
            for worker in list(pool._processes.values()):
                worker.kill()
            raise


def watched(pool: ProcessPoolExecutor, tasks: Sequence[Callable[[], object]], every: float = 0.5) -> Iterator[int]:
    """Have the pool do the tasks, and yield now and then how many are done, the last time when all are."""
    pending: set[Future[object]] = {pool.submit(task) for task in tasks}
    while pending:
        finished, pending = wait(pending, timeout=every)
        for future in finished:
            future.result()
        yield len(tasks) - len(pending)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
