"""The command ``sparsedd figure``."""

import argparse
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sparsedd.cli._options import SCALE, Commands, add_run_options, check_preset, count_processes, drawable, load_preset, new
from sparsedd.cli._plan import print_plan, redense_nets
from sparsedd.cli._progress import Progress
from sparsedd.experiments import FIGURES, PRESETS, Figure, Store, Tables
from sparsedd.experiments._experiment import SCALES
from sparsedd.experiments._figures._figure import claims_markdown, finish
from sparsedd.sweeps._workers import spread, watch, workers

EXAMPLES = """examples:
  sparsedd figure list                  all 49, a line each
  sparsedd figure 5 --scale smoke       seconds, on the digits: it shows that everything is there
  sparsedd figure 5 --dry-run           what would run, and what is there
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
    parser.add_argument("number", type=_check_number, metavar="N", help="1 to 49, or list")
    parser.add_argument("--scale", choices=SCALES, help=SCALE)
    parser.add_argument(
        "--on",
        type=check_preset,
        metavar="PRESET",
        help=f"show it with data, net and levels of {', '.join(PRESETS)}, or of FILE.py:NAME or MODULE:NAME, an Experiment of "
        "your own; noise, scores and retraining stay the figure's",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="DIR",
        help="draw the tables in DIR, or in DIR/…/N, there or in --out, and compute nothing; needs the --on of before",
    )
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where runs are kept (default: runs, beside the table)")
    add_run_options(parser, seeds=None, out=None)


def _check_number(text: str) -> str:
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
        members = figure.members(options.seeds, options.seed)
        print_plan(figure.label, members, runs, out, redense_nets(figure, runs, members))
        return
    _compute(figure, runs, options)
    print(_draw(figure, out, figure.tables(runs, options.seeds, seed=options.seed)))


def _compute(figure: Figure, runs: Path, options: argparse.Namespace) -> None:
    """Run what the figure needs, and show how far it is."""
    sweeps, said = figure.members(options.seeds, options.seed), 0
    total = sum(experiment.levels for experiment in sweeps)

    def count_levels() -> int:
        return sum(len(Store(runs, experiment).levels()) for experiment in sweeps)

    with workers(count_processes(options)) as pool:
        for tasks in figure.stages(runs, options.seeds, seed=options.seed, device=options.device, fleet=options.fleet):
            levels = count_levels()
            by_level = levels < total  # afterwards come nets with other weights, and lines through the landscape
            count = ("levels", total, levels) if by_level else ("nets", len(tasks), 0)
            with Progress(figure.label, *count) as progress:
                for done in watch(pool, spread(tasks)):
                    levels = count_levels()
                    progress.update(levels if by_level else done)
                    if levels > said or (levels == total and done == len(tasks)):
                        said = levels
                        if not progress.visible:
                            progress.say(f"{levels} of {total} levels; {done} of {len(tasks)} runs of this stage")


def _draw_again(figure: Figure, options: argparse.Namespace) -> None:
    """Draw the figure of tables that are there."""
    given = [name for name in COMPUTING if getattr(options, name) is not None]
    if given:
        raise ValueError(f"--from computes nothing: leave out {', '.join('--' + name.replace('_', '-') for name in given)}.")
    sources = _find_tables(options.source, figure)
    if options.out and len(sources) > 1:
        raise ValueError(
            f"--out holds one picture, and there are {len(sources)}: pass one of {', '.join(map(str, sources))} as --from."
        )
    drawn = [
        _draw(figure, options.out or folder, tables, write=options.out not in (None, folder))
        for folder, tables in sources.items()
    ]
    print(*drawn, sep="\n")


def _find_tables(folder: Path, figure: Figure) -> dict[Path, Tables]:
    """Return the tables of the folder, or those under it that are named after the figure and have its experiments."""
    if (folder / "levels.csv").exists():
        return {folder: Tables.read(folder)}
    named = {path.parent: Tables.read(path.parent) for path in sorted(folder.rglob(f"{figure.number}/levels.csv"))}
    found = {path: tables for path, tables in named.items() if figure.is_of(tables)}
    if named and not found and (on := _find_preset(figure, named.values())):
        raise ValueError(f"{', '.join(map(str, named))} is of other data than {figure.label}: add --on {on}.")
    return found or named or {folder: Tables.read(folder)}


def _find_preset(figure: Figure, every: Collection[Tables]) -> str | None:
    """Return the preset that the figure of these tables is shown with."""
    for name, preset in PRESETS.items():
        with suppress(ValueError):  # noise that the data does not have
            if any(map(figure.on(preset).is_of, every)):
                return name
    return None


def _draw(figure: Figure, out: Path, tables: Tables, *, write: bool = True) -> str:
    """Draw the tables, and return what to print of them when all is written."""
    figure = figure.scaled(tables.scale)
    claims = finish(figure, out, tables, write=write)
    return f"{claims_markdown(figure, claims, tables)}\n{out / 'figure.png'}"
