import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # and of the processes that tests start: two threads on a busy machine wait for each other
settings.register_profile("local", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, database=None)
settings.register_profile("long", deadline=None, max_examples=5000)  # make test-long
settings.load_profile("ci" if os.environ.get("CI") else "local")

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="session")
def site() -> Path:
    """The docs, built without a warning in docs/_build: one process at a time, so that the others find nothing to do."""
    with open(DOCS.parent / "Makefile") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, DOCS / "_build"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return DOCS / "_build"
