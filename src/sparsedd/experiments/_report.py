"""Report: the table, the pictures and the sentences of the runs in a folder."""

from pathlib import Path

from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._level import Level
from sparsedd.experiments._reproduce import save
from sparsedd.experiments._sentences import summary
from sparsedd.experiments._store import Store
from sparsedd.experiments._sweep import Sweep
from sparsedd.experiments._tables import Tables, write_levels

Results = dict[Experiment, list[Level]]


def found_in(out: Path) -> Results:
    """All runs in the folder that have a finished level."""
    stores = [Store.open(path.parent) for path in sorted(out.glob("runs/*/*/config.json"))]
    results = {store.experiment: store.levels() for store in stores}
    place = sorted(results, key=lambda experiment: (family_of(experiment), experiment.seed))
    return {experiment: results[experiment] for experiment in place if results[experiment]}


def family_of(experiment: Experiment) -> str:
    """What the seeds of one experiment have in common."""
    return experiment.folder.split("/")[0]


def sweep_of(results: Results) -> Sweep:
    """The sweep of one family."""
    tables = Tables()
    for experiment, levels in results.items():
        tables.add_levels(experiment, levels)
    return Sweep.of(tables.levels, next(iter(results)).name)


def write(out: Path, results: Results, family: str | None = None) -> None:
    """``levels.csv`` of everything; a picture and three sentences of one family of seeds, or of each."""
    from matplotlib import pyplot

    from sparsedd import plotting

    write_levels(out / "levels.csv", results)
    families = [family] if family else sorted({family_of(experiment) for experiment in results})
    for family in families:
        sweep = sweep_of({experiment: levels for experiment, levels in results.items() if family_of(experiment) == family})
        accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
        ax = plotting.double_descent(sweep.sparsity, *accuracies, phases=sweep.phases)
        ax.set_title(sweep.name, pad=18, fontsize=10)
        picture = out / ("figure.png" if len(families) == 1 else f"figure-{family}.png")
        try:
            save(ax.get_figure(), picture, dpi=150)
        finally:
            pyplot.close(ax.get_figure())  # type: ignore[arg-type]
        print(summary(sweep))
        print(picture)
    print(out / "levels.csv")
