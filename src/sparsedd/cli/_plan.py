"""Plan: what a command would run, where, and how long it would take; for ``--dry-run``."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparsedd.data._folder import absent, folder
from sparsedd.experiments import Experiment, Figure, Store
from sparsedd.experiments._estimate import makespan, paces
from sparsedd.experiments._labels import make_labels
from sparsedd.experiments._redense import format_factor


@dataclass
class Plan:
    """What is to be run.

    Attributes
    ----------
    runs, out
        Where runs are kept; where table and picture are left.
    stages
        Tasks that may run side by side, and must be done before the next stage begins: the experiments of each.
    processes, device, fleet
        As the options say, but no more processes than there are tasks.
    nets, needs
        Of which experiment each net is that is then trained on without its mask, at most; and what that is for.
    """

    runs: Path
    out: Path
    stages: Sequence[Sequence[Sequence[Experiment]]]
    processes: int
    device: str
    fleet: bool
    nets: Sequence[Experiment] = ()
    needs: str = ""
    missing: dict[Experiment, range] = field(init=False)

    def __post_init__(self) -> None:
        self.processes = min(self.processes, max(map(len, [*self.stages, self.nets])))  # no more begin
        self.missing = {e: _missing(self.runs, e) for stage in self.stages for task in stage for e in task}

    def tell(self, title: str) -> None:
        """Print it, with an estimate of how long it would take."""
        print(f"{title}: this is what would run. Nothing is run or written now.")
        for one, label in make_labels(replace(e, seed=0) for e in self.missing).items():
            print(f"  {label}, {self._of([e for e in self.missing if replace(e, seed=0) == one])}")
        if self.nets:
            lines = {"interpolation": ", and the line from each to its sparse net", "directions": ", and lines around each"}
            nets = f"{len(self.nets)} net{'s' * (len(self.nets) > 1)}"
            print(f"  then up to {nets} trained on without mask{lines.get(self.needs, '')}")
        workers = f"{self.processes} process{'es' * (self.processes > 1)}"
        print(f"Runs would be in {self.runs}, table and picture in {self.out}; {workers}, {self.device}.")
        for dataset in dict.fromkeys(e.dataset for e in self.missing if isinstance(e.dataset, str) and absent(e.dataset)):
            print(f"The files of {dataset} are not in {folder()}: they would have to be put or downloaded there first.")
        print(self._time(), flush=True)

    def _of(self, seeds: Sequence[Experiment]) -> str:
        first, last = seeds[0], seeds[-1]
        which = f"seed {first.seed}" if len(seeds) == 1 else f"seeds {first.seed} to {last.seed}"
        total, missing = sum(e.levels for e in seeds), sum(len(self.missing[e]) for e in seeds)
        return f"{first.scale} scale, {which}: {first.levels} levels of {first.epochs} epochs; " + (
            f"{total - missing} of {total} are done" if missing else "all are done"
        )

    def _time(self) -> str:
        working = [e for e, levels in self.missing.items() if levels] + list(self.nets)
        if not working:
            return "Nothing is left to be computed: it would draw again, in seconds."
        if self.fleet:
            return "How long it would take is not estimated for nets that are trained as one."
        found, ready = paces(dict.fromkeys(working), self.processes, self.device)
        seconds = {e: found[e].seconds(e) for e in found}
        stages = [
            [sum(seconds[e][level] for e in task for level in self.missing[e]) for task in stage] for stage in self.stages
        ]
        stages.append([found[e].redense(e, self.needs) for e in self.nets])
        total = ready + sum(makespan(stage, self.processes) for stage in stages)
        return (
            f"It would take about {_about(total)} on this machine as it is now: an estimate, by a few training steps and "
            f"evaluations that were timed just now{f', in {self.processes} processes at once' * (self.processes > 1)}."
        )


def needed(experiment: Experiment) -> list[Experiment]:
    """What is run for an experiment: first the one whose masks it takes, if there is one."""
    if experiment.tickets_of is None:
        return [experiment]
    return [replace(experiment, retraining=experiment.tickets_of, tickets_of=None), experiment]


def redense_nets(figure: Figure, runs: Path, members: Sequence[Experiment]) -> list[Experiment]:
    """Of which experiment each net is that a figure has trained on without its mask, and that is not there: at most."""
    if figure.drawing.needs not in ("redense", "interpolation", "directions"):
        return []
    if any(_missing(runs, e) for e in members):  # which levels is known only when all are there
        return [
            e
            for panel in figure.panels
            for e in members
            if replace(e, seed=0) == panel.sweeps[0]
            for _ in range(4 if panel.at is None else 1)
        ]
    kind = "" if figure.drawing.needs == "redense" else f".{figure.drawing.needs}"
    return [
        e
        for e, level, _, factor in figure._places(runs, list(members))
        if not (Store(runs, e).path / f"{level:02d}.redense-{format_factor(factor)}{kind}.safetensors").exists()
    ]


def _missing(runs: Path, experiment: Experiment) -> range:
    """The levels that are still to be computed."""
    levels = Store(runs, experiment).levels()
    return range(len(levels), experiment.levels if not any(level.diverged for level in levels) else len(levels))


def _about(seconds: float) -> str:
    """A duration, to the precision of an estimate."""
    unit, size = next(
        ((u, s) for u, s in (("days", 86_400), ("hours", 3600), ("minutes", 60)) if seconds >= 2 * s), ("seconds", 1)
    )
    return f"{float(f'{seconds / size:.2g}'):g} {unit}"
