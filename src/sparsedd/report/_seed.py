"""Seed: one seed of an experiment, or of a sweep of one's own, as its folder has it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import Any

from sparsedd import _files
from sparsedd.experiments import Experiment, Store
from sparsedd.experiments._experiment import family_of
from sparsedd.experiments._verify import folders, is_own
from sparsedd.sweeps._config import FREE, open_store, read_config
from sparsedd.sweeps._record import Record
from sparsedd.sweeps._store import Store as Folder

NUMBER = re.compile(r"seed-(\d{1,18})")


@dataclass(frozen=True, eq=False)
class Seed:
    """One seed: how many levels it is to have, and the records of those that it has.

    ``key`` tells it from all others, ``tickets`` is that of the sweep whose masks it takes, ``kind`` is what the seeds of a
    family share, and ``facts`` says it in words. ``ended`` is whether there is no more to do, as that other sweep diverged.
    """

    path: Path
    store: Folder
    number: int
    levels: int
    records: Sequence[Record]
    key: str
    tickets: str | None
    kind: str
    facts: Mapping[str, str]
    experiment: Experiment | None = None
    ended: bool = False

    @property
    def diverged(self) -> bool:
        """Whether its training has diverged."""
        return bool(self.records and self.records[-1].diverged)

    @property
    def is_short(self) -> bool:
        """Whether levels are missing, though it has not diverged."""
        return len(self.records) < self.levels and not self.diverged

    def find_empty_layers(self) -> dict[str, int]:
        """Return the level from which on a layer has no weights, for each that has lost them all."""
        first: dict[str, int] = {}
        with suppress(ValueError):  # a damaged mask, which verify names
            for record in reversed(self.records):  # masks are nested: most sweeps have no such layer at their end
                empty = [name for name, s in self.store.mask(record.level).by_layer().items() if s == 1]
                first |= dict.fromkeys(empty, record.level)
                if not empty:
                    break
        return first


def read_seeds(out: Path) -> tuple[list[Seed], list[str]]:
    """Return the seeds anywhere in a folder, and why others can't be read."""
    seeds: dict[object, Seed] = {}
    unreadable = []
    for path in folders(out):
        try:
            seed = _read_own(path) if is_own(path) else _read_experiment(path)
        except (ValueError, OSError) as error:
            unreadable.append(str(error))
            continue
        place = seed.key if seed.experiment else path  # copies of an experiment hold the same: the longest counts
        if place not in seeds or len(seed.records) > len(seeds[place].records):
            seeds[place] = seed
    by_key = {seed.key: seed for seed in seeds.values()}
    return [_join(seed, by_key.get(seed.tickets or "")) for seed in seeds.values()], unreadable


def _read_experiment(path: Path) -> Seed:
    store = Store.open(path)
    e = store.experiment
    tickets = replace(e, retraining=e.tickets_of, tickets_of=None).folder if e.tickets_of else None
    values = {f.name: getattr(e, f.name) for f in fields(e) if f.name not in ("seed", "levels")}
    facts = {name: value if isinstance(value, str) else repr(value) for name, value in values.items()}
    return Seed(path, store, e.seed, e.levels, store.levels(), e.folder, tickets, family_of(e), facts, e)


def _read_own(path: Path) -> Seed:
    """Read a sweep of one's own. Its number is that in the name of its folder: a script may have passed no seed."""
    store, config = open_store(path), read_config(path / "config.json")
    records, named = store.levels(), NUMBER.fullmatch(path.name)
    with _files.blame(path / "config.json", "the configuration of a sweep"):
        number = int(named[1]) if named else config["seed"]
        kind = json.dumps({k: v for k, v in config.items() if k not in ("key", "seed", "tickets", *FREE)}, sort_keys=True)
        facts = dict(_list_facts("config", _shorten(config)))
        return Seed(path, store, number, config["levels"], records, config["key"], config["tickets"], kind, facts)


def _join(seed: Seed, tickets: Seed | None) -> Seed:
    """Return a seed with what follows from the one whose masks it takes."""
    if tickets is None:
        return seed
    kind = seed.kind if seed.experiment else f"{seed.kind} {tickets.kind}"
    return replace(seed, kind=kind, ended=tickets.diverged and len(seed.records) == len(tickets.records))


def _shorten(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sweep is but for its seed, in words that can stand in a heading."""
    sizes, names = [prod(shape) for shape, _ in config["model"].values()], config["names"]
    changed = {
        "model": f"{len(sizes)} tensors of {sum(sizes):,} numbers",
        "names": ", ".join(names) if len(names) <= 6 else f"{len(names)} parameters",
        "tickets": "those of another sweep" if config["tickets"] else None,
    }
    return {key: changed.get(key, value) for key, value in config.items() if key not in ("sweep", "key", "seed", *FREE)}


def _list_facts(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the values in JSON, each with the path to it."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _list_facts(f"{name}.{key}" if name != "config" else key, part)
    else:
        yield name, str(value)
