"""Report: the table, the pictures, the sentences and the page of the sweeps in a folder."""

from collections.abc import Sequence
from pathlib import Path

from sparsedd import _files
from sparsedd.experiments._document import document
from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._families import Family, begun_in, families_of, own_families, table_families
from sparsedd.experiments._figure import save_picture
from sparsedd.experiments._measures import Levels as Sweep
from sparsedd.experiments._sentences import UNKNOWN, advice, summary
from sparsedd.experiments._tables import Tables, write_table
from sparsedd.sweeps._record import Record

Results = dict[Experiment, list[Record]]


def found_in(out: Path) -> Results:
    """Return all runs of experiments in the folder that have a finished level."""
    return {experiment: levels for experiment, levels in begun_in(out).items() if levels}


def sweep_of(results: Results) -> Sweep:
    """Return the sweep of one family."""
    tables = Tables()
    for experiment, levels in results.items():
        tables.add_levels(experiment, levels)
    return Sweep.of(tables.levels, next(iter(results)).name)


def write(out: Path, results: Results, family: str | None = None) -> None:
    """Write the report of experiments; the pictures and the sentences of one family of seeds, or of each."""
    _write(out, families_of(out, results), family)


def report(out: Path) -> None:
    """Write the report of all sweeps in a folder: experiments, one's own, or those of a ``levels.csv`` that stands alone."""
    families = [*families_of(out, found_in(out)), *own_families(out)]
    if families or (families := table_families(out)):
        _write(out, families)
        return
    raise ValueError(
        f"{out} holds no runs with a finished level: pass the --out of an earlier command, the folder of a Sweep, one with a "
        "levels.csv, or where figures keep their runs, such as figures/runs."
    )


def _write(out: Path, families: Sequence[Family], family: str | None = None) -> None:
    """Write ``levels.csv`` and ``report.html`` of everything; a picture and sentences of one family, or of each."""
    said: list[object] = []  # printed when all is written: who reads it may have seen enough at any line
    written = [out / "report.html"]
    if not any(f.members for f in families):  # the table is somebody's, and so may be a figure beside it
        draws = not (out / "claims.md").exists()
    else:
        draws, written = True, [out / "levels.csv", *written]
        write_table(out / "levels.csv", [row for f in families for row in f.rows])
    shown = [f for f in families if family in (None, f.name)]
    for f in shown:
        if isinstance(f.sweep, ValueError):
            said.append(f.sweep)
            continue
        if not f.sweep.has_phases:
            said.append(f"{f.label}: {UNKNOWN}")
            continue
        said += [summary(f.sweep), advice(f.sweep)]
        if draws:
            picture = out / ("figure.png" if len(shown) == 1 else f"figure-{f.name.replace('/', '-')}.png")
            _draw(f.sweep, picture)
            said.append(picture)
    _files.write(out / "report.html", document(families, out).encode(errors="backslashreplace"))
    print(*said, *written, sep="\n")


def _draw(sweep: Sweep, path: Path) -> None:
    from matplotlib import pyplot

    from sparsedd import plotting

    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    ax = plotting.double_descent(sweep.sparsity, *accuracies, phases=sweep.phases)
    ax.set_title(sweep.name, pad=18, fontsize=10)
    try:
        save_picture(ax.get_figure(), path, dpi=150)
    finally:
        pyplot.close(ax.get_figure())  # type: ignore[arg-type]
