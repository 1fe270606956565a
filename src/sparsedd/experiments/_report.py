"""Report: the table, the pictures, the sentences and the page of the runs in a folder."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sparsedd import _files
from sparsedd.experiments._document import Family, document
from sparsedd.experiments._experiment import Experiment, family_of
from sparsedd.experiments._labels import labels
from sparsedd.experiments._level import Level
from sparsedd.experiments._reproduce import save
from sparsedd.experiments._sentences import advice, summary
from sparsedd.experiments._store import Store
from sparsedd.experiments._sweep import Sweep
from sparsedd.experiments._tables import Tables, write_levels

Results = dict[Experiment, list[Level]]


def found_in(out: Path) -> Results:
    """All runs in the folder that have a finished level."""
    return {experiment: levels for experiment, levels in begun_in(out).items() if levels}


def begun_in(out: Path) -> Results:
    """All runs in the folder, by family and seed."""
    stores = [Store.open(path.parent) for path in sorted(out.glob("runs/*/*/config.json"))]
    results = {store.experiment: store.levels() for store in stores}
    place = sorted(results, key=lambda experiment: (family_of(experiment), experiment.seed))
    return {experiment: results[experiment] for experiment in place}


def sweep_of(results: Results) -> Sweep:
    """The sweep of one family."""
    tables = Tables()
    for experiment, levels in results.items():
        tables.add_levels(experiment, levels)
    return Sweep.of(tables.levels, next(iter(results)).name)


def write(out: Path, results: Results, family: str | None = None) -> None:
    """``levels.csv`` and ``report.html`` of everything; a picture and the sentences of one family of seeds, or of each."""
    write_levels(out / "levels.csv", results)
    said: list[object] = []  # printed when all is written: who reads it may have seen enough at any line
    sweeps = _sweeps(results)
    shown = {name: sweep for name, sweep in sweeps.items() if family in (None, name)}
    for name, sweep in shown.items():
        if isinstance(sweep, ValueError):
            said.append(sweep)
            continue
        picture = out / ("figure.png" if len(shown) == 1 else f"figure-{name}.png")
        _draw(sweep, picture)
        said += [summary(sweep), advice(sweep), picture]
    _files.write(out / "report.html", _page(out, sweeps).encode(errors="backslashreplace"))
    print(*said, out / "levels.csv", out / "report.html", sep="\n")


def _sweeps(results: Results) -> dict[str, Sweep | ValueError]:
    """The sweep of each family, or why there is none."""
    sweeps: dict[str, Sweep | ValueError] = {}
    called = {family_of(experiment): label for experiment, label in labels(results).items()}
    for name in sorted(called):
        try:
            one = sweep_of({e: levels for e, levels in results.items() if family_of(e) == name})
            sweeps[name] = replace(one, name=called[name])
        except ValueError as error:
            sweeps[name] = error
    return sweeps


def _draw(sweep: Sweep, path: Path) -> None:
    from matplotlib import pyplot

    from sparsedd import plotting

    accuracies = sweep["train_accuracy"], sweep["test_accuracy"]
    ax = plotting.double_descent(sweep.sparsity, *accuracies, phases=sweep.phases)
    ax.set_title(sweep.name, pad=18, fontsize=10)
    try:
        save(ax.get_figure(), path, dpi=150)
    finally:
        pyplot.close(ax.get_figure())  # type: ignore[arg-type]


def _page(out: Path, sweeps: dict[str, Sweep | ValueError]) -> str:
    begun = begun_in(out)
    families: dict[str, Results] = {name: {} for name in sweeps}
    for experiment, levels in begun.items():
        if family_of(experiment) in families:
            families[family_of(experiment)][experiment] = levels
    ended = {experiment for experiment in begun if _ended(experiment, begun)}
    return document(
        [
            Family(results, sweeps[name], {e.seed for e in ended & results.keys()}, _emptied(out, results))
            for name, results in families.items()
        ],
        out,
    )


def _emptied(out: Path, results: Results) -> dict[str, list[int]]:
    """The levels from which on a layer has no weights, one for each seed in which it has lost them all."""
    found: dict[str, list[int]] = {}
    for experiment, levels in results.items():
        store = Store(out / "runs", experiment)
        first: dict[str, int] = {}
        with suppress(ValueError):  # a damaged mask, which verify names
            for level in reversed(levels):  # masks are nested: most sweeps have no such layer at their end
                empty = [name for name, sparsity in store.mask(level.level).by_layer().items() if sparsity == 1]
                first |= dict.fromkeys(empty, level.level)
                if not empty:
                    break
        for name, number in first.items():
            found.setdefault(name, []).append(number)
    return found


def _ended(experiment: Experiment, begun: Results) -> bool:
    """Has it come as far as it can, because the net whose masks it takes has diverged?"""
    if experiment.tickets_of is None:
        return False
    tickets = begun.get(replace(experiment, retraining=experiment.tickets_of, tickets_of=None), [])
    return bool(tickets and tickets[-1].diverged and len(begun[experiment]) == len(tickets))
