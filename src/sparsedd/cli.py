"""The command ``sparsedd``: demo, run and report. Each continues what it finds in its folder."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

import sparsedd
from sparsedd import experiments, phases
from sparsedd.experiments import PRESETS, Experiment, Level, Store

Results = dict[Experiment, list[Level]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0 unless something went wrong, which one line on stderr explains."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from here.", file=sys.stderr)
        return 130
    except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
        print(f"sparsedd: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sparsedd", description="Unstructured pruning, and sparse double descent.")
    parser.add_argument("--version", action="version", version=f"sparsedd {sparsedd.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="sparse double descent on scikit-learn's digits, in about a minute")
    demo.set_defaults(command=_run, preset="lenet-digits", scale="small")
    run = commands.add_parser("run", help="a row of the paper's table of experiments")
    run.set_defaults(command=_run)
    run.add_argument("preset", choices=sorted(PRESETS), help="which")
    run.add_argument("--scale", choices=("smoke", "small", "paper"), default="small", help="default: small")
    for command, seeds, out in ((demo, 4, "demo"), (run, 1, None)):
        command.add_argument("--out", type=Path, default=out, required=out is None, help="folder for runs, table and picture")
        command.add_argument("--seeds", type=_whole(1), default=seeds, metavar="K", help=f"how many (default: {seeds})")
        command.add_argument("--seed", type=_whole(0), default=0, metavar="S", help="the first of them (default: 0)")
        command.add_argument("--processes", type=_whole(1), default=None, metavar="P", help="default: one for each core")
        command.add_argument("--device", default="cpu", help="default: cpu")

    report = commands.add_parser("report", help="table, picture and sentences of the runs in a folder")
    report.set_defaults(command=_report)
    report.add_argument("out", type=Path, metavar="DIR", help="the --out of an earlier command")
    return parser


def _run(options: argparse.Namespace) -> None:
    _drawable()
    preset = PRESETS[options.preset].scaled(options.scale)
    wanted = [replace(preset, seed=options.seed + k) for k in range(options.seeds)]
    began = time.perf_counter()
    print(f"{preset.name}, {preset.scale} scale: {preset.levels} levels × {len(wanted)} seeds, in {options.out}", flush=True)
    for results in _watched(wanted, options):
        experiments.write_levels(options.out / "levels.csv", _found(options.out))
        _print_level(results)
    _write(options.out, _found(options.out), family=_family(preset))
    print(f"{time.perf_counter() - began:.0f} s")


def _watched(wanted: Sequence[Experiment], options: argparse.Namespace) -> Iterator[Results]:
    """Run the experiments in processes, and yield the results so far whenever a level is complete for all of them."""
    runs = options.out / "runs"
    stores = {experiment: Store(runs, experiment) for experiment in wanted}
    count = min(len(wanted), options.processes or _cores())
    done = 0
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        futures: list[Future[object]] = [
            pool.submit(experiments.work, wanted[k::count], runs, device=options.device) for k in range(count)
        ]
        workers = list(pool._processes.values())
        try:
            pending = set(futures)
            while pending:
                finished, pending = wait(pending, timeout=0.5)
                for future in finished:
                    future.result()
                results = {experiment: store.levels() for experiment, store in stores.items()}
                complete = min(map(len, results.values()))
                for level in range(done + 1, complete + 1):
                    yield {experiment: levels[:level] for experiment, levels in results.items()}
                done = complete
        except BaseException:
            for worker in workers:
                worker.kill()  # a run that is killed goes on where it was
            raise


def _cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _report(options: argparse.Namespace) -> None:
    _drawable()
    results = _found(options.out)
    if not results:
        raise ValueError(f"{options.out} holds no runs with a finished level: pass the --out of an earlier command.")
    _write(options.out, results)


def _found(out: Path) -> Results:
    """All runs in the folder that have a finished level."""
    stores = [Store.open(path.parent) for path in sorted(out.glob("runs/*/*/config.json"))]
    results = {store.experiment: store.levels() for store in stores}
    return {experiment: levels for experiment, levels in sorted(results.items(), key=_place) if levels}


def _place(item: tuple[Experiment, list[Level]]) -> tuple[str, int]:
    return _family(item[0]), item[0].seed


def _family(experiment: Experiment) -> str:
    """What the seeds of one experiment have in common."""
    return experiment.folder.split("/")[0]


def _drawable() -> None:
    """Find out that matplotlib is missing before the work, not after it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'sparsedd[demo]'.") from error
    matplotlib.use("agg")


