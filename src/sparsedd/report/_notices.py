"""Notices: what is missing in the levels of a family, and why."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sparsedd.report._family import Family
from sparsedd.report._seed import Seed
from sparsedd.report._summary import UNKNOWN

MEANS = "The means are of the levels that all seeds shown have."


class Notice(NamedTuple):
    """A sentence or two with a title."""

    title: str
    words: str

    def __str__(self) -> str:
        return f"{self.title}: {self.words}"


def list_notices(family: Family) -> Iterator[Notice]:
    """Yield what a reader of the means must know, as a page and a terminal say it."""
    sweep, short = family.sweep, [seed for seed in family.seeds if seed.is_short]
    if going := [seed for seed in short if not seed.ended]:
        yield Notice("Not finished", f"{_list_progress(going)}. {MEANS}")
    if ended := [seed for seed in short if seed.ended]:
        yield Notice("Ended early", f"{_list_progress(ended)}: the net whose masks it takes diverged there. {MEANS}")
    if isinstance(sweep, ValueError):
        yield Notice("Nothing to show", str(sweep))
    else:
        if sweep.diverged:
            shown = any(seed in sweep.seeds for seed, _ in sweep.diverged)
            rest = "What came before is shown." if shown else "The means are of the other seeds."
            yield Notice("Diverged", f"{sweep.note}. {rest}")
        if not sweep.has_phases:
            yield Notice("No phases", UNKNOWN[0].upper() + UNKNOWN[1:])
    if empty := family.find_empty_layers():
        layers = (
            f"{layer} from level {' or '.join(map(str, sorted(set(levels))))} on ({len(levels)} of {len(family.seeds)} seeds)"
            for layer, levels in empty.items()
        )
        same = "What a layer without weights gives is the same for every input, and so may be what the net gives."
        yield Notice("Layers without weights", f"{', '.join(layers)}. {same}")


def _list_progress(seeds: Iterable[Seed]) -> str:
    return ", ".join(f"seed {seed.number} has {len(seed.records)} of {seed.levels} levels" for seed in seeds)
