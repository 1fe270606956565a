"""run_all: threads, processes, a Dask cluster; a worker that is killed, an experiment that fails, an interrupt."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from test_determinism import files

from sparsedd import noise
from sparsedd.experiments import Experiment, Record, Store, run_all

SMOKE = replace(Experiment().scaled("smoke"), dataset="blobs", width=0.04, noise=noise.Symmetric(0.4))
TINY = [replace(SMOKE, train_size=60, batch_size=25, levels=4, seed=seed) for seed in range(4)]
LONG = [replace(SMOKE, train_size=60, batch_size=60, levels=6, epochs=500, evaluate_every=500, seed=seed) for seed in range(2)]
TOO_MANY = replace(TINY[0], train_size=501)  # images than there are: its data set is made, and then it fails


def results(levels: dict[Experiment, list[Record]]) -> dict[Experiment, list[Record]]:
    return {experiment: [replace(level, seconds=0.0) for level in found] for experiment, found in levels.items()}


def pool(workers: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A Dask cluster of three worker processes, each the child of a nanny, on this machine's loopback."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def processes() -> Iterator[ProcessPoolExecutor]:
    with pool() as processes:
        yield processes


@pytest.fixture
def executor(request) -> Iterator[Executor | None]:
    """By the parameter ``kind`` of a test."""
    match request.getfixturevalue("kind"):
        case "here":
            yield None
        case "threads":
            with ThreadPoolExecutor(2) as threads:
                yield threads
        case "processes":
            yield request.getfixturevalue("processes")
        case "dask":
            yield request.getfixturevalue("client").get_executor()


def undisturbed(experiments: Sequence[Experiment], folder: Path) -> tuple[Any, Any]:
    return results(run_all(experiments, folder)), files(folder)


@contextmanager
def in_a_thread(function: Callable[..., Any], *arguments: Any) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(function, *arguments)


def until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def in_the_middle(store: Store) -> bool:
    """Does some process hold the lock, for a level after the first?"""
    if not (store.path / "levels.jsonl").exists():
        return False
    with open(store.path / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return len(store.levels()) < store.experiment.levels
    return False


def alive(pid: int) -> bool:
    """Is there such a process, and not only what its parent has not asked about yet?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---------------------------------------------------------------- the same results


@pytest.mark.parametrize("kind", ["threads", "processes", "dask"])
def test_every_executor_gives_what_a_serial_run_gives(tmp_path, executor, kind):
    wanted = [*TINY, TINY[0].reinitialized()]  # takes the masks of another task
    found = run_all(wanted, tmp_path / "there", executor)
    assert list(found) == wanted
    assert (results(found), files(tmp_path / "there")) == undisturbed(wanted, tmp_path / "here")


def test_two_callers_share_the_work(tmp_path, client, processes):
    with in_a_thread(run_all, LONG, tmp_path, processes) as theirs:
        ours = run_all(LONG, tmp_path, client.get_executor())
        assert theirs.result() == ours  # even the seconds that each level took: it was computed once
    assert [len(levels) for levels in ours.values()] == [6, 6]


def test_what_is_asked_for_twice_is_one_task(tmp_path):
    with ThreadPoolExecutor(1) as threads:
        assert list(run_all([TINY[1], TINY[0], TINY[1]], tmp_path, threads)) == [TINY[1], TINY[0]]


# ---------------------------------------------------------------- a worker is killed


def test_the_work_of_a_killed_dask_worker_is_taken_up_by_another(tmp_path, client):
    expected = undisturbed(LONG, tmp_path / "whole")
    stores = [Store(tmp_path / "out", experiment) for experiment in LONG]
    pids = client.run(os.getpid)
    with in_a_thread(run_all, LONG, tmp_path / "out", client.get_executor()) as running:
        until(lambda: all(map(in_the_middle, stores)))
        victim = next(pids[worker] for worker, tasks in client.processing().items() if tasks)
        os.kill(victim, signal.SIGKILL)
        found = running.result()
    assert victim not in client.run(os.getpid).values()
    assert (results(found), files(tmp_path / "out")) == expected


def test_a_killed_process_breaks_a_pool_and_the_same_call_goes_on(tmp_path):
    expected = undisturbed(LONG, tmp_path / "whole")
    stores = [Store(tmp_path / "out", experiment) for experiment in LONG]
    with pool() as processes, in_a_thread(run_all, LONG, tmp_path / "out", processes) as running:
        until(lambda: all(map(in_the_middle, stores)))
        os.kill(next(iter(processes._processes)), signal.SIGKILL)
        with pytest.raises(
            RuntimeError, match=r"a process of the executor has died: .* are in .*out\. With a new executor, the"
        ):
            running.result()
    kept = [store.levels() for store in stores]
    assert all(kept)
    with pool() as processes:
        found = run_all(LONG, tmp_path / "out", processes)
    assert [levels[: len(old)] for levels, old in zip(found.values(), kept, strict=True)] == kept
    assert (results(found), files(tmp_path / "out")) == expected


