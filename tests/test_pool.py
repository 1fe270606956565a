"""Worker processes that are ended in the middle of their work."""

import os
import subprocess
import sys
import time
from functools import partial

import pytest

from sparsedd import _files
from sparsedd.sweeps._workers import submit_all, watch, workers


def stuck(path):
    """A write that does not come to its end: run in a worker."""
    os.fsync = lambda file: time.sleep(600)
    _files.write(path, b"data")


def test_a_worker_that_is_ended_in_a_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), workers(1) as pool:
        submit_all(pool, [partial(stuck, tmp_path / "file")])
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        assert _files.TEMPORARY in next(tmp_path.iterdir()).name
        (process,) = pool._processes.values()
        raise KeyboardInterrupt
    assert not process.is_alive()
    assert list(tmp_path.iterdir()) == []


def test_what_a_task_raises_ends_the_others(tmp_path):
    with pytest.raises(ZeroDivisionError), workers(2) as pool:
        tasks = [partial(stuck, tmp_path / "file"), partial(divmod, 1, 0)]
        for _ in watch(pool, tasks, every=0.05):
            processes = list(pool._processes.values())
    assert not any(process.is_alive() for process in processes)
    assert list(tmp_path.iterdir()) == []


def test_a_script_without_a_main_guard_is_told(tmp_path):
    (tmp_path / "script.py").write_text(
        "from sparsedd.sweeps import workers\nwith workers(1) as pool:\n    pool.submit(abs, 1).result()"
    )
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=300)
    assert "does the script start without `if __name__ == '__main__':`" in done.stderr


def test_what_a_process_has_written_is_not_abandoned(tmp_path):
    _files.write(tmp_path / "file", b"data")
    _files.abandon()
    assert (tmp_path / "file").read_bytes() == b"data"
