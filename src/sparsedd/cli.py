"""The command ``sparsedd``: demo, run, figure, report, verify and data. Each continues what it finds in its folder."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import sparsedd
from sparsedd import _checks, data, experiments, noise
from sparsedd.experiments import FIGURES, METHODS, PRESETS, Experiment, Store, Tables
from sparsedd.experiments._figure import Figure
from sparsedd.experiments._panel import flips
from sparsedd.experiments._pool import cores, watched, workers
from sparsedd.experiments._report import family_of, found_in, sweep_of, write
from sparsedd.experiments._reproduce import finish, told
from sparsedd.experiments._run_all import pinned
from sparsedd.experiments._run_fleet import work_fleet
from sparsedd.experiments._scales import SCALES
from sparsedd.experiments._sentences import last_level

# The options of figure that are about computing it, with their defaults.
COMPUTING = {"scale": "small", "seeds": None, "seed": 0, "runs": None, "processes": None, "device": "cpu", "fleet": False}

EXAMPLES = """examples:
  sparsedd verify demo            a line for each run in demo/, or for each damaged file, with what to do
  sparsedd verify demo --repair   compute the damaged levels again; all others stay as they are, byte for byte
  sparsedd verify mask.safetensors

exit status: 0 all is well, 1 something is damaged, 2 there is nothing to verify
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 unless something went wrong, which one line on stderr explains.

    That of ``verify`` is 1 when something is damaged, and 2 when there is nothing to verify.
    """
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        status: int | None = options.command(options)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        print(f"sparsedd: {error}", file=sys.stderr)
        return 1
    return status or 0


def _check(options: argparse.Namespace) -> None:
    """Find out what can't be used before the work, not in the middle of it."""
    for name in ("out", "runs"):
        if (place := getattr(options, name, None)) is not None:
            _checks.folder(name, place)
    if (device := getattr(options, "device", None)) is not None:
        _checks.device("device", device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sparsedd", description="Unstructured pruning, and sparse double descent.")
    parser.add_argument("--version", action="version", version=f"sparsedd {sparsedd.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="sparse double descent on scikit-learn's digits, in about a minute")
    unchanged = dict.fromkeys(("noise", "score", "scope", "retraining", "precision"))
    demo.set_defaults(command=_run, preset="lenet-digits", scale="small", one_shot=False, reinit=False, **unchanged)
    _add_run_options(demo, seeds=4, out=Path("demo"))

    run = commands.add_parser("run", help="a row of the paper's table of experiments, as it is or changed")
    run.set_defaults(command=_run)
    run.add_argument("preset", choices=sorted(PRESETS), help="which")
    run.add_argument("--scale", choices=SCALES, default="small", help="default: small")
    run.add_argument("--noise", type=_noise, metavar="KIND:RATE", help="symmetric, asymmetric or pairflip, or none")
    run.add_argument("--score", choices=("magnitude", "gradient", "random"), help="what is pruned first")
    run.add_argument("--scope", choices=("global", "layer"), help="where the lowest scores are looked for")
    run.add_argument("--retraining", choices=tuple(METHODS), help="what a level starts from")
    run.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), help="of products (default: float32)")
    run.add_argument("--one-shot", action="store_true", help="prune the dense net to each level at once")
    run.add_argument("--reinit", action="store_true", help="the same masks with new initial weights")
    _add_run_options(run, seeds=1, out=None)

    figure = commands.add_parser("figure", help="a figure of the paper, and what it says of the paper's claims")
    figure.set_defaults(command=_figure)
    figure.add_argument("number", choices=(*FIGURES, "list"), metavar="N", help="1 to 49, or list")
    figure.add_argument("--scale", choices=SCALES, help="default: small")
    figure.add_argument("--on", choices=sorted(PRESETS), help="show it with the data and the net of another row")
    figure.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="draw the tables in DIR, or in DIR/…/N, and compute nothing"
    )
    figure.add_argument("--runs", type=Path, metavar="DIR", help="where runs are kept (default: runs, beside the table)")
    _add_run_options(figure, seeds=None, out=None)

    report = commands.add_parser("report", help="table, picture and sentences of the runs in a folder")
    report.set_defaults(command=_report)
    report.add_argument("out", type=Path, metavar="DIR", help="the --out of an earlier command")

    check = commands.add_parser(
        "verify",
        help="are the files in a folder what was written? A damaged level can be computed again",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.set_defaults(command=_verify)
    check.add_argument("path", type=Path, metavar="DIR", help="with all folders in it; or one file")
    check.add_argument("--repair", action="store_true", help="compute what is damaged again, and leave the rest as it is")
    check.add_argument("--device", default="cpu", help="where it was trained (default: cpu)")

    arrange = commands.add_parser("data", help="arrange the official archive of a data set as it is read here")
    arrange.set_defaults(command=_data)
    arrange.add_argument("dataset", choices=("tiny-imagenet",), help="which")
    arrange.add_argument("path", type=Path, metavar="PATH", help="the archive, or the folder that it was unpacked to")
    arrange.add_argument("--out", type=Path, metavar="DIR", help="default: SPARSEDD_DATA, else ~/.cache/sparsedd")
    return parser


def _add_run_options(parser: argparse.ArgumentParser, seeds: int | None, out: Path | None) -> None:
    figure = seeds is None
    where = "figures/N, which share figures/runs" if figure else out
    parser.add_argument(
        "--out",
        type=Path,
        default=out,
        required=not (out or figure),
        help=f"folder for table and picture (default: {where})",
    )
    number = "as many as the paper has, fewer when not at paper scale" if figure else seeds
    parser.add_argument("--seeds", type=_whole(1), default=seeds, metavar="K", help=f"how many (default: {number})")
    parser.add_argument("--seed", type=_whole(0), default=None if figure else 0, metavar="S", help="the first (default: 0)")
    parser.add_argument(
        "--processes", type=_whole(1), default=None, metavar="P", help="default: one for each core, one with a GPU or a fleet"
    )
    parser.add_argument("--device", default=None if figure else "cpu", help="default: cpu")
    parser.add_argument(
        "--fleet", action="store_true", default=None if figure else False, help="train nets of one shape as one: for a GPU"
    )


def _run(options: argparse.Namespace) -> None:
    _drawable()
    preset = _changed(PRESETS[options.preset], options).scaled(options.scale)
    wanted = [replace(preset, seed=options.seed + k) for k in range(options.seeds)]
    runs = options.out / "runs"
    began = time.perf_counter()
    print(f"{preset.name}, {preset.scale} scale: {preset.levels} levels × {len(wanted)} seeds, in {options.out}", flush=True)
    count, done = min(len(wanted), _processes(options)), 0
    task = work_fleet if options.fleet else experiments.work
    tasks = [partial(task, wanted[k::count], runs, device=options.device) for k in range(count)]
    with workers(count) as pool:
        for _ in watched(pool, tasks):
            levels = {experiment: Store(runs, experiment).levels() for experiment in wanted}
            complete = min(map(len, levels.values()))
            for level in range(done + 1, complete + 1):
                experiments.write_levels(options.out / "levels.csv", found_in(options.out))
                print(last_level(sweep_of({experiment: found[:level] for experiment, found in levels.items()})), flush=True)
            done = complete
    write(options.out, found_in(options.out), family=family_of(preset))
    print(f"{time.perf_counter() - began:.0f} s")


def _changed(preset: Experiment, options: argparse.Namespace) -> Experiment:
    """A preset with what the options change of it."""
    if options.noise is not None:
        kind, rate = options.noise
        preset = replace(preset, noise=_noise_of(kind, rate, preset.dataset))
    changed = {name: getattr(options, name) for name in ("score", "scope") if getattr(options, name)}
    preset = replace(preset, pruner=replace(preset.pruner, **changed), one_shot=options.one_shot)
    if options.precision:
        preset = replace(preset, precision=options.precision)
    if options.retraining:
        preset = replace(preset, retraining=METHODS[options.retraining])
    return preset.reinitialized() if options.reinit else preset


def _noise_of(kind: str, rate: float, dataset: str) -> noise.Noise | None:
    if kind == "none":
        return None
    if kind in ("symmetric", "pairflip"):
        return noise.Symmetric(rate) if kind == "symmetric" else noise.Pairflip(rate)
    return noise.Asymmetric(rate, flips(dataset))


def _figure(options: argparse.Namespace) -> None:
    if options.number == "list":
        for figure in FIGURES.values():
            print(f"{figure.number:2d}  {figure.caption}")
        return
    _drawable()
    figure = FIGURES[options.number]
    if options.on:
        figure = figure.on(PRESETS[options.on])
    if options.source:
        given = [name for name in COMPUTING if getattr(options, name) is not None]
        if given:
            raise ValueError(f"--from computes nothing: leave out {', '.join(f'--{name}' for name in given)}.")
        sources = _sources(options.source, figure)
        if options.out and len(sources) > 1:
            raise ValueError(
                f"--out holds one picture, and there are {len(sources)}: pass one of {', '.join(map(str, sources))} as --from."
            )
        for source in sources:
            _draw(figure, options.out or source, Tables.read(source), write=options.out not in (None, source))
        return
    for name, default in COMPUTING.items():
        if getattr(options, name) is None:
            setattr(options, name, default)
    figure, out = figure.scaled(options.scale), options.out or Path("figures") / options.number
    runs = options.runs or (out / "runs" if options.out else out.parent / "runs")
    _compute(figure, runs, options)
    _draw(figure, out, figure.tables(runs, options.seeds, seed=options.seed))


def _sources(folder: Path, figure: Figure) -> list[Path]:
    """The folder, if it has tables, or those in it that are named after the figure, and have its experiments."""
    if (folder / "levels.csv").exists():
        return [folder]
    named = sorted(path.parent for path in folder.rglob(f"{figure.number}/levels.csv"))
    return [path for path in named if figure.is_of(Tables.read(path))] or named or [folder]


def _draw(figure: Figure, out: Path, tables: Tables, *, write: bool = True) -> None:
    figure = figure.scaled(tables.scale)
    print(told(figure, finish(figure, out, tables, write=write), tables))
    print(out / "figure.png")


def _compute(figure: Figure, runs: Path, options: argparse.Namespace) -> None:
    """Run what the figure needs, saying how far it is."""
    sweeps = figure.members(options.seeds, options.seed)
    total, said = sum(experiment.levels for experiment in sweeps), 0
    with workers(_processes(options)) as pool:
        for tasks in figure.stages(runs, options.seeds, seed=options.seed, device=options.device, fleet=options.fleet):
            for done in watched(pool, tasks):
                levels = sum(len(Store(runs, experiment).levels()) for experiment in sweeps)
                if levels > said or (levels == total and done == len(tasks)):
                    print(f"{levels} of {total} levels; {done} of {len(tasks)} runs of this stage", flush=True)
                    said = levels


def _processes(options: argparse.Namespace) -> int:
    return options.processes or (cores() if options.device == "cpu" and not options.fleet else 1)


def _report(options: argparse.Namespace) -> None:
    _drawable()
    results = found_in(options.out)
    if not results:
        raise ValueError(f"{options.out} holds no runs with a finished level: pass the --out of an earlier command.")
    write(options.out, results)


def _verify(options: argparse.Namespace) -> int:
    if options.repair:
        findings = pinned(partial(experiments.repair, device=options.device), options.path)
    else:
        findings = experiments.verify(options.path)
    for finding in findings:
        print(finding)
    if not findings:
        print(f"sparsedd: {options.path} holds nothing to verify: pass the --out of an earlier command.", file=sys.stderr)
        return 2
    return 0 if all(finding.ok for finding in findings) else 1


def _data(options: argparse.Namespace) -> None:
    print(data.arrange_tiny_imagenet(options.path, options.out))


def _drawable() -> None:
    """Find out that matplotlib is missing before the work, not after it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'sparsedd[demo]'.") from error
    matplotlib.use("agg")


def _whole(least: int) -> Callable[[str], int]:
    """An argument that is an integer of at least ``least``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return value

    return integer


def _noise(text: str) -> tuple[str, float]:
    """An argument such as ``symmetric:0.2``, or ``none``."""
    kind, _, rate = text.partition(":")
    if kind not in ("symmetric", "asymmetric", "pairflip", "none") or (kind == "none") != (not rate):
        raise argparse.ArgumentTypeError(f"must be none, or symmetric, asymmetric or pairflip with a rate, got {text!r}")
    try:
        return kind, float(rate or 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"the rate must be a number, got {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
