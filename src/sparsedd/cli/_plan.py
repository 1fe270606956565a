"""Plan: what a command would run and where, for ``--dry-run``."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sparsedd.data._folder import data_folder, is_absent
from sparsedd.experiments import Experiment, Figure, Store
from sparsedd.experiments._experiment import owns
from sparsedd.experiments._labels import make_labels
from sparsedd.experiments._redense import format_factor
from sparsedd.experiments._task import Task

LINES = {"interpolation": ", and the line from each to its sparse net", "directions": ", and lines around each"}


def print_plan(title: str, experiments: Sequence[Experiment], runs: Path, out: Path, nets: str = "") -> None:
    """Print which levels of the experiments are there and which would be computed.

    Parameters
    ----------
    title
        What the command is about.
    experiments
        All that it needs, with their seeds.
    runs, out
        Where runs are kept; where table and picture are left.
    nets
        What would be computed after the sweeps, in words.
    """
    missing = {e: _missing(runs, e) for e in experiments}
    for e in dict.fromkeys(replace(e, seed=0) for e in missing):
        if owns(e) and not (isinstance(e.dataset, str) and is_absent(e.dataset)):
            Task(e, "cpu").check()  # so that it fails as the run would
    print(f"{title}: this is what would run. Nothing is run or written now.")
    for one, label in make_labels(replace(e, seed=0) for e in missing).items():
        seeds = [e for e in missing if replace(e, seed=0) == one]
        print(f"  {label}, {_describe(seeds, sum(missing[e] for e in seeds))}")
    if nets:
        print(f"  then {nets}")
    print(f"Runs would be in {runs}, table and picture in {out}.")
    for dataset in dict.fromkeys(e.dataset for e in missing if isinstance(e.dataset, str) and is_absent(e.dataset)):
        print(f"The files of {dataset} are not in {data_folder()}: they would have to be put or downloaded there first.")
    if not nets and not any(missing.values()):
        print("Nothing is left to be computed: it would draw again, in seconds.")


def with_tickets(experiment: Experiment) -> list[Experiment]:
    """List what is run for an experiment: first the one whose masks it takes, if there is one."""
    if experiment.tickets_of is None:
        return [experiment]
    return [replace(experiment, retraining=experiment.tickets_of, tickets_of=None), experiment]


def redense_nets(figure: Figure, runs: Path, members: Sequence[Experiment]) -> str:
    """Count the nets that a figure would still train without their masks (an upper bound), in words; "" for none."""
    needs = figure.drawing.needs
    if needs not in ("redense", *LINES):
        return ""
    if any(_missing(runs, e) for e in members):  # their levels are chosen when all sweeps are there
        nets = sum((4 if p.at is None else 1) * (replace(e, seed=0) == p.sweeps[0]) for p in figure.panels for e in members)
    else:
        kind = "" if needs == "redense" else f".{needs}"
        nets = sum(
            not (Store(runs, e).path / f"{level:02d}.redense-{format_factor(factor)}{kind}.safetensors").exists()
            for e, level, _, factor in figure._places(runs, list(members))
        )
    return f"up to {nets} net{'s' * (nets > 1)} trained on without mask{LINES.get(needs, '')}" if nets else ""


def _missing(runs: Path, experiment: Experiment) -> int:
    """Count the levels that are still to be computed."""
    levels = Store(runs, experiment).levels()
    return 0 if any(level.diverged for level in levels) else experiment.levels - len(levels)


def _describe(seeds: Sequence[Experiment], missing: int) -> str:
    """Put seeds, levels and epochs of an experiment in words, and how many levels are there."""
    first, last, total = seeds[0], seeds[-1], sum(e.levels for e in seeds)
    which = f"seed {first.seed}" if len(seeds) == 1 else f"seeds {first.seed} to {last.seed}"
    done = f"{total - missing} of {total} are done" if missing else "all are done"
    reached = f"sparsity up to {100 * first.pruner.sparsity(first.levels - 1):.2f} %"
    return f"{first.scale} scale, {which}: {first.levels} levels of {first.epochs} epochs; {done}; {reached}"
