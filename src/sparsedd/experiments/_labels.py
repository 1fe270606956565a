"""Labels: what experiments are called where they stand together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._own import Own

NAMES = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "tiny_imagenet": "Tiny ImageNet"}


def make_title(experiment: Experiment) -> str:
    """Return data set and noise, to be read."""
    data = name_dataset(experiment)
    if isinstance(experiment.noise, Own):
        return f"{data}, {experiment.noise}"
    return f"{data}, ε = {100 * getattr(experiment.noise, 'rate', 0):g} %"


def name_dataset(experiment: Experiment) -> str:
    """Return the name of the data set, to be read."""
    return NAMES.get(str(experiment.dataset), str(experiment.dataset))


def make_labels(experiments: Iterable[Experiment]) -> dict[Experiment, str]:
    """Return the name of each, and what it differs in from others of its name and scale, but for the seed: ``width=0.5``."""
    found = _differences(experiments, lambda e: (e.name, e.scale))
    return {e: " ".join([e.name, *(f"{field}={value}" for field, value in own.items())]) for e, own in found.items()}


def make_headings(experiments: Iterable[Experiment]) -> dict[Experiment, str]:
    """Return data set and noise of each, and what it differs in from others of which these are the same: ``scale = smoke``."""
    every = list(experiments)
    scales = {title: {e.scale for e in every if make_title(e) == title} for title in map(make_title, every)}
    found = _differences(every, lambda e: (make_title(e), e.scale))
    said = {e: ({"scale": e.scale} if len(scales[make_title(e)]) > 1 else {}) | own for e, own in found.items()}
    return {e: ", ".join([make_title(e), *(f"{field} = {value}" for field, value in own.items())]) for e, own in said.items()}


def _differences(experiments: Iterable[Experiment], kind: Callable[[Experiment], object]) -> dict[Experiment, dict[str, str]]:
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
