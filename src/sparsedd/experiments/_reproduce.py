"""reproduce: compute a figure and leave it in a folder."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import torch

from sparsedd import _checks, _files
from sparsedd.experiments._claim import Claim
from sparsedd.experiments._figure import Figure
from sparsedd.experiments._measures import Measures
from sparsedd.experiments._tables import Tables

PathLike = str | os.PathLike[str]


def reproduce(
    figure: Figure,
    out: PathLike,
    *,
    seeds: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    fleet: bool = False,
    executor: Executor | None = None,
    runs: PathLike | None = None,
) -> list[Claim]:
    """Compute a figure, as far as it has not been computed; leave its tables, its picture and its claims in a folder.

    The picture is ``figure.png`` and ``figure.svg``, the claims are ``claims.md``.

    Parameters
    ----------
    figure
        Such as ``FIGURES["13"].scaled("small")``.
    out
        The folder.
    seeds, seed
        As for :meth:`Figure.members`.
    device, fleet
        Where to train, and whether sweeps of one shape are trained as one, as for :meth:`.Figure.stages`.
    executor
        As for :func:`.run_all`.
    runs
        The folder of the stores, ``out / "runs"`` by default. Figures that share it share what they have in common.

    Returns
    -------
    list
        The paper's claims with the figure, judged.

    Examples
    --------
    >>> import tempfile, matplotlib; matplotlib.use("agg")
    >>> from sparsedd.experiments import FIGURES
    >>> with tempfile.TemporaryDirectory() as out:
    ...     claims = reproduce(FIGURES["1"].scaled("smoke"), out, seeds=1)
    ...     sorted(path.name for path in Path(out).glob("*.*"))
    ['claims.md', 'figure.png', 'figure.svg', 'levels.csv']
    >>> [claim.verdict for claim in claims]
    ['cannot be told', 'cannot be told', 'cannot be told']
    """
    _checks.kind("figure", figure, Figure, "a Figure such as FIGURES['13']")
    _checks.device("device", device)
    if executor is not None:
        _checks.executor("executor", executor)
    runs = _checks.path("out", out) / "runs" if runs is None else runs
    for tasks in figure.stages(runs, seeds, seed=seed, device=device, fleet=fleet):
        if executor is None:
            for task in tasks:
                task()
        else:
            for future in [executor.submit(task) for task in tasks]:
                future.result()
    return finish(figure, out, figure.tables(runs, seeds, seed=seed))


def finish(figure: Figure, out: PathLike, tables: Tables, *, write: bool = True) -> list[Claim]:
    """Judge the claims, draw the picture, and then leave both in the folder, with the tables if they are to be written."""
    from matplotlib import pyplot, rc_context

    claims, picture = figure.read(tables), figure.draw(tables)
    try:
        if write:
            tables.write(out)
        save(picture, Path(out) / "figure.png", dpi=120)
        with rc_context({"svg.hashsalt": "sparsedd", "svg.fonttype": "none"}):  # the same bytes each time, and text as text
            save(picture, Path(out) / "figure.svg", metadata={"Date": None})
        _files.write(Path(out) / "claims.md", (told(figure, claims, tables) + "\n").encode())
    finally:
        pyplot.close(picture)
    return claims


def save(picture: Any, path: Path, **options: Any) -> None:
    """Save a picture of matplotlib's; the file is whole or absent."""
    data = io.BytesIO()
    picture.savefig(data, format=path.suffix[1:], **options)
    _files.write(path, data.getvalue())


def told(figure: Figure, claims: Sequence[Claim], tables: Tables) -> str:
    """What the figure shows, a sentence for each claim, and which seeds have diverged, in Markdown."""
    sweeps = map(Measures(tables, figure.experiments).sweep, figure.experiments)
    notes = [f"{sweep.name}: {sweep.note}, left out of the means." for sweep in sweeps if sweep.diverged]
    caption = f"{figure.label}, {figure.scale} scale. {figure.caption}."
    if figure.scale == "smoke":
        caption += " This is of stand-in data: it shows that all runs, and nothing of the paper."
    return "\n".join([caption, *([""] if claims or notes else []), *(f"- {said}" for said in (*claims, *notes))])
