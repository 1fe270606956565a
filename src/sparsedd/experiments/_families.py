"""Families: the sweeps in a folder, those of one kind together: experiments, sweeps of one's own, rows of a bare table."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from sparsedd.experiments._experiment import Experiment, family_of
from sparsedd.experiments._labels import headings, labels
from sparsedd.experiments._store import Store
from sparsedd.experiments._sweep import Sweep
from sparsedd.experiments._tables import Row, Tables, level_rows
from sparsedd.experiments._verify import folders, is_own
from sparsedd.sweeps._config import FREE, open_store, read_config
from sparsedd.sweeps._record import Record
from sparsedd.sweeps._store import Store as Folder

Results = Mapping[Experiment, Sequence[Record]]
SEED = re.compile(r"seed-(\d{1,18})")


@dataclass(frozen=True)
class Member:
    """One seed of a family: the levels that it is to have, what it has finished, and where.

    ``ended`` says that it ends early because the net whose masks it takes has diverged.
    """

    seed: int
    levels: int
    records: Sequence[Record]
    store: Folder
    ended: bool = False


@dataclass(frozen=True)
class Family:
    """The seeds of one kind of sweep.

    Attributes
    ----------
    name
        That of its folder, which no other has.
    label, heading
        What tables and pages call it, which tells it from the others that are there.
    scale
        Of an experiment, else empty.
    rows
        Of ``levels.csv``.
    members
        Its seeds; none where there is a table alone.
    facts
        What it is: names and values.
    experiment
        The first seed's, where it is one.
    """

    name: str
    label: str
    heading: str
    scale: str
    rows: Sequence[Row]
    members: Sequence[Member] = ()
    facts: Sequence[tuple[str, str]] = ()
    experiment: Experiment | None = None

    @cached_property
    def sweep(self) -> Sweep | ValueError:
        """Its sweep, or why there is none."""
        try:
            sweep = Sweep.of(self.rows, self.label)
            _ = sweep.has_phases and sweep.phases
        except ValueError as error:
            return error
        return sweep

    @cached_property
    def emptied(self) -> dict[str, list[int]]:
        """The levels from which on a layer has no weights, one for each seed in which it has lost them all."""
        found: dict[str, list[int]] = {}
        for member in self.members:
            first: dict[str, int] = {}
            with suppress(ValueError):  # a damaged mask, which verify names
                for level in reversed(member.records):  # masks are nested: most sweeps have no such layer at their end
                    empty = [name for name, s in member.store.mask(level.level).by_layer().items() if s == 1]
                    first |= dict.fromkeys(empty, level.level)
                    if not empty:
                        break
            for name, number in first.items():
                found.setdefault(name, []).append(number)
        return found


# ---------------------------------------------------------------- experiments


def begun_in(out: Path) -> dict[Experiment, list[Record]]:
    """Return all runs of experiments in the folder, by family and seed."""
    paths = [path.parent for path in sorted(out.glob("runs/*/*/config.json")) if not is_own(path.parent)]
    results = {store.experiment: store.levels() for store in map(Store.open, paths)}
    place = sorted(results, key=lambda experiment: (family_of(experiment), experiment.seed))
    return {experiment: results[experiment] for experiment in place}


def families_of(out: Path, results: Results) -> list[Family]:
    """Return the families of experiments that have a finished level, with all their seeds that have begun."""
    begun, called, headed = begun_in(out), labels(results), headings(results)
    found = []
    for name in sorted({family_of(e) for e in results}):
        own = [e for e in results if family_of(e) == name]
        members = {e: records for e, records in begun.items() if family_of(e) == name}
        head = {"experiment": called[own[0]], "scale": own[0].scale}
        rows = [row for e in own for row in level_rows(head | {"seed": e.seed}, results[e])]
        seeds = [
            Member(e.seed, e.levels, records, Store(out / "runs", e), _has_ended(e, begun)) for e, records in members.items()
        ]
        facts = list(_fields(own[0], [member.seed for member in seeds]))
        found.append(Family(name, called[own[0]], headed[own[0]], own[0].scale, rows, seeds, facts, own[0]))
    return found


def _fields(experiment: Experiment, seeds: Sequence[int]) -> Iterator[tuple[str, str]]:
    for f in fields(Experiment):
        value = getattr(experiment, f.name)
        if f.name == "seed":
            yield "seeds", ", ".join(map(str, seeds))
        else:
            yield f.name, value if isinstance(value, str) else repr(value)


def _has_ended(experiment: Experiment, begun: Results) -> bool:
    """Return whether it has come as far as it can, because the net whose masks it takes has diverged."""
    if experiment.tickets_of is None:
        return False
    tickets = begun.get(replace(experiment, retraining=experiment.tickets_of, tickets_of=None), [])
    return bool(tickets and tickets[-1].diverged and len(begun[experiment]) == len(tickets))


# ---------------------------------------------------------------- sweeps of one's own


@dataclass(frozen=True)
class _Found:
    """A sweep of one's own: its folder, its configuration, and what that is but for the seed."""

    path: Path
    config: Mapping[str, Any]
    kind: str
    member: Member


