"""Commands: what to type to make runs, and to go on with them."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from sparsedd._parameters import abridge
from sparsedd.experiments._experiment import Experiment, family_of, owns
from sparsedd.experiments._panel import name_flips
from sparsedd.experiments._paper import PRESETS
from sparsedd.noise import Asymmetric, Noise, Pairflip, Symmetric
from sparsedd.sweeps._retraining import METHODS


def commands(experiment: Experiment, seeds: Iterable[int], out: Path) -> list[str]:
    """``sparsedd demo`` or ``sparsedd run`` for each unbroken stretch of seeds; a script where no options lead there."""
    if own := owns(experiment):
        return [
            f"# It has {abridge(map(repr, own))} of your own: run your script again, or sparsedd run FILE.py:NAME "
            f"--out {shlex.quote(str(out))}."
        ]
    options = _options(replace(experiment, seed=0))
    if options is None:
        return [_script(experiment, out)]
    typed = []
    for stretch in _stretches(sorted(seeds)):
        first = ["--seed", str(stretch[0])] if stretch[0] else []
        typed.append(shlex.join(["sparsedd", *options, "--seeds", str(len(stretch)), *first, "--out", str(out)]))
    return typed


def _options(experiment: Experiment) -> list[str] | None:
    """The command that runs an experiment, without seeds and folder; None where there is none."""
    for name, preset in PRESETS.items():
        try:
            if _like(preset, experiment).scaled(experiment.scale) != experiment:
                continue
            noise = _noise(experiment.noise, preset)
        except ValueError:  # that preset can't be scaled so, or its labels can't be flipped so
            continue
        method = experiment.tickets_of or experiment.retraining
        changed = {
            "--noise": noise if experiment.noise != preset.noise else None,
            "--score": str(experiment.pruner.score) if experiment.pruner.score != preset.pruner.score else None,
            "--scope": experiment.pruner.scope if experiment.pruner.scope != preset.pruner.scope else None,
            "--retraining": next(k for k, v in METHODS.items() if v == method) if method != preset.retraining else None,
            "--precision": experiment.precision if experiment.precision != preset.precision else None,
        }
        words = [word for option, value in changed.items() if value for word in (option, value)]
        words += ["--one-shot"] * experiment.one_shot + ["--reinit"] * (experiment.tickets_of is not None)
        plain = not words and (name, experiment.scale) == ("lenet-digits", "small")
        return ["demo"] if plain else ["run", name, "--scale", experiment.scale, *words]
    return None


def _like(preset: Experiment, experiment: Experiment) -> Experiment:
    """The preset with all that options can change as it is in an experiment."""
    method = experiment.tickets_of or experiment.retraining
    if method not in METHODS.values():
        raise ValueError(f"{method} has no name.")
    pruner = replace(preset.pruner, score=experiment.pruner.score, scope=experiment.pruner.scope)
    same = {name: getattr(experiment, name) for name in ("noise", "one_shot", "precision")}
    changed = replace(preset, pruner=pruner, retraining=method, **same)
    return changed.reinitialized() if experiment.tickets_of is not None else changed


def _noise(noise: Noise | None, preset: Experiment) -> str:
    """The value of ``--noise``."""
    if noise is None:
        return "none"
    if isinstance(noise, Symmetric | Pairflip) and noise == type(noise)(float(noise.rate)):
        return f"{type(noise).__name__.lower()}:{float(noise.rate)!r}"
    if isinstance(noise, Asymmetric) and noise.flips == name_flips(preset.dataset):
        return f"asymmetric:{float(noise.rate)!r}"
    raise ValueError(f"{noise} is not one of the command's.")


def _stretches(seeds: list[int]) -> Iterator[list[int]]:
    stretch: list[int] = []
    for seed in seeds:
        if stretch and seed != stretch[-1] + 1:
            yield stretch
            stretch = []
        stretch.append(seed)
    yield stretch


def _script(experiment: Experiment, out: Path) -> str:
    runs, family = out / "runs", family_of(experiment)
    return (
        "from pathlib import Path\n"
        "from sparsedd.experiments import Store, run\n\n"
        f"runs = Path({str(runs)!r})\n"
        f"for config in sorted(runs.glob({family + '/*/config.json'!r})):\n"
        "    for level in run(Store.open(config.parent).experiment, runs):\n"
        "        print(level.level, level.test_accuracy)"
    )