def _print_level(results: Results) -> None:
    """One line: the level that has just been completed, in the mean over the seeds."""
    sparsity, train, test = _curves(results)
    now = phases.phases(sparsity, train, test)[sparsity[-1]]
    spread = f" ± {100 * test[:, -1].std(ddof=1):.1f}" if len(test) > 1 else ""
    remaining = next(iter(results.values()))[-1].remaining
    print(
        f"level {len(sparsity) - 1:2d}  sparsity {100 * sparsity[-1]:7.3f} %  {remaining:9,} weights  "
        f"train {100 * train[:, -1].mean():5.1f} %  test {100 * test[:, -1].mean():5.1f}{spread} %  {now}",
        flush=True,
    )


def _write(out: Path, results: Results, family: str | None = None) -> None:
    """``levels.csv`` of everything; a picture and three sentences of one family of seeds, or of each."""
    from matplotlib import pyplot

    from sparsedd import plotting

    experiments.write_levels(out / "levels.csv", results)
    families = [family] if family else sorted({_family(experiment) for experiment in results})
    for family in families:
        members = {experiment: levels for experiment, levels in results.items() if _family(experiment) == family}
        complete = min(map(len, members.values()))
        members = {experiment: levels[:complete] for experiment, levels in members.items()}
        sparsity, train, test = _curves(members)
        ax = plotting.double_descent(sparsity, train, test, phases=phases.phases(sparsity, train, test))
        ax.set_title(next(iter(members)).name, pad=18, fontsize=10)
        picture = out / ("figure.png" if len(families) == 1 else f"figure-{family}.png")
        ax.get_figure().savefig(picture, dpi=150)  # type: ignore[union-attr]
        pyplot.close(ax.get_figure())  # type: ignore[arg-type]
        print(_sentences(sparsity, train, test))
        print(picture)
    print(out / "levels.csv")


def _curves(results: Mapping[Experiment, Sequence[Level]]) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Sparsity (levels,), and training and test accuracy (seeds, levels)."""
    rows = list(results.values())
    train, test = (
        np.array([[getattr(level, f"{part}_accuracy") for level in row] for row in rows]) for part in ("train", "test")
    )
    return [level.sparsity for level in rows[0]], train, test


def _sentences(sparsity: Sequence[float], train: np.ndarray, test: np.ndarray) -> str:
    """What happened, in three sentences with numbers."""
    dd = phases.double_descent(sparsity, test)
    at = {s: k for k, s in enumerate(sparsity)}
    mean = 100 * test.mean(axis=0)
    dip, peak = at[dd.dip_sparsity], at[dd.peak_sparsity]
    seeds = f"the mean of {dd.seeds} seeds" if dd.seeds > 1 else "one seed"

    def between(interval: phases.Interval) -> str:
        return f" (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f})" if dd.seeds > 1 else ""

    worse, better = (
        _verdict(difference, interval) for difference, interval in ((dd.dip, dd.dip_interval), (dd.gain, dd.gain_interval))
    )
    end = f", before it falls to {mean[-1]:.1f} % at {100 * sparsity[-1]:.3f} %" if mean[-1] < mean[peak] else ""
    return (
        f"In {seeds}, the dense net gets {100 * train[:, 0].mean():.1f} % of its noisy training labels right and "
        f"{mean[0]:.1f} % of the test images.\n"
        f"Pruning first {worse[0]} overfitting worse: at {100 * sparsity[dip]:.2f} % sparsity test accuracy is "
        f"{mean[dip]:.1f} %, {_points(-dd.dip)} the dense net{between(dd.dip_interval)}.\n"
        f"Then it {better[1]} it: at {100 * sparsity[peak]:.2f} % test accuracy is {mean[peak]:.1f} %, "
        f"{_points(dd.gain)} the dense net{between(dd.gain_interval)}{end}."
    )


def _verdict(difference: float, interval: phases.Interval) -> tuple[str, str]:
    """What to say of a difference: it may be either way if its interval, where it has one, does not exclude zero."""
    if interval.low <= 0 <= interval.high:
        return "may or may not make", "may or may not relieve"
    return ("makes", "relieves") if difference > 0 else ("does not make", "does not relieve")


def _points(difference: float) -> str:
    return f"{100 * abs(difference):.1f} points {'above' if difference > 0 else 'below'}"


def _whole(least: int) -> Callable[[str], int]:
    """An argument that is an integer of at least ``least``."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        return value

    return integer


if __name__ == "__main__":
    sys.exit(main())
