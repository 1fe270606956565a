"""Labels: what experiments are called where they stand together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from sparsedd.experiments._experiment import Experiment
from sparsedd.experiments._panel import titled


def labels(experiments: Iterable[Experiment]) -> dict[Experiment, str]:
    """The name of each, and what it differs in from others of its name and scale, but for the seed: ``width=0.5``."""
    found = _differences(experiments, lambda e: (e.name, e.scale))
    return {e: " ".join([e.name, *(f"{field}={value}" for field, value in own.items())]) for e, own in found.items()}


def headings(experiments: Iterable[Experiment]) -> dict[Experiment, str]:
    """Data set and noise of each, and what it differs in from others of which that is the same: ``scale = smoke``."""
    every = list(experiments)
    scales = {title: {e.scale for e in every if titled(e) == title} for title in map(titled, every)}
    found = _differences(every, lambda e: (titled(e), e.scale))
    said = {e: ({"scale": e.scale} if len(scales[titled(e)]) > 1 else {}) | own for e, own in found.items()}
    return {e: ", ".join([titled(e), *(f"{field} = {value}" for field, value in own.items())]) for e, own in said.items()}


def _differences(experiments: Iterable[Experiment], kind: Callable[[Experiment], object]) -> dict[Experiment, dict[str, str]]:
    """For each experiment, its fields in which those of one kind are not all the same."""
    every = {e: dict(_parts(e)) for e in experiments}
    alike: dict[object, list[dict[str, str]]] = {}
    for e, parts in every.items():
        alike.setdefault(kind(e), []).append(parts)
    return {
        e: {name: value for name, value in parts.items() if any(other.get(name) != value for other in alike[kind(e)])}
        for e, parts in every.items()
    }


def _parts(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The fields of an experiment but for its seed, those of its values among them, as they are written."""
    for f in fields(value):
        part, name = getattr(value, f.name), f"{prefix}{f.name}"
        if is_dataclass(part):
            yield from _parts(part, f"{name}.")
        elif name != "seed":
            yield name, part if isinstance(part, str) else repr(part)
