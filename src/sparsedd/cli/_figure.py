"""The command ``sparsedd figure``."""

import argparse
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sparsedd.cli._options import SCALE, Commands, add_run_options, drawable, load_preset, new, preset_name, processes
from sparsedd.cli._plan import Plan, redense_nets
from sparsedd.cli._progress import Progress
from sparsedd.experiments import FIGURES, PRESETS, Figure, Store, Tables
from sparsedd.experiments._reproduce import finish, told
from sparsedd.experiments._scales import SCALES
from sparsedd.sweeps._workers import watch, workers

EXAMPLES = """examples:
  sparsedd figure list                  all 49, a line each
  sparsedd figure 5 --scale smoke       seconds, on the digits: it shows that everything is there
  sparsedd figure 5 --dry-run           what would run, and how long it would take here
  sparsedd figure 5                     MNIST, in reach of two cores: figures/5/figure.png, and the paper's claims
  sparsedd figure 4 --on lenet-mnist    what Figure 4 shows of CIFAR-10, shown on MNIST
  sparsedd figure 5 --from figures/5    draw it again of its tables

Ctrl-C stops it. The same command goes on from there. Data files are looked for in the folder that SPARSEDD_DATA names.
"""

# The options that are about computing a figure, with their defaults.
COMPUTING = dict.fromkeys(("seeds", "runs", "processes")) | {"scale": "small", "seed": 0, "device": "cpu"}
COMPUTING |= {"fleet": False, "dry_run": False}


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new(commands, "figure", "a figure of the paper, and what it says of the paper's claims", EXAMPLES)
    parser.set_defaults(command=command)
    parser.add_argument("number", type=_number, metavar="N", help="1 to 49, or list")
    parser.add_argument("--scale", choices=SCALES, help=SCALE)
    parser.add_argument(
        "--on",
        type=preset_name,
        metavar="PRESET",
        help=f"show it with data and net of {', '.join(PRESETS)}, or of FILE.py:NAME, an Experiment of your own",
    )
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="draw the tables in DIR, or in DIR/…/N, and compute nothing"
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs are kept (default: runs, beside the table)")
    add_run_options(parser, seeds=None, out=None)


def _number(text: str) -> str:
    if text not in (*FIGURES, "list"):
        raise argparse.ArgumentTypeError(f"invalid choice: {text!r} (choose from 1 to 49, or list)")
    return text


def command(options: argparse.Namespace) -> None:
    """Compute and draw a figure, draw it of tables that are there, or list all figures."""
    if options.number == "list":
        for figure in FIGURES.values():
            print(f"{figure.number:2d}  {figure.caption}")
        return
    drawable()
    figure = FIGURES[options.number]
    if options.on:
        figure = figure.on(replace(load_preset(options.on), seed=0))
    if options.source:
        _draw_again(figure, options)
        return
    if options.scale is None and options.on not in (None, *PRESETS):
        options.scale = figure.scale
    for name, default in COMPUTING.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    figure, out = figure.scaled(options.scale), options.out or Path("figures") / options.number
    runs = options.runs or (out / "runs" if options.out else out.parent / "runs")
    if options.dry_run:
        _plan(figure, runs, out, options).tell(figure.label)
        return
    _compute(figure, runs, options)
    print(_drawn(figure, out, figure.tables(runs, options.seeds, seed=options.seed)))


def _plan(figure: Figure, runs: Path, out: Path, options: argparse.Namespace) -> Plan:
    """What the figure needs."""
    members = figure.members(options.seeds, options.seed)
    stages = [[[e] for e in members if (e.tickets_of is not None) == with_tickets] for with_tickets in (False, True)]
    nets = redense_nets(figure, runs, members)
    return Plan(runs, out, stages, processes(options), options.device, options.fleet, nets, figure.drawing.needs or "")


def _compute(figure: Figure, runs: Path, options: argparse.Namespace) -> None:
    """Run what the figure needs, saying how far it is."""
    sweeps, said = figure.members(options.seeds, options.seed), 0
    total = sum(experiment.levels for experiment in sweeps)

    def there() -> int:
        return sum(len(Store(runs, experiment).levels()) for experiment in sweeps)

    with workers(processes(options)) as pool:
        for tasks in figure.stages(runs, options.seeds, seed=options.seed, device=options.device, fleet=options.fleet):
            levels = there()
            by_level = levels < total  # afterwards come nets with other weights, and lines through the landscape
            count = ("levels", total, levels) if by_level else ("nets", len(tasks), 0)
            with Progress(figure.label, *count) as progress:
                for done in watch(pool, tasks):
                    levels = there()
                    progress.to(levels if by_level else done)
                    if levels > said or (levels == total and done == len(tasks)):
                        said = levels
                        if not progress.shown:
                            progress.say(f"{levels} of {total} levels; {done} of {len(tasks)} runs of this stage")


def _draw_again(figure: Figure, options: argparse.Namespace) -> None:
    """Draw the figure of tables that are there."""
    given = [name for name in COMPUTING if getattr(options, name) is not None]
    if given:
        raise ValueError(f"--from computes nothing: leave out {', '.join('--' + name.replace('_', '-') for name in given)}.")
    sources = _sources(options.source, figure)
    if options.out and len(sources) > 1:
        raise ValueError(
            f"--out holds one picture, and there are {len(sources)}: pass one of {', '.join(map(str, sources))} as --from."
        )
    drawn = [
        _drawn(figure, options.out or folder, tables, write=options.out not in (None, folder))
        for folder, tables in sources.items()
    ]
    print(*drawn, sep="\n")


def _sources(folder: Path, figure: Figure) -> dict[Path, Tables]:
    """The folder, if it has tables, or those in it that are named after the figure, and have its experiments."""
    if (folder / "levels.csv").exists():
        return {folder: Tables.read(folder)}
    named = {path.parent: Tables.read(path.parent) for path in sorted(folder.rglob(f"{figure.number}/levels.csv"))}
    found = {path: tables for path, tables in named.items() if figure.is_of(tables)}
    if named and not found and (on := _shown_with(figure, named.values())):
        raise ValueError(f"{', '.join(map(str, named))} is of other data than {figure.label}: add --on {on}.")
    return found or named or {folder: Tables.read(folder)}


def _shown_with(figure: Figure, every: Collection[Tables]) -> str | None:
    """The preset that the figure of these tables is shown with."""
    for name, preset in PRESETS.items():
        with suppress(ValueError):  # noise that the data does not have
            if any(map(figure.on(preset).is_of, every)):
                return name
    return None


def _drawn(figure: Figure, out: Path, tables: Tables, *, write: bool = True) -> str:
    """Draw the tables; return what to say of them, to be printed when all is written."""
    figure = figure.scaled(tables.scale)
    claims = finish(figure, out, tables, write=write)
    return f"{told(figure, claims, tables)}\n{out / 'figure.png'}"