def test_a_broken_pool_is_no_better_at_the_next_call(tmp_path):
    with pool(1) as processes:
        with pytest.raises(RuntimeError):
            processes.submit(os._exit, 1).result()
        with pytest.raises(RuntimeError, match="has died: .* With a new executor"):
            run_all(TINY, tmp_path, processes)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- an experiment fails, or the user interrupts


@pytest.mark.parametrize("kind", ["here", "threads", "processes", "dask"])
def test_one_that_fails_loses_no_other_and_is_named(tmp_path, executor, kind):
    wanted = [TINY[0], TOO_MANY, TINY[1]]
    says = rf"1 of 3 experiments failed, .* kept in .*there\. {TOO_MANY.name} train_size=501, seed 0: ValueError: train_size"
    with pytest.raises(ValueError, match=says) as caught:
        run_all(wanted, tmp_path, executor)
    assert isinstance(caught.value.__cause__, ValueError)
    assert [len(Store(tmp_path, experiment).levels()) for experiment in wanted] == [4, 0, 4]


def test_what_is_neither_a_wrong_value_nor_a_wrong_type_is_a_wrong_state(tmp_path):
    class Odd(Executor):
        def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(OSError("no space left"))
            return future

    with pytest.raises(RuntimeError, match="2 of 2 experiments failed, .*seed 0: OSError: no space left"):
        run_all(TINY[:2], tmp_path, Odd())


def test_an_interrupt_cancels_what_has_not_begun(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    first, *others = (Store(tmp_path, experiment) for experiment in (LONG[0], *TINY))

    def interrupt() -> None:
        until(lambda: in_the_middle(first))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    try:
        with ThreadPoolExecutor(1) as threads:
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                run_all([LONG[0], *TINY], tmp_path, threads)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert len(first.levels()) == LONG[0].levels
    assert not any(store.path.exists() for store in others)


# ---------------------------------------------------------------- who ends with whom


def test_the_processes_of_a_pool_outlive_the_thread_that_started_them(tmp_path):
    with pool(1) as processes:
        for seed in range(2):
            with in_a_thread(run_all, [TINY[seed]], tmp_path, processes) as running:
                running.result()  # and the thread ends
            time.sleep(0.1)
        names = processes.submit(names_of_threads).result()
    assert names.count("sparsedd: end with the parent") == 1


def names_of_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


ENDLESS = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from sparsedd.experiments import work
from test_run_all import LONG, replace

def task(seed):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    return work([replace(LONG[0], epochs=10**7, seed=seed)], sys.argv[1])

if __name__ == "__main__":
    if sys.argv[2] == "dask":
        from distributed import Client, LocalCluster
        cluster = LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0")
        executor = Client(cluster).get_executor()
    else:
        executor = ProcessPoolExecutor(2, mp_context=get_context(sys.argv[2]))
    for future in [executor.submit(task, seed) for seed in range(2)]:
        future.result()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("way", ["spawn", "forkserver", "fork", "dask"])
def test_workers_end_with_the_process_that_started_them(tmp_path, way):
    if way == "dask":
        pytest.importorskip("distributed")
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(ENDLESS)
    out.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, script, out, way], env=environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(list(out.glob("*-*/*/lock"))) == 2)
        workers = [int(path.name) for path in out.iterdir() if path.name.isdigit()]
        assert len(workers) == 2
        assert all(map(alive, workers))
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not any(map(alive, workers)))


# ---------------------------------------------------------------- the page


PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "many-machines.md"


BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
PRINTED = r"(seed \d: 3 levels, test accuracy \d+\.\d%\n){4}"


def run_block(number, folder, warnings="error"):
    """What a script of the page prints, which computes all, in a folder of its own."""
    (name,) = re.findall(r"\A# (\w+\.py)$", BLOCKS[number], flags=re.M)
    (folder / name).write_text(BLOCKS[number])
    (own := folder / name.removesuffix(".py")).mkdir()
    environment = {"PATH": "", "HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-W", warnings, folder / name]
    done = subprocess.run(command, cwd=own, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_runs_and_both_ways_give_the_same(tmp_path):
    printed = run_block(0, tmp_path)
    assert re.fullmatch(PRINTED, printed)
    assert run_block(1, tmp_path) == printed
    for block in BLOCKS[3:]:  # these want a cluster: the call, at least, is right
        assert re.search(r"run_all\(wanted, \"/shared/runs\", (executor|client\.get_executor\(\))\)", block)


@pytest.mark.skipif(not find_spec("ray"), reason="Ray, which no extra of ours brings, is not installed")
def test_ray_gives_the_same(tmp_path):
    assert run_block(0, tmp_path) == run_block(2, tmp_path, warnings="ignore")
