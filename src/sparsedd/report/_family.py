"""Family: the seeds of one kind of sweep in a folder, or rows of a table that stands alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from sparsedd.experiments import Tables
from sparsedd.experiments._figures._measures import Levels
from sparsedd.experiments._labels import make_headings, make_labels
from sparsedd.experiments._tables import Row, level_rows
from sparsedd.report._seed import NUMBER, Seed, read_seeds


@dataclass(frozen=True)
class Family:
    """The seeds of one kind of sweep; none where there is a table alone.

    ``name`` is that of its folder, which no other has; ``label`` and ``heading`` are what tables and pages call it, which tells
    it from the others that are there. ``rows`` are those of ``levels.csv``.
    """

    name: str
    label: str
    heading: str
    scale: str
    rows: Sequence[Row]
    seeds: Sequence[Seed] = ()
    facts: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def sweep(self) -> Levels | ValueError:
        """Its measures as arrays, or why there are none."""
        try:
            sweep = Levels.of(self.rows, self.label)
            _ = sweep.has_phases and sweep.phases
        except ValueError as error:
            return error
        return sweep

    def find_empty_layers(self) -> dict[str, list[int]]:
        """Return the levels from which on a layer has no weights, of each seed in which it has lost them all."""
        found: dict[str, list[int]] = {}
        for seed in self.seeds:
            for layer, level in seed.find_empty_layers().items():
                found.setdefault(layer, []).append(level)
        return found


def read_families(out: Path) -> tuple[list[Family], list[str]]:
    """Return the families that have a finished level, and why other sweeps can't be read."""
    seeds, unreadable = read_seeds(out)
    kinds = _group(seeds, lambda seed: seed.kind, lambda seed: seed.path.parent, lambda seed: seed.path)
    groups = [group for group in kinds if any(seed.records for seed in group)]
    experiments = [group[0].experiment for group in groups if group[0].experiment]
    called, headed = make_labels(experiments), make_headings(experiments)
    others = [group[0].facts for group in groups if not group[0].experiment]
    families: list[Family] = []
    for group in groups:
        facts, e, scale = group[0].facts, group[0].experiment, ""
        label = name = _name(group, out, [family.name for family in families])
        differing = [f"{key} = {value}" for key, value in facts.items() if any(o.get(key) != value for o in others)]
        heading = ", ".join([name, *differing])
        if e:
            label, heading, scale = called[e], headed[e], e.scale
        heads = [{"experiment": label, "scale": scale, "seed": seed.number} for seed in group]
        rows = [row for s, head in zip(group, heads, strict=True) for row in level_rows(head, s.records, own=e is None)]
        counts = {"levels": str(group[0].levels), "seeds": ", ".join(str(seed.number) for seed in group)}
        families.append(Family(name, label, heading, scale, rows, group, {**facts, **counts}))
    return families, unreadable


def read_table(out: Path) -> list[Family]:
    """Return the families in a ``levels.csv`` that stands alone."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in Tables.read(out).levels if (out / "levels.csv").exists() else ():
        kinds.setdefault((row["experiment"], row["scale"]), []).append(row)
    families = []
    for (name, scale), rows in sorted(kinds.items()):
        several = len([other for other, _ in kinds if other == name]) > 1
        own, heading = (f"{name}-{scale}", f"{name}, {scale} scale") if several else (name, name)
        families.append(Family(own, name, heading, scale, rows))
    return families


def _group(seeds: Sequence[Seed], key: Callable[[Seed], object], *finer: Callable[[Seed], object]) -> Iterator[list[Seed]]:
    """Yield the seeds that have a key in common; by finer keys, those of which a number comes twice."""
    for kind in dict.fromkeys(map(key, seeds)):
        alike = sorted((seed for seed in seeds if key(seed) == kind), key=lambda seed: seed.number)
        if finer and len({seed.number for seed in alike}) < len(alike):
            yield from _group(alike, *finer)
        else:
            yield alike


def _name(group: Sequence[Seed], out: Path, taken: Sequence[str]) -> str:
    """Return the folder of a family in the folder of the report: that of its seeds, if they have one, or of the first."""
    first = group[0].path
    together = {seed.path.parent for seed in group} == {first.parent} and first != out
    places = [first.parent] if together and (len(group) > 1 or NUMBER.fullmatch(first.name)) else []
    for place in (*places, first):
        name = place.relative_to(out).as_posix().removeprefix("runs/") if place != out else out.resolve().name
        if name not in taken:
            return name
    return first.as_posix()
