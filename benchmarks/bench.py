"""Side by side: the candidates of a benchmark, taken in turns, one thread each, and their table.

A shared machine is never quiet. So the candidates run in turns, the time is the processor's, and a ratio is the median over
the rounds of the ratio within a round.
"""

import datetime
import multiprocessing
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from helpers import risen

RESULTS = Path(__file__).parent / "results"


def in_turns(candidates: Mapping[str, Callable[[], object]], *, rounds: int, times: int = 1) -> dict[str, list[float]]:
    """CPU seconds of each candidate in each round; a round calls each ``times`` times; the first does not count."""
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, candidate in candidates.items():
            began = time.process_time()
            for _ in range(times):
                candidate()
            if turn:
                seconds[name].append((time.process_time() - began) / times)
    return seconds


def ratios(seconds: Mapping[str, list[float]], to: str) -> dict[str, float]:
    """The median over the rounds of each candidate's time over that of the candidate ``to``."""
    return {name: statistics.median(a / b for a, b in zip(t, seconds[to], strict=True)) for name, t in seconds.items()}


def extra_memory(function: Callable[..., object], *arguments: Any) -> int:
    """Bytes by which the memory of a fresh process rises at its peak (Linux), while it calls what the function returns."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (function, arguments))


def _measure(function: Callable[..., Any], arguments: Sequence[Any]) -> int:
    torch.set_num_threads(1)
    return risen(function(*arguments), times=1)  # what is made here is there before


def report(name: str, command: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table, and write it to ``results/NAME.md`` with the command, the machine, the versions and the date."""
    columns = list(rows[0])
    cells = [[_shown(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [columns, *cells]) for i in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *cells]
    table = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    print(*table, sep="\n")
    RESULTS.mkdir(exist_ok=True)
    where = f"`{command}` on {machine()}, {datetime.date.today().isoformat()}."
    (RESULTS / f"{name}.md").write_text("\n".join([*table, "", where]) + "\n")


def machine() -> str:
    """The processor and the versions, in a line."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    versions = [f"{package} {_version(package)}" for package in ("torch", "numpy", "sparsedd")]
    gpu = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    processor = found[1] if found else platform.machine()
    return ", ".join([processor, *gpu, f"Python {sys.version.split()[0]}", *versions])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
