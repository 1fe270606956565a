"""Report: the table, the pictures, the sentences and the page of the sweeps in a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sparsedd import _files, plotting
from sparsedd.experiments import Experiment, Tables
from sparsedd.experiments._experiment import family_of
from sparsedd.experiments._figures._figure import save_picture
from sparsedd.experiments._figures._measures import Levels
from sparsedd.experiments._tables import write_table
from sparsedd.report._family import read_families, read_table
from sparsedd.report._notices import list_notices
from sparsedd.report._page import render_page
from sparsedd.report._seed import read_seeds
from sparsedd.report._summary import advise, summarize
from sparsedd.sweeps._record import Record

WANTED = "pass the --out of an earlier command, the folder of a Sweep, one with a levels.csv, or any that these are in."


def read_experiments(out: Path) -> dict[Experiment, list[Record]]:
    """Return the runs of a command that have a finished level, by family and seed."""
    seeds = [seed for seed in read_seeds(out / "runs")[0] if seed.experiment and seed.records]
    found = {seed.experiment: list(seed.records) for seed in seeds if seed.experiment}
    return {e: found[e] for e in sorted(found, key=lambda e: (family_of(e), e.seed))}


def combine(results: Mapping[Experiment, Iterable[Record]]) -> Levels:
    """Return the levels of one family as arrays."""
    tables = Tables()
    for experiment, levels in results.items():
        tables.add_levels(experiment, levels)
    return Levels.of(tables.levels, next(iter(results)).name)


def write_report(out: Path, family: str | None = None) -> None:
    """Write ``levels.csv``, ``report.html`` and a picture of each family, and print what happened.

    With ``family``, which a command has just run, the picture and the sentences are of that one, and nothing outside of
    ``runs`` is looked at.
    """
    if not out.is_dir():
        raise FileNotFoundError(f"there is no folder {out}: {WANTED}")
    for path in (out / "levels.csv", out / "report.html"):
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, where a file is to be: move it away.")
    families, unreadable = read_families(out / "runs" if family else out)
    written = [out / "report.html"]
    if families:
        draws, written = True, [out / "levels.csv", *written]
        write_table(out / "levels.csv", [row for f in families for row in f.rows])
    elif unreadable:
        raise ValueError("\n".join(unreadable))
    elif families := read_table(out):
        draws = not (out / "claims.md").exists()  # the picture beside it is a figure's
    else:
        raise ValueError(f"{out} holds no runs with a finished level: {WANTED}")
    said: list[object] = [f"Not readable: {why}" for why in unreadable]  # printed last: who reads may stop at any line
    shown = [f for f in families if family in (None, f.name)]
    for f in shown:
        said += [f.heading] * (len(shown) > 1) + [*list_notices(f)]
        if isinstance(f.sweep, Levels) and f.sweep.has_phases:
            said += [summarize(f.sweep), advise(f.sweep)]
            if draws:
                picture = out / ("figure.png" if len(shown) == 1 else f"figure-{f.name.replace('/', '-')}.png")
                _draw(f.sweep, picture)
                said.append(picture)
    _files.write(out / "report.html", render_page(families, unreadable, out).encode(errors="backslashreplace"))
    print(*said, *written, sep="\n")


def _draw(sweep: Levels, path: Path) -> None:
    from matplotlib import pyplot

    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    ax = plotting.double_descent(sweep.sparsity, *accuracies, phases=sweep.phases)
    ax.set_title(sweep.name, pad=18, fontsize=10)
    try:
        save_picture(ax.get_figure(), path, dpi=150)
    finally:
        pyplot.close(ax.get_figure())  # type: ignore[arg-type]
