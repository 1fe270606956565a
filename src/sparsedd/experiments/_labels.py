"""Labels: what experiments are called where they stand together."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from sparsedd.experiments._own import Own
from sparsedd.noise import Asymmetric, Noise, Symmetric
from sparsedd.sweeps._retraining import METHODS, Retraining

if TYPE_CHECKING:
    from sparsedd.experiments._experiment import Experiment

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"}


def make_name(experiment: "Experiment") -> str:
    """Return the name by data set, model, noise, score and retraining method."""
    e, pruner = experiment, experiment.pruner
    method = _method_name(e.retraining)
    if e.tickets_of is not None:
        reinit = e.retraining == Retraining("reinit", "rewind")
        method = f"{'reinit' if reinit else method}-of-{_method_name(e.tickets_of)}"
    how = [
        *(["layer"] if pruner.scope == "layer" else []),
        *([f"f{100 * float(pruner.fraction):g}"] if float(pruner.fraction) != 0.2 else []),
        *(["oneshot"] if e.one_shot else []),
        *([e.precision] if e.precision != "float32" else []),
        *(["compiled"] if e.compiled else []),
    ]
    noise = "clean" if e.noise is None else _noise_name(e.noise)
    return "-".join(map(str, (e.dataset, e.model, noise, pruner.score, *how, method)))


def _method_name(retraining: Retraining) -> str:
    names = {method: name for name, method in METHODS.items()}
    return names.get(retraining, f"{retraining.weights}-{retraining.schedule}")


def _noise_name(noise: Noise) -> str:
    if isinstance(noise, Own):
        return str(noise) if (share := _read_rate(noise)) is None else f"given{100 * share:.4g}"
    rate = f"{100 * float(noise.rate):g}"  # type: ignore[attr-defined]
    kind = f"-{noise.draw}" if isinstance(noise, Symmetric) and noise.draw != "uniform" else ""
    if isinstance(noise, Asymmetric) and noise.flips not in ("mnist", "cifar10", "cifar100"):
        kind = f"-{noise.flips}" if isinstance(noise.flips, str) else "-other"
    return f"{type(noise).__name__.lower()}{rate}{kind}"


def _read_rate(noise: Own) -> float | None:
    """Return the rate of labels that were given together with clean ones."""
    return json.loads(noise.arguments).get("rate") if noise.name == "sparsedd.noise:Given" else None


def make_title(experiment: "Experiment") -> str:
    """Return data set and noise, to be read."""
    data = name_dataset(experiment)
    if isinstance(experiment.noise, Own):
        rate = _read_rate(experiment.noise)
        return f"{data}, {experiment.noise}" if rate is None else f"{data}, given labels, ε = {100 * rate:.4g} %"
    return f"{data}, ε = {100 * getattr(experiment.noise, 'rate', 0):g} %"


def name_dataset(experiment: "Experiment") -> str:
    """Return the name of the data set, to be read."""
    return NAMES.get(str(experiment.dataset), str(experiment.dataset))


def make_labels(experiments: Iterable["Experiment"]) -> dict["Experiment", str]:
    """Return the name of each, and what it differs in from others of its name and scale, but for the seed: ``width=0.5``."""
    found = _differences(experiments, lambda e: (e.name, e.scale))
    return {e: " ".join([e.name, *(f"{field}={value}" for field, value in own.items())]) for e, own in found.items()}


def make_headings(experiments: Iterable["Experiment"]) -> dict["Experiment", str]:
    """Return data set and noise of each, and what it differs in from others of which these are the same: ``scale = smoke``."""
    every = list(experiments)
    scales = {title: {e.scale for e in every if make_title(e) == title} for title in map(make_title, every)}
    found = _differences(every, lambda e: (make_title(e), e.scale))
    said = {e: ({"scale": e.scale} if len(scales[make_title(e)]) > 1 else {}) | own for e, own in found.items()}
    return {e: ", ".join([make_title(e), *(f"{field} = {value}" for field, value in own.items())]) for e, own in said.items()}


def _differences(
    experiments: Iterable["Experiment"], kind: Callable[["Experiment"], object]
) -> dict["Experiment", dict[str, str]]:
    """Return for each experiment the fields in which those of its kind are not all the same."""
    every = {e: dict(_parts(e)) for e in experiments}
    alike: dict[object, list[dict[str, str]]] = {}
    for e, parts in every.items():
        alike.setdefault(kind(e), []).append(parts)
    return {
        e: {name: value for name, value in parts.items() if any(other.get(name) != value for other in alike[kind(e)])}
        for e, parts in every.items()
    }


def _parts(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the fields of an experiment but for its seed, those of its values among them, as they are written."""
    for f in fields(value):
        part, name = getattr(value, f.name), f"{prefix}{f.name}"
        if is_dataclass(part):
            yield from _parts(part, f"{name}.")
        elif name != "seed":
            yield name, part if isinstance(part, str) else repr(part)
