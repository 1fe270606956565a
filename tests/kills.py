"""What test_kills starts: ``kills.py OUT PLAN`` runs each recipe of the plan whole, and elsewhere killed again and again.

The plan is JSON: for each recipe its script, the number of its ranks and a list of moments, ``[rank, act, count]``. A run is
killed before the count-th act of the rank; a last one is not. Runs are forked, so that what is slow to import is imported once.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch
import torch._dynamo  # which the first step of an optimizer imports
from torch.distributed import fsdp  # noqa: F401
from torch.utils.tensorboard import SummaryWriter

import sparsedd.cli
import sparsedd.report  # noqa: F401

ACTS: dict[str, tuple[Any, str]] = {
    "replace": (os, "replace"),  # a file takes its place
    "SGD": (torch.optim.SGD, "step"),
    "AdamW": (torch.optim.AdamW, "step"),
    "Adam": (torch.optim.Adam, "step"),
    "log": (SummaryWriter, "add_scalar"),
}

KILLED = 9


def kill_at(act: str, moment: int) -> None:
    """Have this process die just before it does something for the n-th time."""
    owner, name = ACTS[act]
    function, seen = getattr(owner, name), iter(range(1, 10**6))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(seen) == moment:
            os._exit(KILLED)  # as SIGKILL ends it: nothing is flushed or put in order
        return function(*arguments, **named)

    setattr(owner, name, call)


def fork(act: Callable[[], None]) -> int:
    """Do something in a process of its own, and return its id."""
    if not (child := os.fork()):
        status = 1
        try:
            act()
            status = 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return child


def run(script: Path, ranks: int, moment: tuple[int, str, int] | None = None) -> bool:
    """Run a script on so many ranks; return whether it was killed. When one has died, so do the others, as under torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = compile(script.read_text(), script.name, "exec")

    def play(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if moment is not None and moment[0] == rank:
            kill_at(*moment[1:])
        exec(code, {"__name__": "__main__"})

    going, ended = {fork(lambda rank=rank: play(rank)) for rank in range(ranks)}, []  # type: ignore[misc]
    while going:
        child, status = os.wait()
        going.remove(child)
        ended.append(status)
        if status:
            for other in going:
                os.kill(other, signal.SIGKILL)
    killed = KILLED in map(os.waitstatus_to_exitcode, ended)
    assert killed or not any(ended), f"{script.name} has failed"
    return killed


def main() -> None:
    out, plan = Path(sys.argv[1]).resolve(), json.loads(sys.argv[2])
    for name, (script, ranks, moments) in plan.items():
        for kind in ("whole", "killed"):
            os.chdir(out / name / kind)
            for moment in moments if kind == "killed" else []:
                assert run(Path(script), ranks, moment), f"{name} has ended before {moment}"
            assert not run(Path(script), ranks), name


if __name__ == "__main__":
    main()
