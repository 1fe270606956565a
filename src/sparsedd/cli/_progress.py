"""Progress: a bar that shows how far a command is, where somebody is looking."""

import sys
from importlib.util import find_spec
from typing import Any, Self

BAR = "{desc}: {percentage:3.0f} %|{bar}| {n_fmt} of {total_fmt} {unit}, {elapsed} so far, {remaining} left"


class Progress:
    """A ``with`` block with a bar, on a terminal or in a notebook; elsewhere, and without tqdm, there is none.

    Parameters
    ----------
    label, unit
        What is being done, and in what it is counted.
    total, done
        How many there are, and how many of them are there already: the time left is told by the others.
    """

    def __init__(self, label: str, unit: str, total: int, done: int) -> None:
        kind, looked_at = _choose_bar()
        self._bar = None
        if kind is not None and looked_at:
            self._bar = kind(
                desc=label, unit=unit, total=total, initial=min(done, total), bar_format=BAR, leave=False, dynamic_ncols=True
            )

    @property
    def visible(self) -> bool:
        """True where there is a bar."""
        return self._bar is not None

    def update(self, done: int) -> None:
        """Set how many are there now; the clock goes on even if none has come."""
        if self._bar is not None:
            self._bar.n = min(done, self._bar.total)
            self._bar.refresh()

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar is None:
            print(line, flush=True)
        else:
            self._bar.write(line)
            sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _choose_bar() -> tuple[Any, bool]:
    """Return the bar for where this runs, if there is one, and whether somebody is looking."""
    try:
        from tqdm.asyncio import tqdm_asyncio

        bar = tqdm_asyncio
        if find_spec("ipywidgets"):  # in a notebook without them there is no other, and a warning that says so
            from tqdm import auto

            bar = auto.tqdm
    except ImportError:
        return None, False
    in_notebook = bar is not tqdm_asyncio
    return bar, in_notebook or sys.stderr.isatty()
