"""The command ``sparsedd run``, which ``sparsedd demo`` is a case of."""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from sparsedd import experiments, noise
from sparsedd.cli._options import SCALE, Commands, add_run_options, check_preset, count_processes, drawable, load_preset, new
from sparsedd.cli._plan import print_plan, with_tickets
from sparsedd.cli._progress import Progress
from sparsedd.experiments import METHODS, PRESETS, Experiment, Store
from sparsedd.experiments._experiment import SCALES, family_of
from sparsedd.experiments._figures._panel import name_flips
from sparsedd.experiments._run_fleet import work_fleet
from sparsedd.report import combine, describe_last_level, read_experiments, write_report
from sparsedd.sweeps._workers import spread, watch, workers

EXAMPLES = """examples:
  sparsedd run lenet-digits --scale smoke --out try           seconds: it shows that everything is there
  sparsedd run lenet-digits --noise none --out clean          the demo's net on right labels
  sparsedd run lenet-digits --score random --out chance       prune at random
  sparsedd run lenet-mnist --seeds 3 --out mnist --dry-run    what would run, and what is there
  sparsedd run lenet-mnist --seeds 3 --out mnist              the paper's LeNet, in reach of two cores
  sparsedd run lenet-mnist --retraining finetuning --out mnist
  sparsedd run resnet18-cifar10 --scale paper --device cuda --out cifar10
  sparsedd run mine.py:experiment --seeds 3 --out mine        an Experiment of your own, in a file or an importable module

Ctrl-C stops it. The same command goes on from there.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = new(commands, "run", "a row of the paper's table of experiments, as it is or changed", EXAMPLES)
    parser.set_defaults(command=command)
    own = "or FILE.py:NAME or MODULE:NAME, an Experiment of your own"
    parser.add_argument("preset", type=check_preset, metavar="PRESET", help=f"one of {', '.join(PRESETS)}; {own}")
    parser.add_argument("--scale", choices=SCALES, help=SCALE)
    parser.add_argument(
        "--noise",
        type=_parse_noise,
        metavar="KIND:RATE",
        help="symmetric, asymmetric or pairflip, such as pairflip:0.2; or none",
    )
    parser.add_argument("--score", choices=("magnitude", "gradient", "random"), help="what is pruned first")
    parser.add_argument("--scope", choices=("global", "layer"), help="where the lowest scores are looked for")
    parser.add_argument("--retraining", choices=tuple(METHODS), help="what a level starts from")
    parser.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), help="of products (default: float32)")
    parser.add_argument("--one-shot", action="store_true", help="prune the dense net to each level at once")
    parser.add_argument("--reinit", action="store_true", help="the same masks with new initial weights")
    add_run_options(parser, seeds=1, out=None)


def command(options: argparse.Namespace) -> None:
    """Run a preset with its changes, a line for each level that all seeds have finished."""
    drawable()
    preset = load_preset(options.preset)
    scale = options.scale or ("small" if options.preset in PRESETS else preset.scale)
    preset = _apply_options(preset, options).scaled(scale)
    first = preset.seed if options.seed is None else options.seed
    wanted = [replace(preset, seed=first + k) for k in range(options.seeds)]
    runs = options.out / "runs"
    count = min(len(wanted), count_processes(options))
    if options.dry_run:
        needed = [part for experiment in wanted for part in with_tickets(experiment)]
        print_plan(options.preset, needed, runs, options.out)
        return
    began, done = time.perf_counter(), 0
    size = f"{preset.levels} levels × {len(wanted)} seed{'s' * (len(wanted) > 1)}"
    print(f"{preset.name}, {preset.scale} scale: {size}, in {options.out}", flush=True)
    task: Callable[..., Any] = work_fleet if options.fleet else experiments.work
    tasks = spread(partial(task, wanted[k::count], runs, device=options.device) for k in range(count))
    levels = {experiment: Store(runs, experiment).levels() for experiment in wanted}
    there, total = sum(map(len, levels.values())), len(wanted) * preset.levels
    with workers(count) as pool, Progress(options.preset, "levels", total, there) as progress:
        for _ in watch(pool, tasks):
            levels = {experiment: Store(runs, experiment).levels() for experiment in wanted}
            complete = min(map(len, levels.values()))
            for level in range(done + 1, complete + 1):
                experiments.write_levels(options.out / "levels.csv", read_experiments(options.out))
                progress.say(describe_last_level(combine({experiment: found[:level] for experiment, found in levels.items()})))
            progress.update(sum(map(len, levels.values())))
            done = complete
    write_report(options.out, family_of(preset))
    print(f"{time.perf_counter() - began:.0f} s")


def _apply_options(preset: Experiment, options: argparse.Namespace) -> Experiment:
    """Return the preset with what the options change of it."""
    if options.noise is not None:
        kind, rate = options.noise
        preset = replace(preset, noise=_make_noise(kind, rate, preset.dataset))
    changed = {name: getattr(options, name) for name in ("score", "scope") if getattr(options, name)}
    preset = replace(preset, pruner=replace(preset.pruner, **changed), one_shot=options.one_shot or preset.one_shot)
    if options.precision:
        preset = replace(preset, precision=options.precision)
    if options.retraining:
        preset = replace(preset, retraining=METHODS[options.retraining])
    return preset.reinitialized() if options.reinit else preset


def _make_noise(kind: str, rate: float, dataset: Any) -> noise.Noise | None:
    if kind == "none":
        return None
    if kind in ("symmetric", "pairflip"):
        return noise.Symmetric(rate) if kind == "symmetric" else noise.Pairflip(rate)
    return noise.Asymmetric(rate, name_flips(dataset))


def _parse_noise(text: str) -> tuple[str, float]:
    """Split an argument such as ``symmetric:0.2``, or ``none``, into kind and rate."""
    kind, _, rate = text.partition(":")
    if kind not in ("symmetric", "asymmetric", "pairflip", "none") or (kind == "none") != (not rate):
        raise argparse.ArgumentTypeError(
            f"must be none, or symmetric, asymmetric or pairflip with a rate, such as pairflip:0.2, got {text!r}"
        )
    try:
        return kind, float(rate or 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"the rate must be a number, got {text!r}") from None