def own_families(out: Path) -> list[Family]:
    """Return the families of sweeps of one's own, anywhere in the folder, that have a finished level."""
    stores = {path: open_store(path) for path in folders(out) if is_own(path)}
    configs = {path: read_config(path / "config.json") for path in stores}
    kinds = {config["key"]: _kind(config) for config in configs.values()}
    records = {config["key"]: stores[path].levels() for path, config in configs.items()}
    found = []
    for path, config in configs.items():
        tickets, levels = records.get(config["tickets"], []), stores[path].levels()
        ended = bool(tickets and tickets[-1].diverged and len(levels) == len(tickets))
        kind = f"{_kind(config)} {kinds.get(config['tickets'], config['tickets'])}"
        found.append(_Found(path, config, kind, Member(config["seed"], config["levels"], levels, stores[path], ended)))
    groups = [group for group in _grouped(found) if any(one.member.records for one in group)]
    facts = [dict(_facts(group[0].config)) for group in groups]
    families: list[Family] = []
    for group, own in zip(groups, facts, strict=True):
        name = _name(group, out, {family.name for family in families})
        differing = [f"{key} = {value}" for key, value in own.items() if any(other.get(key) != value for other in facts)]
        members = sorted((one.member for one in group), key=lambda member: member.seed)
        rows = [
            row for m in members for row in level_rows({"experiment": name, "scale": "", "seed": m.seed}, m.records, own=True)
        ]
        pairs = [*own.items(), ("levels", str(members[0].levels)), ("seeds", ", ".join(str(m.seed) for m in members))]
        families.append(Family(name, name, ", ".join([name, *differing]), "", rows, members, pairs))
    return families


def _kind(config: Mapping[str, Any]) -> str:
    """Return what a sweep is but for its seed and, which holds the seed of another one, whose masks it takes."""
    return json.dumps({k: v for k, v in config.items() if k not in ("key", "seed", "tickets", *FREE)}, sort_keys=True)


def _grouped(found: Sequence[_Found]) -> Iterator[list[_Found]]:
    """Yield the sweeps that differ in their seeds alone; without seeds of their own, the folders' names tell them."""
    for kind in dict.fromkeys(one.kind for one in found):
        alike = [one for one in found if one.kind == kind]
        if _are_told_apart(alike):
            yield alike
            continue
        for parent in dict.fromkeys(one.path.parent for one in alike):
            beside = [one for one in alike if one.path.parent == parent]
            named = [(one, SEED.fullmatch(one.path.name)) for one in beside]
            if _are_told_apart(beside):
                yield beside
            elif all(match for _, match in named):
                yield [replace(one, member=replace(one.member, seed=int(match[1]))) for one, match in named if match]
            else:
                yield from ([one] for one in beside)


def _are_told_apart(found: Sequence[_Found]) -> bool:
    return len({one.member.seed for one in found}) == len(found)


def _name(group: Sequence[_Found], out: Path, taken: Iterable[str]) -> str:
    """Return the folder of a family in the folder of the report: that of its seeds, if they have one, or of the first."""
    first = group[0].path
    together = {one.path.parent for one in group} == {first.parent} and first != out
    places = [first.parent] if together and (len(group) > 1 or SEED.fullmatch(first.name)) else []
    for place in (*places, first):
        name = place.relative_to(out).as_posix() if place != out else out.resolve().name
        if name not in taken:
            return name
    return first.as_posix()


def _facts(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a sweep is, in words that can stand in a heading."""
    for key, value in config.items():
        if key == "model":
            count = sum(prod(shape) for shape, _ in value.values())
            yield key, f"{len(value)} tensors of {count:,} numbers"
        elif key == "names":
            yield "prunable", ", ".join(value) if len(value) <= 6 else f"{len(value)} parameters"
        elif key == "tickets":
            yield key, "None" if value is None else "those of another sweep"
        elif key not in ("sweep", "key", "seed", *FREE):
            yield from _leaves(key, value)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}" if name != "config" else key, part)
    else:
        yield name, value if isinstance(value, str) else str(value)


# ---------------------------------------------------------------- tables


def table_families(out: Path) -> list[Family]:
    """Return the families in a ``levels.csv`` that stands alone."""
    if not (out / "levels.csv").exists():
        return []
    table = Tables.read(out).levels
    scales = {name: {row["scale"] for row in table if row["experiment"] == name} for name in {r["experiment"] for r in table}}
    found = []
    for name, scale in sorted({(row["experiment"], row["scale"]) for row in table}):
        rows = [row for row in table if (row["experiment"], row["scale"]) == (name, scale)]
        several = len(scales[name]) > 1
        found.append(
            Family(f"{name}-{scale}" if several else name, name, f"{name}, {scale} scale" if several else name, scale, rows)
        )
    return found
